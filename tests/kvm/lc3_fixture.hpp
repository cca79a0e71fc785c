// Tests of the LC-3 inside a guest, through the host's handle on it.
#pragma once

#include "lc3/host/lc3_vm.hpp"
#include "machine_test.hpp"

namespace warmfork::test {

class Lc3Test : public MachineTest {
 protected:
  std::unique_ptr<lc3::Lc3Vm> make_lc3(const lc3::Lc3Options& options = {}) {
    auto vm = lc3::Lc3Vm::create(system(), options);
    EXPECT_TRUE(vm) << vm.error().message;
    return vm ? std::move(*vm) : nullptr;
  }
};

}  // namespace warmfork::test
