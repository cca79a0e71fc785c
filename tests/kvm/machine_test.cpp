// The machine's contract: boot, vmcalls, deadlines, cancellation, and the Linux a program sees.
#include "machine_test.hpp"

#include <gmock/gmock.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;
using Values = std::vector<std::uint64_t>;

class Vmcall : public MachineTest {
 protected:
  Result<std::uint64_t> call(Machine& machine, const char* name, const Values& arguments = {},
                             CallOptions options = {}) {
    const auto function = machine.find_vmcall(name);
    if (!function) return Failure(function.error());
    return machine.call(*function, arguments, options);
  }
};

TEST_F(Vmcall, PassesEachArgumentInItsPlace) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto result = call(*machine, "weigh", {1, 2, 3, 4, 5, 6});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(*result, 654321u);
}

TEST_F(Vmcall, KeepsTheGuestsState) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  for (std::uint64_t i = 1; i <= 100; ++i) {
    const auto result = call(*machine, "count");
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_EQ(*result, i);
  }
}

TEST_F(Vmcall, IsExactlyOneEntry) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto function = machine->find_vmcall("nothing");
  ASSERT_TRUE(function);
  const std::uint64_t calls = scaled(2000);
  const std::uint64_t before = machine->counters().kvm_run;
  const std::uint64_t interrupted_before = machine->counters().interrupted;
  for (std::uint64_t i = 0; i < calls; ++i) ASSERT_TRUE(machine->call(*function, {}));
  const std::uint64_t interrupted = machine->counters().interrupted - interrupted_before;
  EXPECT_EQ(machine->counters().kvm_run - before, calls + interrupted);
  EXPECT_EQ(interrupted, 0u);
}

TEST_F(Vmcall, ReadsAndWritesBuffers) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  std::vector<std::byte> bytes(10'000);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 7);
    sum += static_cast<std::uint64_t>(bytes[i]);
  }
  const auto address = machine->put_buffer(64, bytes);
  ASSERT_TRUE(address) << address.error().message;
  const auto summed = call(*machine, "sum_bytes", {address->value, bytes.size()});
  ASSERT_TRUE(summed) << summed.error().message;
  EXPECT_EQ(*summed, sum);
  const auto where = call(*machine, "reverse_bytes", {address->value, bytes.size()});
  ASSERT_TRUE(where);
  std::vector<std::byte> answer(bytes.size());
  ASSERT_TRUE(machine->memory().read(Gva{*where}, answer));
  std::reverse(bytes.begin(), bytes.end());
  EXPECT_EQ(answer, bytes);
}

TEST_F(Vmcall, BufferBeyondTheCallAreaIsRefused) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const std::vector<std::byte> bytes(65536);
  EXPECT_TRUE(machine->put_buffer(0, bytes));
  for (const std::uint64_t offset : {std::uint64_t{1}, std::uint64_t{65537}, ~std::uint64_t{0}}) {
    const auto refused = machine->put_buffer(offset, bytes);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
  }
}

TEST_F(Vmcall, IsFoundInTheTableOrBySymbol) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto by_symbol = call(*machine, "by_symbol", {21});
  ASSERT_TRUE(by_symbol) << by_symbol.error().message;
  EXPECT_EQ(*by_symbol, 42u);
  const auto missing = machine->find_vmcall("no_such_call");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kInput);
  EXPECT_THAT(missing.error().message, HasSubstr("no_such_call"));
}

TEST_F(Vmcall, RunsOnAnAlignedStack) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  // The System V ABI: at the frame address (saved rbp, after the return address) rsp is a multiple of 16.
  const auto result = call(*machine, "stack_alignment");
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, 0u);
}

TEST_F(Vmcall, MaySystemCall) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const std::string text = "from a vmcall\n";
  const auto address = machine->put_buffer(0, std::as_bytes(std::span(text)));
  ASSERT_TRUE(address);
  for (int i = 0; i < 3; ++i) {
    const auto result = call(*machine, "say", {address->value, text.size()});
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(*result, text.size());
    const auto plain = call(*machine, "count");
    ASSERT_TRUE(plain) << plain.error().message;
  }
  EXPECT_EQ(io().output(), text + text + text);
}

