// What every test that needs a KVM starts from. The same binary runs on the build machine's KVM and inside an emulated
// machine with another one (tests/backends): a test may ask how much to do, never where it is.
#pragma once

#include "base/unique_fd.hpp"
#include "scale.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

namespace warmfork::test {

/// Skips the test where /dev/kvm cannot be opened; `./dev test` fails if that happens although it exists.
class KvmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    kvm_ = UniqueFd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm_) GTEST_SKIP() << "/dev/kvm: " << std::strerror(errno);
  }

  [[nodiscard]] int kvm() const { return kvm_.get(); }

 private:
  UniqueFd kvm_;
};

/// The path of a guest program that tests/kvm/CMakeLists.txt lists in warmfork_kvm_test_data().
[[nodiscard]] inline std::string test_data(const std::string& name) {
  const char* const directory = std::getenv("WARMFORK_TEST_DATA");
  return std::string(directory == nullptr ? WARMFORK_TEST_DATA : directory) + "/" + name;
}

}  // namespace warmfork::test
