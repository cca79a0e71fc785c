// warmfork demo: what this is, step by step, on this machine, with its figures beside their floors.
#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "fork/pool.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3_console.hpp"
#include "lc3_report.hpp"
#include "machine/backend_probe.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

extern "C" const unsigned char warmfork_demo_hello_begin[];
extern "C" const unsigned char warmfork_demo_hello_end[];
extern "C" const unsigned char warmfork_demo_sieve_begin[];
extern "C" const unsigned char warmfork_demo_sieve_end[];

namespace warmfork::cli {
namespace {

constexpr std::string_view kEndless = ".ORIG x3000\nLOOP ADD R0, R0, #1\nBRnzp LOOP\n.END\n";
constexpr std::string_view kIllegal = ".ORIG x3000\nLEA R0, #0\n.FILL xD000\nHALT\n.END\n";
constexpr std::uint64_t kExactBudget = 1'000'003;  // an odd number: R0 tells how often the loop has gone round
constexpr std::uint64_t kDeadlineNs = 20'000'000;
constexpr int kCalls = 500;
constexpr int kEmptyMachines = 5;

// When this process began, on now_ns()'s clock. The processor time of a process counts from its fork, and until here it
// has done nothing but compute: the kernel's own record of its start is only good to 10 ms.
std::uint64_t process_start_ns() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return now_ns() - static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000 - static_cast<std::uint64_t>(used.tv_nsec);
}

double ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

class Demo {
 public:
  explicit Demo(std::uint64_t process_start) : process_start_(process_start) {}

  Status run() {
    WARMFORK_TRY(first_result());
    WARMFORK_TRY(backend());
    WARMFORK_TRY(exact_budget());
    WARMFORK_TRY(speed());
    WARMFORK_TRY(warm_call());
    WARMFORK_TRY(hostile());
    WARMFORK_TRY(forks());
    WARMFORK_TRY(deadline());
    return {};
  }

 private:
  static Result<lc3::Program> assemble(const unsigned char* begin, const unsigned char* end, const char* name) {
    // SAFETY: bytes of the executable, viewed as characters.
    return lc3::assemble({reinterpret_cast<const char*>(begin), static_cast<std::size_t>(end - begin)}, name);
  }

  void step(const char* title) { fmt::print("\n{}. {}\n", ++steps_, title); }

  template <class... Args>
  static void say(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print("   {}\n", fmt::format(format, std::forward<Args>(args)...));
    std::fflush(stdout);
  }

  // Powers the LC-3 on again with a program and runs it.
  Result<lc3::RunResult> fresh_run(const lc3::Program& program, std::uint64_t budget) {
    WARMFORK_TRY(vm_->power_on({}));
    WARMFORK_TRY(vm_->load(program));
    return vm_->run(budget);
  }

  Status first_result() {
    WARMFORK_TRY_ASSIGN(kvm_, open_kvm());
    WARMFORK_TRY_ASSIGN(const lc3::Program hello,
                        assemble(warmfork_demo_hello_begin, warmfork_demo_hello_end, "hello.asm"));
    WARMFORK_TRY_ASSIGN(vm_, lc3::Lc3Vm::create(*kvm_, {}));
    WARMFORK_TRY(vm_->load(hello));
    WARMFORK_TRY_ASSIGN(const lc3::RunResult result, vm_->run(1'000'000));
    std::string output;
    WARMFORK_TRY(vm_->drain(output));
    const std::uint64_t done = now_ns();

    const lc3::StartTimes& times = vm_->start_times();
    step("A guest starts, and an LC-3 program runs in it");
    say("construct the machine         {:8.2f} ms   a KVM virtual machine, its memory, one program",
        ms(times.construct_ns));
    say("boot                          {:8.2f} ms   until the guest waits for calls", ms(times.boot_ns));
    say("power the LC-3 on             {:8.2f} ms   with its operating system", ms(times.power_on_ns));
    say("process start to first result {:8.2f} ms   exec, assemble, construct, boot, load, run",
        ms(done - process_start_));
    say("hello.asm says: {}", output.substr(0, output.find('\n')));
    if (result.stop != lc3::StopReason::kHalted || output != "Hello from the LC-3!\n") {
      return fail(ErrorKind::kGuestFault, "hello.asm: {} after {} instructions, output \"{}\"",
                  lc3::describe(result.stop), result.executed, output);
    }
    return {};
  }