TEST_F(Vmcall, OutputOfAMachineWithoutIoIsDiscardedHoweverMuch) {
  const auto elf = read_file(test_data("probe_calls.elf"), 1 << 24);
  ASSERT_TRUE(elf);
  const auto machine = Machine::create(system(), *elf, "probe_calls", {});
  ASSERT_TRUE(machine) << machine.error().message;
  ASSERT_TRUE((*machine)->boot({.timeout_ns = kTimeout}));
  const std::uint64_t size = (*machine)->memory().call_area().size;
  const std::uint64_t address = (*machine)->memory().call_area().begin.value;
  for (std::uint64_t written = 0; written <= std::uint64_t{64} << 20; written += size) {
    const auto result = call(**machine, "say", {address, size}, {.timeout_ns = kTimeout});
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_EQ(*result, size) << "after " << written;
  }
}

TEST_F(Vmcall, BeforeBootIsRefused) {
  const auto machine = make("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto result = call(*machine, "nothing");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
}

TEST_F(Vmcall, ToNowhereEndsTheGuest) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto outside = machine->call(Gva{std::uint64_t{1} << 63}, {});
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().kind, ErrorKind::kUsage);
  const auto result = machine->call(Gva{0x5000'0000'0000}, {}, {.timeout_ns = kTimeout});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kGuestFault);
  ASSERT_TRUE(machine->fault());
  EXPECT_THAT(machine->fault()->summary, HasSubstr("execution of 0x500000000000"));
}

TEST_F(Vmcall, CrashIsReportedWithItsFunction) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto result = call(*machine, "crash", {0x1234});
  ASSERT_FALSE(result);
  ASSERT_TRUE(machine->fault());
  EXPECT_EQ(machine->fault()->vector, 14u);
  EXPECT_EQ(machine->fault()->fault_address, 0x1234u);
  EXPECT_THAT(machine->fault()->symbol, HasSubstr("crash"));
}

TEST_F(Vmcall, ExitDuringACallEndsTheProgram) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto result = call(*machine, "leave", {3});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("exited with code 3"));
  EXPECT_FALSE(call(*machine, "nothing"));
}

TEST_F(Vmcall, WaitingInsideACallEndsTheGuest) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto result = call(*machine, "ready_again");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kGuestFault);
  EXPECT_FALSE(machine->ready());
}

TEST_F(Vmcall, AfterAnErrorOfTheHostSaysSo) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  machine->vcpu().shared().kvm_valid_regs = ~std::uint64_t{0};  // which KVM_RUN refuses
  for (int i = 0; i < 2; ++i) {
    const auto result = call(*machine, "nothing");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, ErrorKind::kHost);
    EXPECT_THAT(result.error().message, HasSubstr("KVM_RUN"));
  }
}

class Deadline : public Vmcall {};

TEST_F(Deadline, StopsALateCallInTime) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto begin = std::chrono::steady_clock::now();
  const auto result = call(*machine, "spin", {}, {.timeout_ns = 50'000'000});
  const auto took = std::chrono::steady_clock::now() - begin;
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kDeadline);
  EXPECT_THAT(result.error().message, HasSubstr("spin"));
  EXPECT_GE(took, std::chrono::milliseconds(50));
  EXPECT_LT(took, std::chrono::seconds(5));
}

TEST_F(Deadline, StoppedCallCanBeResumed) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  constexpr std::uint64_t kIterations = 400'000'000;
  auto result = call(*machine, "spin_for", {kIterations}, {.timeout_ns = 3'000'000});
  int stops = 0;
  while (!result) {
    ASSERT_EQ(result.error().kind, ErrorKind::kDeadline) << result.error().message;
    EXPECT_FALSE(call(*machine, "nothing")) << "a new call while one is stopped";
    ++stops;
    result = machine->resume({.timeout_ns = 20'000'000});
  }
  EXPECT_EQ(*result, kIterations);
  EXPECT_GT(stops, 0);
  EXPECT_FALSE(machine->resume());
}

