// What tests of the machine start from: a KVM, and guests by the name of their ELF file.
#pragma once

#include "base/file.hpp"
#include "kvm/kvm.hpp"
#include "kvm_test.hpp"
#include "machine/machine.hpp"

#include <memory>
#include <string>
#include <vector>

namespace warmfork::test {

class MachineTest : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (IsSkipped()) return;
    auto opened = kvm::Kvm::open();
    ASSERT_TRUE(opened) << opened.error().message;
    system_.emplace(std::move(*opened));
  }

  [[nodiscard]] const kvm::Kvm& system() const { return *system_; }

  /// A machine with the guest `name`.elf, or a failed test. The machine's input and output are io().
  std::unique_ptr<Machine> make(const std::string& name, std::vector<std::string> arguments = {},
                                MachineConfig config = {}, std::string input = {}) {
    const auto elf = read_file(test_data(name + ".elf"), std::size_t{1} << 28);
    EXPECT_TRUE(elf) << elf.error().message;
    if (!elf) return nullptr;
    ios_.push_back(std::make_unique<BufferIo>(std::move(input)));
    if (config.io == nullptr) config.io = ios_.back().get();
    config.process.arguments = {name};
    config.process.arguments.insert(config.process.arguments.end(), arguments.begin(), arguments.end());
    auto machine = Machine::create(*system_, *elf, name, std::move(config));
    EXPECT_TRUE(machine) << machine.error().message;
    return machine ? std::move(*machine) : nullptr;
  }

  /// As make(), booted until it waits for vmcalls.
  std::unique_ptr<Machine> make_ready(const std::string& name, MachineConfig config = {}) {
    auto machine = make(name, {}, std::move(config));
    if (machine == nullptr) return nullptr;
    const auto booted = machine->boot({.timeout_ns = kTimeout});
    EXPECT_TRUE(booted) << booted.error().message;
    EXPECT_TRUE(booted && !booted->exit_code) << name << " does not wait for vmcalls";
    return booted && !booted->exit_code ? std::move(machine) : nullptr;
  }

  /// Boots and expects an exit code.
  void expect_exit(Machine& machine, int code) {
    const auto booted = machine.boot({.timeout_ns = kTimeout});
    ASSERT_TRUE(booted) << booted.error().message;
    ASSERT_TRUE(booted->exit_code) << "it waits for vmcalls";
    EXPECT_EQ(*booted->exit_code, code) << io().output() << io().error_output();
  }

  [[nodiscard]] const BufferIo& io() const { return *ios_.back(); }

  static constexpr std::uint64_t kTimeout = 20'000'000'000;

 private:
  std::optional<kvm::Kvm> system_;
  std::vector<std::unique_ptr<BufferIo>> ios_;
};

}  // namespace warmfork::test