  Status backend() {
    step("What the KVM of this machine is");
    WARMFORK_TRY_ASSIGN(const BackendInfo info, probe_backend(*kvm_));
    say("{} on {}; SYSCALL {}; code at CPL 0 {}", info.name, info.cpu,
        info.syscall_enters_cpl0 ? "enters CPL 0" : "stays at CPL 3", info.cpl0_is_native ? "native" : "emulated");
    Histogram floor;
    for (int i = 0; i < kEmptyMachines; ++i) {
      const std::uint64_t begin = now_ns();
      WARMFORK_TRY_ASSIGN(const kvm::VmFd vm, kvm_->create_vm());
      WARMFORK_TRY_ASSIGN(const kvm::VcpuFd vcpu, vm.create_vcpu(0));
      floor.record(now_ns() - begin);
    }
    say("an empty virtual machine alone, the floor of constructing one: {} (p50 of {})", time_text(floor.quantile(0.5)),
        kEmptyMachines);
    return {};
  }

  Status exact_budget() {
    step("An endless loop under an exact instruction budget");
    WARMFORK_TRY_ASSIGN(const lc3::Program endless, lc3::assemble(kEndless, "endless.asm"));
    WARMFORK_TRY_ASSIGN(const lc3::RunResult result, fresh_run(endless, kExactBudget));
    WARMFORK_TRY_ASSIGN(const lc3::Registers registers, vm_->registers());
    const auto rounds = static_cast<std::uint16_t>((kExactBudget + 1) / 2);
    say("asked for {} instructions, got {}; R0 = {}, as it must be", kExactBudget, result.executed,
        registers.general[0]);
    if (result.stop != lc3::StopReason::kBudget || result.executed != kExactBudget || registers.general[0] != rounds) {
      return fail(ErrorKind::kGuestFault, "budget of {}: {} after {} instructions, R0 = {}, expected {}", kExactBudget,
                  lc3::describe(result.stop), result.executed, registers.general[0], rounds);
    }
    return {};
  }