TEST_F(Deadline, DoesNotTouchCallsThatAreInTime) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  for (std::uint64_t i = 0; i < scaled(3000); ++i) {
    const auto result = call(*machine, "count", {}, {.timeout_ns = 5'000'000'000});
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_EQ(*result, i + 1);
  }
}

TEST_F(Deadline, OfDifferentLengthsInTwoThreads) {
  std::vector<std::jthread> threads;
  for (const std::uint64_t timeout_ns : {std::uint64_t{2'000'000}, std::uint64_t{60'000'000}}) {
    threads.emplace_back([this, timeout_ns] {
      const auto elf = read_file(test_data("probe_calls.elf"), 1 << 24);
      ASSERT_TRUE(elf);
      auto machine = Machine::create(system(), *elf, "probe_calls", {});
      ASSERT_TRUE(machine);
      ASSERT_TRUE((*machine)->boot());
      const auto spin = (*machine)->find_vmcall("spin");
      ASSERT_TRUE(spin);
      auto result = (*machine)->call(*spin, {}, {.timeout_ns = timeout_ns});
      for (int i = 0; i < 5; ++i) {
        ASSERT_FALSE(result);
        ASSERT_EQ(result.error().kind, ErrorKind::kDeadline);
        result = (*machine)->resume({.timeout_ns = timeout_ns});
      }
    });
  }
}

TEST_F(Deadline, HoldsAfterALongPause) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  // Long enough for the watchdog to have gone to sleep.
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  const auto result = call(*machine, "spin", {}, {.timeout_ns = 1'000'000});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kDeadline);
}

TEST_F(Deadline, StopsABlockedRead) {
  // Input that never comes: a pipe nobody writes to stands in for a terminal nobody types at.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  class PipeInput final : public GuestIo {
   public:
    explicit PipeInput(int fd) : fd_(fd) {}
    ssize_t write(int, std::span<const std::byte> bytes) override { return static_cast<ssize_t>(bytes.size()); }
    ssize_t read(std::span<std::byte> bytes) override {
      const ssize_t got = ::read(fd_, bytes.data(), bytes.size());
      return got < 0 ? -errno : got;
    }
    [[nodiscard]] bool is_terminal(int) const override { return false; }

   private:
    int fd_;
  } input(read_end.get());
  MachineConfig config;
  config.io = &input;
  const auto machine = make("probe_blocked_read", {}, std::move(config));
  ASSERT_NE(machine, nullptr);
  const auto stopped = machine->boot({.timeout_ns = 50'000'000});
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kDeadline) << stopped.error().message;
  // The call is made again when the program goes on.
  ASSERT_EQ(::write(write_end.get(), "x", 1), 1);
  const auto resumed = machine->boot({.timeout_ns = kTimeout});
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_EQ(resumed->exit_code, 11);
}

// Stopped wherever it may be: in guest code, before and after system calls, while memory is mapped and protected.
TEST_F(Deadline, AnyNumberOfStopsChangesNothing) {
  int stops = 0;
  for (int round = 0; round < 100 && stops < 20; ++round) {
    const auto machine = make("probe_heap");
    ASSERT_NE(machine, nullptr);
    std::jthread canceller([&machine](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        machine->cancel();
      }
    });
    auto booted = machine->boot({.timeout_ns = 1});
    const auto stopped = [&] {
      return !booted && (booted.error().kind == ErrorKind::kDeadline || booted.error().kind == ErrorKind::kCancelled);
    };
    for (; stopped(); ++stops) booted = machine->boot({.timeout_ns = 1});
    ASSERT_TRUE(booted) << booted.error().message;
    EXPECT_EQ(booted->exit_code, 0) << io().output();
  }
  EXPECT_GT(stops, 0);
}

// The watchdog starts and ends with the machines there are, and a machine may go from thread to thread.
TEST_F(Deadline, HoldsWhileMachinesComeAndGoInTwoThreads) {
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 2; ++thread) {
    threads.emplace_back([this] {
      const auto elf = read_file(test_data("probe_calls.elf"), 1 << 24);
      ASSERT_TRUE(elf);
      for (std::uint64_t i = 0; i < scaled(40); ++i) {
        auto created = Machine::create(system(), *elf, "probe_calls", {});
        ASSERT_TRUE(created) << created.error().message;
        Machine& machine = **created;
        ASSERT_TRUE(machine.boot({.timeout_ns = kTimeout}));
        const auto spin = machine.find_vmcall("spin");
        ASSERT_TRUE(spin);
        std::jthread([&] {
          const auto late = machine.call(*spin, {}, {.timeout_ns = 500'000});
          ASSERT_FALSE(late);
          EXPECT_EQ(late.error().kind, ErrorKind::kDeadline) << late.error().message;
        }).join();
      }
    });
  }
}

class Cancel : public Vmcall {};

TEST_F(Cancel, StopsARunningCallFromAnotherThread) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  std::jthread canceller([&machine] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    machine->cancel();
  });
  const auto result = call(*machine, "spin");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kCancelled);
}

