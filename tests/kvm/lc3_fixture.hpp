// Tests of the LC-3 inside a guest, through the host's handle on it.
#pragma once

#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "machine_test.hpp"

#include <memory>

namespace warmfork::test {

class Lc3Test : public MachineTest {
 protected:
  std::unique_ptr<lc3::Lc3Vm> make_lc3(const lc3::Lc3Options& options = {}) {
    auto vm = lc3::Lc3Vm::create(system(), options);
    EXPECT_TRUE(vm) << vm.error().message;
    return vm ? std::move(*vm) : nullptr;
  }
  static lc3::Program program(const char* source) {
    auto assembled = lc3::assemble(source, "test.asm");
    EXPECT_TRUE(assembled) << assembled.error().message;
    return assembled ? std::move(*assembled) : lc3::Program{};
  }
};

/// A master and forks of it, of each kind.
class Lc3ForkTest : public Lc3Test, public ::testing::WithParamInterface<ForkKind> {
 protected:
  /// Takes the snapshot of master_ that forks are made from.
  void take_snapshot() {
    auto snapshot = Snapshot::take(system(), master_->machine());
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    snapshot_ = *snapshot;
    auto source = make_fork_source(system(), snapshot_, {.kind = GetParam()}, 4);
    ASSERT_TRUE(source) << source.error().message;
    source_ = std::move(*source);
    auto cpu = source_->make_cpu();
    ASSERT_TRUE(cpu) << cpu.error().message;
    cpu_ = *cpu;
  }
  std::unique_ptr<Fork> fork() {
    auto made = source_->make();
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(*made) : nullptr;
  }
  /// Before a fork is used after another one.
  void bind(Fork& fork) {
    if (cpu_ != nullptr) EXPECT_TRUE(fork.bind(*cpu_));
  }

  std::unique_ptr<lc3::Lc3Vm> master_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::unique_ptr<ForkSource> source_;
  GuestCpu* cpu_ = nullptr;
};

}  // namespace warmfork::test
