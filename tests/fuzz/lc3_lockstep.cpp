// Programs, registers, input and budgets: compiled code leaves the machine that the careful interpreter leaves. A
// difference is reported with the instruction where they part and the smallest program that shows it.
#include "lc3/lockstep/bytes.hpp"
#include "lc3/lockstep/lockstep.hpp"
#include "lc3/lockstep/minimise.hpp"
#include "require.hpp"

#include <cstdint>
#include <string>
#include <vector>

using namespace warmfork;
using namespace warmfork::lc3;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Lockstep lockstep = [] {
    auto engines = make_engines(std::vector<std::string>{"careful", "xbyak"});
    WARMFORK_REQUIRE(engines);
    return Lockstep(*std::move(engines));
  }();
  const LockstepCase one = case_from_bytes({data, size});
  const bool equal = !lockstep.differs(one);
  if (!equal) {
    const LockstepOutcome outcome = lockstep.run(one);
    const LockstepCase small = minimise(one, [&](const LockstepCase& c) { return lockstep.differs(c); }, 5000);
    if (outcome.difference) std::fputs(outcome.difference->report.c_str(), stderr);
    std::fputs(to_source(small).c_str(), stderr);
  }
  WARMFORK_REQUIRE(equal);
  return 0;
}