TEST_F(Cancel, BeforeACallStopsThatCallAndNoOther) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  machine->cancel();
  const auto cancelled = call(*machine, "count");
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().kind, ErrorKind::kCancelled);
  const auto resumed = machine->resume();
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_EQ(*resumed, 1u);
  EXPECT_TRUE(call(*machine, "count"));
}

TEST_F(Cancel, RacingWithCallsLosesNone) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  std::jthread canceller([&machine](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      machine->cancel();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  for (std::uint64_t i = 1; i <= scaled(3000); ++i) {
    auto result = call(*machine, "count");
    while (!result) {
      ASSERT_EQ(result.error().kind, ErrorKind::kCancelled) << result.error().message;
      result = machine->resume();
    }
    ASSERT_EQ(*result, i);
  }
}

// Whatever stops a call comes after the machine has looked for it and before the thread sleeps in its read.
class AboutToBlock : public MachineTest {
 protected:
  /// Boots a guest that reads input that never comes; `before_read` happens just before the read.
  void expect_stop(ErrorKind kind, CallOptions options, void (*before_read)(Machine&)) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    class LateInput final : public GuestIo {
     public:
      LateInput(int fd, void (*before_read)(Machine&)) : fd_(fd), before_read_(before_read) {}
      ssize_t write(int, std::span<const std::byte> bytes) override { return static_cast<ssize_t>(bytes.size()); }
      ssize_t read(std::span<std::byte> bytes) override {
        before_read_(*machine);
        const ssize_t got = ::read(fd_, bytes.data(), bytes.size());
        return got < 0 ? -errno : got;
      }
      [[nodiscard]] bool is_terminal(int) const override { return false; }
      Machine* machine = nullptr;

     private:
      int fd_;
      void (*before_read_)(Machine&);
    } input(read_end.get(), before_read);
    MachineConfig config;
    config.io = &input;
    const auto machine = make("probe_blocked_read", {}, std::move(config));
    ASSERT_NE(machine, nullptr);
    input.machine = machine.get();
    // Should the stop be lost, the read ends like this, and the test fails instead of hanging.
    std::jthread rescue([&](const std::stop_token& stop) {
      for (int i = 0; i < 300 && !stop.stop_requested(); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      EXPECT_EQ(::write(write_end.get(), "x", 1), 1);
    });
    const auto begin = std::chrono::steady_clock::now();
    const auto stopped = machine->boot(options);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4)) << "the stop was lost";
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().kind, kind) << stopped.error().message;
  }
};

TEST_F(AboutToBlock, ACancellationIsNotLost) {
  expect_stop(ErrorKind::kCancelled, {}, [](Machine& machine) { std::jthread([&] { machine.cancel(); }).join(); });
}

TEST_F(AboutToBlock, ADeadlineIsNotLost) {
  expect_stop(ErrorKind::kDeadline, {.timeout_ns = 10'000'000}, [](Machine&) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (std::chrono::steady_clock::now() < end) {
    }
  });
}

class LinuxProgram : public MachineTest {};

TEST_F(LinuxProgram, SeesWhatItMayExpect) {
  MachineConfig config;
  config.process.environment = {"WARMFORK_PROBE=set"};
  const auto machine = make("probe_linux_surface", {"one", "two words"}, std::move(config), std::string(100, 'i'));
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
  EXPECT_THAT(io().output(), HasSubstr("vector\n"));
}

TEST_F(LinuxProgram, HasAHeap) {
  const auto machine = make("probe_heap");
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
}

TEST_F(LinuxProgram, HasASmallHeap) {
  const auto machine = make("probe_heap", {}, {.memory_bytes = std::uint64_t{1} << 20, .stack_bytes = 64 << 10});
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
}