  Status speed() {
    step("How fast the LC-3 is");
    WARMFORK_TRY_ASSIGN(const lc3::Program sieve,
                        assemble(warmfork_demo_sieve_begin, warmfork_demo_sieve_end, "sieve.asm"));
    const lc3::Symbol* result_at = sieve.find_symbol("RESULT");
    std::uint16_t first_checksum = 0;
    double best = 0;
    std::uint64_t instructions = 0;
    for (int round = 0; round < 3; ++round) {
      WARMFORK_TRY(vm_->power_on({}));
      WARMFORK_TRY(vm_->load(sieve));
      const std::uint64_t begin = now_ns();
      WARMFORK_TRY_ASSIGN(const lc3::RunResult result,
                          vm_->run(std::uint64_t{1} << 40, {.timeout_ns = 10'000'000'000}));
      const auto took = static_cast<double>(now_ns() - begin);
      if (result.stop != lc3::StopReason::kHalted || result_at == nullptr) {
        return fail(ErrorKind::kGuestFault, "sieve.asm: {}", lc3::describe(result.stop));
      }
      WARMFORK_TRY_ASSIGN(const auto checksum, vm_->read_memory(result_at->address, 1));
      if (round > 0 && checksum.front() != first_checksum) {
        return fail(ErrorKind::kGuestFault, "sieve.asm: checksum x{:04X}, before x{:04X}", checksum.front(),
                    first_checksum);
      }
      first_checksum = checksum.front();
      instructions = result.executed;
      best = std::max(best, static_cast<double>(result.executed) * 1e9 / took);
    }
    say("1,000 sieves of 2,000 numbers, {} instructions: {} (compiled while it ran, best of 3)", instructions,
        rate_text(best));
    return {};
  }

  Status warm_call() {
    step("What a call into the warm guest costs");
    WARMFORK_TRY_ASSIGN(bench::FloorProbe probe, bench::FloorProbe::create(*kvm_));
    WARMFORK_TRY(probe.warm_up());
    Histogram calls;
    Histogram floor;
    for (int i = 0; i < kCalls + 100; ++i) {
      Histogram unused;
      const bool counts = i >= 100;
      const std::uint64_t begin = tsc_now();
      WARMFORK_TRY(vm_->write_register(lc3::kRegisterUsp, 1));
      const std::uint64_t took = tsc_now_ordered() - begin;
      if (counts) calls.record(took);
      WARMFORK_TRY(probe.exit_round_trip(counts ? floor : unused));
    }
    const double call_ns = tsc_to_ns(1) * calls.quantile(0.5);
    const double floor_ns = tsc_to_ns(1) * floor.quantile(0.5);
    say("vmcall {}, the floor (a guest that does nothing but exit) {}: {:.2f} times (p50 of {})", time_text(call_ns),
        time_text(floor_ns), call_ns / floor_ns, kCalls);
    return {};
  }

  Status hostile() {
    step("A program that goes wrong ends; the machine goes on");
    WARMFORK_TRY_ASSIGN(const lc3::Program illegal, lc3::assemble(kIllegal, "illegal.asm"));
    lc3::Lc3Options bare;
    bare.load_os = false;
    WARMFORK_TRY(vm_->power_on(bare));
    WARMFORK_TRY(vm_->load(illegal));
    WARMFORK_TRY_ASSIGN(const lc3::RunResult result, vm_->run(1000));
    WARMFORK_TRY_ASSIGN(const auto failure, find_failure(*vm_, bare, result));
    if (!failure) return fail(ErrorKind::kGuestFault, "illegal.asm: {}", lc3::describe(result.stop));
    const Lc3Places places(illegal, nullptr);
    say("illegal.asm: {} at {}", failure->what, places.describe(failure->address));
    WARMFORK_TRY_ASSIGN(const lc3::Program hello,
                        assemble(warmfork_demo_hello_begin, warmfork_demo_hello_end, "hello.asm"));
    const std::uint64_t begin = now_ns();
    WARMFORK_TRY_ASSIGN(const lc3::RunResult again, fresh_run(hello, 1'000'000));
    const std::uint64_t took = now_ns() - begin;
    std::string output;
    WARMFORK_TRY(vm_->drain(output));
    if (again.stop != lc3::StopReason::kHalted) return fail(ErrorKind::kGuestFault, "hello.asm does not run again");
    say("powered on again, in {}: {}", time_text(static_cast<double>(took)), output.substr(0, output.find('\n')));
    return {};
  }

  Status forks() {
    step("A warm machine, its program loaded, is forked for each request and put back after it");
    WARMFORK_TRY_ASSIGN(const lc3::Program hello,
                        assemble(warmfork_demo_hello_begin, warmfork_demo_hello_end, "hello.asm"));
    WARMFORK_TRY(vm_->power_on({}));
    WARMFORK_TRY(vm_->load(hello));
    std::uint64_t begin = now_ns();
    WARMFORK_TRY_ASSIGN(const auto snapshot, Snapshot::take(*kvm_, vm_->machine()));
    WARMFORK_TRY_ASSIGN(const auto pool, Pool::create(*kvm_, snapshot, {.ready = 2}));
    const std::uint64_t prepared = now_ns() - begin;
    constexpr std::size_t kRequests = 2000;
    std::vector<std::uint64_t> times;
    std::string output;
    for (std::size_t i = 0; i < kRequests; ++i) {
      begin = now_ns();
      WARMFORK_TRY_ASSIGN(Lease lease, pool->acquire());
      const auto fork = vm_->attach(lease.fork());
      WARMFORK_TRY_ASSIGN(const lc3::RunResult result, fork->run(1'000'000, {.timeout_ns = kDeadlineNs * 100}));
      output.clear();
      WARMFORK_TRY(fork->drain(output));
      lease.release();
      times.push_back(now_ns() - begin);
      if (result.stop != lc3::StopReason::kHalted || output.empty()) {
        return fail(ErrorKind::kGuestFault, "hello.asm in a fork: {}", lc3::describe(result.stop));
      }
    }
    std::ranges::sort(times);
    say("snapshot and {}, in {}", pool->describe(), time_text(static_cast<double>(prepared)));
    say("{} requests, each in a fork as new: median {}, 99 of 100 within {}", kRequests,
        time_text(static_cast<double>(times[kRequests / 2])),
        time_text(static_cast<double>(times[kRequests * 99 / 100])));
    say("each printed: {}", output.substr(0, output.find('\n')));
    return {};
  }

  Status deadline() {
    step("An endless loop without a budget meets a deadline");
    WARMFORK_TRY_ASSIGN(const lc3::Program endless, lc3::assemble(kEndless, "endless.asm"));
    WARMFORK_TRY(vm_->power_on({}));
    WARMFORK_TRY(vm_->load(endless));
    const std::uint64_t begin = now_ns();
    const auto result = vm_->run(std::uint64_t{1} << 60, {.timeout_ns = kDeadlineNs});
    const std::uint64_t took = now_ns() - begin;
    if (result || result.error().kind != ErrorKind::kDeadline) {
      return fail(ErrorKind::kGuestFault, "endless.asm did not meet its deadline: {}",
                  result ? lc3::describe(result->stop) : result.error().message);
    }
    say("given {}, stopped from outside after {}", time_text(kDeadlineNs), time_text(static_cast<double>(took)));
    return {};
  }

  std::uint64_t process_start_;
  std::optional<kvm::Kvm> kvm_;
  std::unique_ptr<lc3::Lc3Vm> vm_;
  int steps_ = 0;
};

int run() {
  fmt::print(
      "warmfork boots a static program as a KVM guest and calls into it. Here the program is an LC-3 machine.\n");
  const auto done = Demo(process_start_ns()).run();
  std::fflush(stdout);
  if (!done) {
    const int code = report(done.error());
    if (code == kHostError) {
      print_message(
          "The demo runs guests, and this machine gives it no KVM. What works without one:\n"
          "  warmfork asm FILE.asm      assemble\n  warmfork disasm FILE.obj   and back\n");
    }
    return code;
  }
  fmt::print(
      "\nWhere to go next\n"
      "   warmfork run FILE.asm                 your own program; on a terminal, keys reach it at once\n"
      "   warmfork run --stats FILE.asm         where its time goes\n"
      "   warmfork doctor                       this machine's KVM and its raw costs\n"
      "   warmfork compare                      forks, resets and processes side by side\n"
      "   warmfork verify-reset                 prove that a reset leaves nothing\n"
      "   warmfork bench floors lifecycle       every figure beside its floor\n"
      "   warmfork exec ./static-program        any static Linux program\n");
  return kSuccess;
}

}  // namespace

void add_demo(CLI::App& app, Outcome& outcome) {
  CLI::App* verb = app.add_subcommand("demo", "See what it does on this machine, in a few seconds: start here");
  verb->footer(
      "Boots a guest, runs programs in it, checks what they say, and measures. Needs no terminal.\n\n"
      "Exit codes: 0 everything was as it should be · 4 no KVM · 5 something was not.");
  verb->fallthrough();
  verb->callback([&outcome] { outcome.code = run(); });
}

}  // namespace warmfork::cli
