#include "lc3/jit/optimiser.hpp"

#include "lc3/jit/code_cache.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>

namespace warmfork::lc3::jit {
namespace {

// In a process of its own, as a user who may have no more threads.
TEST(Optimiser, WithoutAThreadWhatIsThereStays) {
  const auto without_threads = [] {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_NPROC, &none) != 0) std::_Exit(1);
    if (::geteuid() == 0 && ::setuid(65534) != 0) std::_Exit(2);  // root has no limit
    CodeCache cache({});
    {
      Optimiser optimiser(cache, [] { return Result<Optimiser::Compile>{fail(ErrorKind::kUnsupported, "none")}; }, {});
      optimiser.notice({});
      optimiser.drain();
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(without_threads(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace warmfork::lc3::jit