TEST_F(LinuxProgram, ReadsItsInputToTheEnd) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += "line " + std::to_string(i) + "\n";
  const auto machine = make("probe_read_input", {}, {}, lines);
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 100);
  EXPECT_EQ(io().output(), lines);
}

TEST_F(LinuxProgram, KeepsItsThreadPointerThroughSegmentLoads) {
  const auto machine = make("probe_segments");
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
  EXPECT_EQ(io().output(), "6\n");
}

TEST_F(LinuxProgram, MayProtectItsMemory) {
  for (const char* what : {"read", "write_again", "reuse"}) {
    const auto machine = make("probe_memory_protection", {what});
    ASSERT_NE(machine, nullptr);
    SCOPED_TRACE(what);
    expect_exit(*machine, 0);
  }
}

TEST_F(LinuxProgram, GetsTheSameRandomBytesFromTheSameSeed) {
  const auto run = [&](std::uint64_t seed) {
    MachineConfig config;
    config.process.seed = seed;
    const auto machine = make("probe_random", {}, std::move(config));
    if (machine == nullptr) return std::string();
    expect_exit(*machine, 0);
    return io().output();
  };
  const std::string first = run(1);
  EXPECT_EQ(first.size(), 65u);
  EXPECT_EQ(first, run(1));
  EXPECT_NE(first, run(2));
}

TEST_F(LinuxProgram, IsTracedIncludingWhatIsNotServed) {
  std::vector<linux_abi::SyscallRecord> records;
  MachineConfig config;
  config.process.environment = {"WARMFORK_PROBE=set"};
  config.process.trace = [&](const linux_abi::SyscallRecord& record) { records.push_back(record); };
  const auto machine = make("probe_linux_surface", {"one", "two words"}, std::move(config), std::string(100, 'i'));
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
  EXPECT_EQ(records.size(), machine->counters().syscalls);
  const auto socket = std::ranges::find(records, "socket", &linux_abi::SyscallRecord::name);
  ASSERT_NE(socket, records.end());
  EXPECT_FALSE(socket->supported);
  EXPECT_EQ(socket->outcome.result, -ENOSYS);
}

class ForeignToolchain : public MachineTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ForeignToolchain, ProgramRunsUnmodified) {
  const auto machine = make(GetParam(), {"a", "b"}, {}, "3 4\n");
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 7);
  EXPECT_EQ(io().output(), "arguments 3, sum 7, pi 3.14159\n");
}

INSTANTIATE_TEST_SUITE_P(Static, ForeignToolchain, ::testing::Values("glibc_static", "glibc_static_pie", "musl_static"),
                         [](const auto& parameter) { return std::string(parameter.param); });

class Limits : public MachineTest {};

TEST_F(Limits, ProgramThatDoesNotFitIsRefused) {
  const auto elf = read_file(test_data("probe_calls.elf"), 1 << 24);
  ASSERT_TRUE(elf);
  const auto machine = Machine::create(system(), *elf, "probe_calls", {.memory_bytes = 4096});
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().kind, ErrorKind::kLimit);
  EXPECT_THAT(machine.error().message, HasSubstr("4096"));
}

TEST_F(Limits, ArgumentsThatDoNotFitAreRefused) {
  const auto machine = make("probe_heap", {std::string(100'000, 'x')}, {.stack_bytes = 64 << 10});
  ASSERT_NE(machine, nullptr);
  const auto booted = machine->boot();
  ASSERT_FALSE(booted);
  EXPECT_EQ(booted.error().kind, ErrorKind::kUsage);
}

TEST_F(Limits, MemoryMayBeLarge) {
  const auto machine = make("probe_heap", {}, {.memory_bytes = std::uint64_t{4} << 30});
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
}

TEST_F(Limits, MachinesComeAndGoWithoutLeaking) {
  const auto count_fds = [] {
    int count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) != -1;
    return count;
  };
  ASSERT_NE(make_ready("probe_calls"), nullptr);
  const int before = count_fds();
  for (std::uint64_t i = 0; i < scaled(50); ++i) ASSERT_NE(make_ready("probe_calls"), nullptr);
  EXPECT_EQ(count_fds(), before);
}

}  // namespace
}  // namespace warmfork::test
