#include "lc3/host/lc3_vm.hpp"

#include "base/tsc_clock.hpp"
#include "lc3/core/machine.hpp"
#include "lc3/host/lc3_calls.hpp"
#include "lc3/jit/counts.hpp"
#include "lc3/jit/llvm_module.hpp"
#include "lc3/os/os_image.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

extern "C" const unsigned char warmfork_lc3_guest_begin[];
extern "C" const unsigned char warmfork_lc3_guest_end[];

namespace warmfork::lc3 {

namespace {

constexpr std::array<const char*, 19> kCallNames{
    "lc3_state",          "lc3_configure",   "lc3_use_code",     "lc3_load",       "lc3_capture_vectors",
    "lc3_start",          "lc3_run",         "lc3_trace",        "lc3_time_runs",  "lc3_read_register",
    "lc3_write_register", "lc3_read_memory", "lc3_write_memory", "lc3_instrument", "lc3_watch",
    "lc3_connect",        "lc3_end_port",    "lc3_finish_port",  "lc3_port_report"};

// The window: the State (164 KiB), libc's data, heap for the instrumentation (2.8 MiB), stack, call area.
constexpr std::uint64_t kMemoryBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kStackBytes = 32 << 10;
constexpr std::uint64_t kCallAreaBytes = 256 << 10;  // a whole LC-3 memory at once
// Address space for compiled code. A version takes 324 KiB of it and the code, of which it touches a few pages.
constexpr std::uint64_t kCodeBytes = 32 << 20;

// Transfers to interpreted code before a run stops to be compiled: a stop costs an exit or two, some 20,000 interpreted
// instructions on kvm-pvm.
constexpr std::uint32_t kEagerPatience = 16;
constexpr std::uint32_t kAutoPatience = 8192;
// The same while counting: what is interpreted then is ten times as slow.
constexpr std::uint32_t kCountingPatience = 1024;

// How long compiled code must have been in use for LLVM to be worth loading: as long as that takes.
constexpr std::chrono::nanoseconds kAutoDelay = std::chrono::milliseconds(10);

std::uint64_t monotonic_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

// LC-3 instructions, by Engine.
const std::array kInstructionsBy{metrics::counter(metrics::Family::kLc3Instructions, {"interp"}),
                                 metrics::counter(metrics::Family::kLc3Instructions, {"xbyak"}),
                                 metrics::counter(metrics::Family::kLc3Instructions, {"orc"}),
                                 metrics::counter(metrics::Family::kLc3Instructions, {"auto"})};

// A run says that its budget is used up by what it returns.
CallOptions run_options(CallOptions options) {
  options.budget_answer = static_cast<std::uint64_t>(StopReason::kBudget);
  return options;
}

bool optimises(Engine engine) { return engine == Engine::kOrc || engine == Engine::kAuto; }

std::uint32_t config_flags(const Lc3Options& options) {
  std::uint32_t flags = 0;
  if (options.edition == 2) flags |= kSecondEdition;
  if (options.strict_privilege) flags |= kStrictPrivilege;
  if (options.traps == TrapMode::kNative) flags |= kNativeTraps;
  if (options.detect_idle) flags |= kDetectIdle;
  if (options.stop_for_output) flags |= kStopForOutput;
  if (!options.stop_at_empty_vectors) flags |= kRunIntoEmptyVectors;
  return flags;
}

Failure reaches_devices(const Program& program, const Segment& segment) {
  return fail(ErrorKind::kInput, "{}: segment x{:04X} … x{:04X} reaches the device registers at x{:04X}",
              segment.file < program.files.size() ? program.files[segment.file] : "program", segment.origin,
              segment.end() - 1, kDeviceBase);
}

}  // namespace

Lc3Vm::Code::Code(CodeRegion memory, Engine engine, std::shared_ptr<jit::DiskCache> disk,
                  std::shared_ptr<jit::CodeNames> names)
    : region(std::move(memory)),
      names(std::move(names)),
      cache({region.bytes, region.begin.value}, {.disk = std::move(disk), .names = this->names}) {
  if (!optimises(engine)) return;
  const bool marks = this->names != nullptr && this->names->wants_marks();
  const auto make_compiler = [marks]() -> Result<jit::Optimiser::Compile> {
    WARMFORK_TRY_ASSIGN(const jit::LlvmModule* llvm, jit::llvm_module());
    return llvm->make_compiler(marks);
  };
  optimiser.emplace(cache, make_compiler, engine == Engine::kOrc ? std::chrono::nanoseconds{0} : kAutoDelay);
  cache.on_version([this](const jit::Made& made) { optimiser->notice(made); });
}

std::optional<Engine> engine_named(std::string_view name) {
  const auto found = std::ranges::find(kEngineNames, name);
  if (found == kEngineNames.end()) return std::nullopt;
  return static_cast<Engine>(found - kEngineNames.begin());
}

Result<std::unique_ptr<Lc3Vm>> Lc3Vm::create(const kvm::Kvm& kvm, const Lc3Options& options) {
  return create(kvm, options, std::as_bytes(std::span(warmfork_lc3_guest_begin, warmfork_lc3_guest_end)));
}

Result<std::unique_ptr<Lc3Vm>> Lc3Vm::create(const kvm::Kvm& kvm, const Lc3Options& options,
                                             std::span<const std::byte> guest_elf) {
  static_assert(kCallNames.size() == static_cast<std::size_t>(Call::kCount));
  std::unique_ptr<Lc3Vm> vm(new Lc3Vm);
  vm->instructions_ = kInstructionsBy[static_cast<std::size_t>(options.engine)];
  vm->ports_ = options.ports;
  WARMFORK_TRY_ASSIGN(std::vector<SharedRegionSpec> regions, port_regions(options.ports));
  std::shared_ptr<jit::DiskCache> disk;
  if (!options.cache_dir.empty()) {
    if (!optimises(options.engine)) {
      return fail(ErrorKind::kUsage, "{}: engine {} makes no code to keep there; orc and auto do", options.cache_dir,
                  kEngineNames[static_cast<std::size_t>(options.engine)]);
    }
    WARMFORK_TRY_ASSIGN(std::string compiler, jit::llvm_compiler());
    WARMFORK_TRY_ASSIGN(disk, jit::DiskCache::open(options.cache_dir, std::move(compiler), options.cache_limit));
  }
  std::shared_ptr<jit::CodeNames> names;
  if (!options.perf_map.empty()) {
    if (options.engine == Engine::kInterpreter)
      return fail(ErrorKind::kUsage, "{}: engine interp makes no code to name there", options.perf_map);
  }
  if (!options.perf_map.empty() || (options.locate_samples && options.engine != Engine::kInterpreter)) {
    WARMFORK_TRY_ASSIGN(names,
                        jit::CodeNames::create({.perf_map = options.perf_map, .lookup = options.locate_samples}));
  }
  auto before = std::chrono::steady_clock::now();
  const auto lap_ns = [&before] {
    const auto now = std::chrono::steady_clock::now();
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(now - std::exchange(before, now)).count());
  };
  WARMFORK_TRY_ASSIGN(vm->machine_,
                      Machine::create(kvm, guest_elf, "lc3_guest",
                                      {.memory_bytes = kMemoryBytes,
                                       .stack_bytes = kStackBytes,
                                       .call_area_bytes = kCallAreaBytes,
                                       .code_bytes = options.engine == Engine::kInterpreter ? 0 : kCodeBytes,
                                       .shared_regions = std::move(regions)}));
  vm->guest_ = vm->machine_.get();
  if (options.engine != Engine::kInterpreter)
    vm->code_ = std::make_shared<Code>(vm->machine_->code_region(), options.engine, std::move(disk), std::move(names));
  vm->start_times_.construct_ns = lap_ns();
  WARMFORK_TRY_ASSIGN(const BootOutcome booted, vm->machine_->boot());
  if (booted.exit_code)
    return fail(ErrorKind::kGuestFault, "the LC-3 guest exited with code {} at boot", *booted.exit_code);
  vm->start_times_.boot_ns = lap_ns();
  const bool with_ports = options.ports.ports != 0 || options.ports.feed_bytes != 0;
  const auto calls = with_ports ? kCallNames.size() : static_cast<std::size_t>(Call::kConnect);
  for (std::size_t i = 0; i < calls; ++i) {
    WARMFORK_TRY_ASSIGN(vm->functions_[i], vm->machine_->find_vmcall(kCallNames[i]));
  }
  WARMFORK_TRY_ASSIGN(const std::uint64_t state, vm->call(Call::kState));
  if (!vm->machine_->memory().layout().is_protectable(Gva{state}, sizeof(State))) {
    return vm->broken_protocol(fmt::format("state at {:#x}, which is not its memory", state));
  }
  vm->state_ = Gva{state};
  WARMFORK_TRY(vm->power_on(options));
  vm->start_times_.power_on_ns = lap_ns();
  return vm;
}

std::unique_ptr<Lc3Vm> Lc3Vm::attach(Guest& guest, std::uint64_t instruction_budget) const {
  std::unique_ptr<Lc3Vm> vm(new Lc3Vm);
  vm->left_ = instruction_budget;
  vm->instructions_ = instructions_;
  vm->guest_ = &guest;
  vm->functions_ = functions_;
  vm->ports_ = ports_;
  vm->state_ = state_;
  vm->instrumentation_ = instrumentation_;
  vm->input_head_ = input_head_;
  vm->output_tail_ = output_tail_;
  vm->code_ = code_;
  vm->patience_ = patience_;
  vm->counting_ = counting_;
  vm->counting_code_ = counting_code_;
  if (counted_ != nullptr) vm->counted_ = std::make_unique<Instrumentation>(*counted_);
  if (code_ != nullptr && !shared_) {
    const auto words =
        guest_->memory().read_value<std::array<std::uint16_t, kMemoryWords>>(state_ + offsetof(State, memory));
    if (words) code_->cache.share(*words);  // unreadable: a guest that is over has no forks
    shared_ = true;
  }
  return vm;
}

Failure Lc3Vm::broken_protocol(const std::string& what) {
  return guest_->condemn(fmt::format("the LC-3 guest breaks its protocol: {}", what));
}

Result<std::uint64_t> Lc3Vm::call(Call which, std::initializer_list<std::uint64_t> arguments, CallOptions options) {
  return guest_->call(functions_[static_cast<std::size_t>(which)], {arguments.begin(), arguments.size()}, options);
}

Result<Gva> Lc3Vm::put_words(std::span<const std::uint16_t> words) {
  return guest_->put_buffer(0, std::as_bytes(words));
}

Status Lc3Vm::power_on(const Lc3Options& options) {
  WARMFORK_TRY(
      call(Call::kConfigure, {config_flags(options), options.randomise ? 1U : 0U, options.randomise.value_or(0)}));
  input_head_ = 0;
  output_tail_ = 0;
  stopped_between_ = false;
  if (code_ != nullptr) {
    if (!code_->cache.shared()) code_->cache.clear();  // else others execute what is there
    const bool eager = options.engine == Engine::kXbyak || options.engine == Engine::kOrc;
    patience_ = eager ? kEagerPatience : kAutoPatience;
    compile_first_ = eager;
    lost_seen_ = 0;
    WARMFORK_TRY(call(Call::kUseCode, {1, 0, patience_}));
  }
  if (options.load_os) {
    WARMFORK_TRY(load(os_image(options.edition == 2 ? Edition::kSecond : Edition::kThird)));
    WARMFORK_TRY(call(Call::kCaptureVectors));
  }
  if (options.supervisor_start) {
    WARMFORK_TRY(write_register(kRegisterPsr, kPsrZ));
    WARMFORK_TRY(write_register(static_cast<RegisterId>(6), kInitialSsp));
  }
  return {};
}

Status Lc3Vm::load(const Program& program) {
  for (const Segment& segment : program.segments) {
    WARMFORK_TRY_ASSIGN(const Gva words, put_words(segment.words));
    WARMFORK_TRY_ASSIGN(const std::uint64_t loaded,
                        call(Call::kLoad, {words.value, segment.origin, segment.words.size()}));
    if (loaded != 1) return reaches_devices(program, segment);
  }
  shared_ = false;
  return write_register(kRegisterPc, program.entry());
}

Status Lc3Vm::place(const Program& program) {
  for (const Segment& segment : program.segments) {
    if (segment.end() > kDeviceBase) return reaches_devices(program, segment);
  }
  AddressSpace& memory = guest_->memory();
  for (const Segment& segment : program.segments) {
    WARMFORK_TRY(memory.write(state_ + (offsetof(State, memory) + std::uint64_t{2} * segment.origin),
                              std::as_bytes(std::span(segment.words))));
  }
  const std::uint16_t entry = program.entry();
  WARMFORK_TRY(memory.write(state_ + offsetof(State, pc), std::as_bytes(std::span(&entry, 1))));
  shared_ = false;
  if (code_ == nullptr) return {};
  // As forget_code() of the core: the words that code was made from may have changed.
  const std::uint64_t none = 0;
  WARMFORK_TRY(memory.write(state_ + offsetof(State, code), std::as_bytes(std::span(&none, 1))));
  return memory.write(state_ + (offsetof(State, code_use) + offsetof(CodeUse, examined)),
                      std::as_bytes(std::span(&none, 1)));
}

Result<RunResult> Lc3Vm::run(std::uint64_t budget, CallOptions options) {
  if (stopped_between_) return fail(ErrorKind::kUsage, "a run while a stopped one waits to be resumed");
  const std::uint64_t begin = options.timeout_ns == 0 ? 0 : monotonic_ns();
  budget = std::min(budget, left_);
  // Else the budget is that of the run that waits to be resumed.
  if (!guest_->ready()) return finish_run(call(Call::kRun, {budget}, run_options(options)), options, begin);
  running_budget_ = budget;
  running_executed_ = 0;
  std::uint64_t version = 0;
  if (std::exchange(compile_first_, false)) {
    WARMFORK_TRY_ASSIGN(const auto pc, guest_->memory().read_value<std::uint16_t>(state_ + offsetof(State, pc)));
    WARMFORK_TRY_ASSIGN(version, compile(pc));
  }
  return finish_run(call(Call::kRun, {budget, version}, run_options(options)), options, begin);
}

Result<RunResult> Lc3Vm::resume(CallOptions options) {
  const std::uint64_t begin = options.timeout_ns == 0 ? 0 : monotonic_ns();
  if (std::exchange(stopped_between_, false)) {
    return finish_run(call(Call::kRun, {running_budget_, stopped_with_, patience_}, run_options(options)), options,
                      begin);
  }
  return finish_run(guest_->resume(run_options(options)), options, begin);
}

Result<RunResult> Lc3Vm::finish_run(Result<std::uint64_t> stop, CallOptions options, std::uint64_t begin) {
  while (true) {
    WARMFORK_TRY_ASSIGN(RunResult result, check_run(stop));
    if (result.stop != StopReason::kCompile) {
      result.executed += running_executed_;
      return result;
    }
    if (code_ == nullptr || result.executed == 0) {
      return broken_protocol(fmt::format("a run wants to be compiled after {} instructions", result.executed));
    }
    running_executed_ += result.executed;
    running_budget_ -= result.executed;
    WARMFORK_TRY_ASSIGN(const std::uint64_t version, compile(result.pc));
    CallOptions rest = options;
    if (options.timeout_ns != 0) {
      const std::uint64_t passed = monotonic_ns() - begin;
      if (passed >= options.timeout_ns) {
        stopped_between_ = true;
        stopped_with_ = version;
        return fail(ErrorKind::kDeadline, "deadline of {} ns passed", options.timeout_ns);
      }
      rest.timeout_ns = options.timeout_ns - passed;
    }
    stop = call(Call::kRun, {running_budget_, version, patience_}, run_options(rest));
  }
}

Result<RunResult> Lc3Vm::check_run(const Result<std::uint64_t>& stop) {
  if (!stop) return Failure(stop.error());
  WARMFORK_TRY_ASSIGN(const RunResult result, guest_->memory().read_value<RunResult>(state_ + offsetof(State, result)));
  const auto reason = static_cast<std::uint64_t>(result.stop);
  if (reason == 0 || reason >= kStopReasonCount || reason != *stop || result.executed > running_budget_) {
    return broken_protocol(fmt::format("run of {} instructions reports stop {} / {} after {}", running_budget_, *stop,
                                       reason, result.executed));
  }
  left_ -= result.executed;
  instructions_.add(result.executed);
  return result;
}

Result<std::uint64_t> Lc3Vm::compile(std::uint16_t pc) {
  // Copies: what is compiled is what is compared with memory again by the machine itself (warmfork/lc3/code.hpp).
  const auto words = std::make_unique<std::array<std::uint16_t, kMemoryWords>>();
  AddressSpace& memory = guest_->memory();
  WARMFORK_TRY(memory.read(state_ + offsetof(State, memory), std::as_writable_bytes(std::span(*words))));
  WARMFORK_TRY_ASSIGN(const CodeUse use, memory.read_value<CodeUse>(state_ + offsetof(State, code_use)));
  WARMFORK_TRY_ASSIGN(const auto lea_sets_cc, memory.read_value<std::uint32_t>(state_ + offsetof(State, lea_sets_cc)));
  const std::vector<std::uint16_t> lost = jit::lost_since(use, std::exchange(lost_seen_, use.lost_count));
  patience_ = jit::longer_patience(patience_);
  const jit::CodeCache::Request request{.words = *words, .pc = pc, .lea_sets_cc = lea_sets_cc != 0, .lost = lost};
  if (counting_) {
    WARMFORK_TRY(settle_counts());  // before another version uses the same counters
    auto made = code_->cache.compile_counting(request);
    if (!made) code_->cache.count_failure();
    if (!made || made->address == 0) return 0;
    counting_code_ = *std::move(made);
    return counting_code_.address;
  }
  const auto version = code_->cache.compile(request);
  if (!version) code_->cache.count_failure();  // and the machine is left to the interpreter
  return version.value_or(0);
}

Status Lc3Vm::settle_counts() {
  if (counting_code_.unit == nullptr) return {};
  AddressSpace& memory = guest_->memory();
  const Gva where = instrumentation_ + offsetof(Instrumentation, code_counts);
  std::vector<std::uint64_t> counters(jit::counters_of(*counting_code_.unit));
  WARMFORK_TRY(memory.read(where, std::as_writable_bytes(std::span(counters))));
  if (counted_ == nullptr) counted_ = std::make_unique<Instrumentation>();
  jit::add_counts(*counting_code_.unit, *counting_code_.words, counters, *counted_);
  std::ranges::fill(counters, std::uint64_t{0});
  return memory.write(where, std::as_bytes(std::span(counters)));
}

void Lc3Vm::finish_optimising() {
  if (code_ != nullptr && code_->optimiser) code_->optimiser->drain();
}

void Lc3Vm::end_optimising() {
  if (code_ != nullptr && code_->optimiser) code_->optimiser->finish();
}

std::string Lc3Vm::cache_complaint() const { return code_ == nullptr ? "" : code_->cache.disk_complaint(); }

std::string Lc3Vm::names_complaint() const { return code_ == nullptr ? "" : code_->cache.names_complaint(); }

jit::CacheCounters Lc3Vm::code_counters() const {
  return code_ == nullptr ? jit::CacheCounters{} : code_->cache.counters();
}

Result<std::vector<TraceRecord>> Lc3Vm::trace(std::uint64_t count) {
  constexpr std::uint64_t kMost = kCallAreaBytes / sizeof(TraceRecord);
  const Gva buffer = guest_->memory().call_area().begin;
  const std::uint64_t wanted = std::min(count, kMost);
  WARMFORK_TRY_ASSIGN(const std::uint64_t done, call(Call::kTrace, {wanted, buffer.value}));
  if (done > wanted) return broken_protocol(fmt::format("{} trace records, asked for {}", done, wanted));
  std::vector<TraceRecord> records(done);
  WARMFORK_TRY(guest_->memory().read(buffer, std::as_writable_bytes(std::span(records))));
  return records;
}

Result<TimedRuns> Lc3Vm::time_runs(std::uint64_t budget, std::uint64_t count) {
  const std::uint64_t wanted = std::min(count, kCallAreaBytes / sizeof(TimedRun));
  const Gva buffer = guest_->memory().call_area().begin;
  WARMFORK_TRY_ASSIGN(const std::uint64_t done, call(Call::kTimeRuns, {budget, wanted, buffer.value}));
  const std::uint64_t returned = tsc_now();
  if (done > wanted) return broken_protocol(fmt::format("{} runs timed, asked for {}", done, wanted));
  TimedRuns timed;
  if (done < wanted) {
    WARMFORK_TRY_ASSIGN(const auto stopped, guest_->memory().read_value<RunResult>(state_ + offsetof(State, result)));
    timed.compiled = stopped.stop == StopReason::kCompile;
  }
  std::uint64_t compiling = 0;
  if (timed.compiled) {
    running_budget_ = budget;
    running_executed_ = 0;
    WARMFORK_TRY_ASSIGN(const RunResult rest, finish_run(static_cast<std::uint64_t>(StopReason::kCompile), {}, 0));
    compiling = tsc_now_ordered() - returned;
    timed.compiled = rest.stop == StopReason::kBudget;
  }
  timed.runs.resize(done + (timed.compiled ? 1 : 0));
  WARMFORK_TRY(guest_->memory().read(buffer, std::as_writable_bytes(std::span(timed.runs))));
  if (timed.compiled) timed.runs.back().ticks += compiling;
  return timed;
}

Result<std::size_t> Lc3Vm::feed(std::span<const std::uint8_t> bytes) {
  AddressSpace& memory = guest_->memory();
  const Gva ring = state_ + offsetof(State, input);
  using Ring = ByteRing<kInputCapacity>;
  WARMFORK_TRY_ASSIGN(const std::uint32_t tail, memory.read_value<std::uint32_t>(ring + offsetof(Ring, tail)));
  const std::uint32_t waiting = input_head_ - tail;
  if (waiting > kInputCapacity) return broken_protocol(fmt::format("input cursor {} behind {}", tail, input_head_));
  const std::size_t count = std::min<std::size_t>(bytes.size(), kInputCapacity - waiting);
  for (std::size_t done = 0; done < count;) {
    const std::uint32_t slot = input_head_ % kInputCapacity;
    const std::size_t chunk = std::min<std::size_t>(count - done, kInputCapacity - slot);
    WARMFORK_TRY(memory.write(ring + (offsetof(Ring, data) + slot), std::as_bytes(bytes.subspan(done, chunk))));
    done += chunk;
    input_head_ += static_cast<std::uint32_t>(chunk);
  }
  WARMFORK_TRY(memory.write(ring + offsetof(Ring, head), std::as_bytes(std::span(&input_head_, 1))));
  return count;
}

Status Lc3Vm::close_input() {
  const std::uint32_t closed = 1;
  return guest_->memory().write(state_ + (offsetof(State, input) + offsetof(ByteRing<kInputCapacity>, closed)),
                                std::as_bytes(std::span(&closed, 1)));
}

Status Lc3Vm::drain(std::string& output) {
  AddressSpace& memory = guest_->memory();
  const Gva ring = state_ + offsetof(State, output);
  using Ring = ByteRing<kOutputCapacity>;
  WARMFORK_TRY_ASSIGN(const std::uint32_t head, memory.read_value<std::uint32_t>(ring + offsetof(Ring, head)));
  const std::uint32_t waiting = head - output_tail_;
  if (waiting == 0) return {};
  if (waiting > kOutputCapacity)
    return broken_protocol(fmt::format("output cursor {} ahead of {}", head, output_tail_));
  const std::size_t begin = output.size();
  output.resize(begin + waiting);
  for (std::uint32_t done = 0; done < waiting;) {
    const std::uint32_t slot = output_tail_ % kOutputCapacity;
    const std::uint32_t chunk = std::min(waiting - done, kOutputCapacity - slot);
    WARMFORK_TRY(memory.read(ring + (offsetof(Ring, data) + slot),
                             std::as_writable_bytes(std::span(output).subspan(begin + done, chunk))));
    done += chunk;
    output_tail_ += chunk;
  }
  return memory.write(ring + offsetof(Ring, tail), std::as_bytes(std::span(&output_tail_, 1)));
}

Result<Registers> Lc3Vm::registers() {
  // Straight from the State: thirteen vmcalls would be the cost of a debugger's every stop.
  using Words = std::array<std::uint16_t, 16>;
  static_assert(offsetof(State, registers) == 0 && offsetof(State, config) >= sizeof(Words));
  WARMFORK_TRY_ASSIGN(const Words words, guest_->memory().read_value<Words>(state_));
  const auto at = [&](std::size_t offset) { return words[offset / sizeof(std::uint16_t)]; };
  Registers registers;
  std::copy_n(words.begin(), registers.general.size(), registers.general.begin());
  registers.pc = at(offsetof(State, pc));
  const std::uint16_t last = at(offsetof(State, last_result));
  const std::uint16_t condition = (last & 0x8000) != 0 ? kPsrN : last == 0 ? kPsrZ : kPsrP;
  registers.psr = static_cast<std::uint16_t>((at(offsetof(State, psr_system)) & (kPsrUser | kPsrPriority)) | condition);
  registers.saved_ssp = at(offsetof(State, saved_ssp));
  registers.saved_usp = at(offsetof(State, saved_usp));
  registers.mcr = at(offsetof(State, mcr));
  return registers;
}

Status Lc3Vm::write_register(RegisterId id, std::uint16_t value) {
  WARMFORK_TRY(call(Call::kWriteRegister, {id, value}));
  return {};
}

Result<std::vector<std::uint16_t>> Lc3Vm::read_memory(std::uint16_t address, std::uint32_t count) {
  if (count > kMemoryWords) return fail(ErrorKind::kUsage, "{} words of memory, there are {}", count, kMemoryWords);
  const Gva buffer = guest_->memory().call_area().begin;
  WARMFORK_TRY(call(Call::kReadMemory, {address, buffer.value, count}));
  std::vector<std::uint16_t> words(count);
  WARMFORK_TRY(guest_->memory().read(buffer, std::as_writable_bytes(std::span(words))));
  return words;
}

Status Lc3Vm::write_memory(std::uint16_t address, std::span<const std::uint16_t> words) {
  if (words.size() > kMemoryWords)
    return fail(ErrorKind::kUsage, "{} words of memory, there are {}", words.size(), kMemoryWords);
  WARMFORK_TRY_ASSIGN(const Gva buffer, put_words(words));
  WARMFORK_TRY(call(Call::kWriteMemory, {address, buffer.value, words.size()}));
  return {};
}

Status Lc3Vm::instrument(InstrumentMode mode) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t address, call(Call::kInstrument, {static_cast<std::uint64_t>(mode)}));
  instrumentation_ = Gva{0};
  counting_ = false;
  counted_.reset();
  if (mode == InstrumentMode::kOff) return {};
  if (address == 0)
    return fail(ErrorKind::kLimit, "the LC-3 guest has no memory for {} bytes of statistics", sizeof(Instrumentation));
  if (!guest_->memory().layout().is_protectable(Gva{address}, sizeof(Instrumentation))) {
    return broken_protocol(fmt::format("statistics at {:#x}, which is not its memory", address));
  }
  instrumentation_ = Gva{address};
  counting_ = mode == InstrumentMode::kCollect && code_ != nullptr;
  if (counting_) {
    patience_ = std::min(patience_, kCountingPatience);
    WARMFORK_TRY(call(Call::kUseCode, {1, 0, patience_}));
  }
  return {};
}

Status Lc3Vm::watch(std::uint16_t address, std::uint32_t count, std::uint8_t flags) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t done, call(Call::kWatch, {address, count, flags}));
  if (done != 1) return fail(ErrorKind::kUsage, "watch flags need instrumentation");
  return {};
}

Result<std::unique_ptr<Instrumentation>> Lc3Vm::statistics() {
  if (instrumentation_.value == 0) return fail(ErrorKind::kUsage, "statistics need instrumentation");
  if (counting_) WARMFORK_TRY(settle_counts());
  auto copy = std::make_unique<Instrumentation>();
  WARMFORK_TRY(guest_->memory().read(instrumentation_, std::as_writable_bytes(std::span(copy.get(), 1))));
  if (counted_ == nullptr) return copy;
  const auto add = [&](auto member) {
    const auto& more = (*counted_).*member;
    auto& counts = (*copy).*member;
    for (std::size_t i = 0; i < std::size(counts); ++i) counts[i] += more[i];
  };
  add(&Instrumentation::opcodes);
  add(&Instrumentation::register_reads);
  add(&Instrumentation::register_writes);
  add(&Instrumentation::branches_taken);
  add(&Instrumentation::branches_not_taken);
  add(&Instrumentation::executions);
  add(&Instrumentation::memory_reads);
  add(&Instrumentation::memory_writes);
  return copy;
}

Result<std::optional<std::uint8_t>> Lc3Vm::last_exception() {
  WARMFORK_TRY_ASSIGN(const Counters counts, counters());
  if (counts.exceptions == 0) return std::nullopt;
  WARMFORK_TRY_ASSIGN(const auto vector,
                      guest_->memory().read_value<std::uint32_t>(state_ + offsetof(State, last_exception)));
  if (vector > kAccessException) return broken_protocol(fmt::format("exception x{:X}", vector));
  return static_cast<std::uint8_t>(vector);
}

Result<Counters> Lc3Vm::counters() { return guest_->memory().read_value<Counters>(state_ + offsetof(State, counters)); }

Result<std::vector<std::byte>> Lc3Vm::save_state() {
  std::vector<std::byte> state(sizeof(State));
  WARMFORK_TRY(guest_->memory().read(state_, state));
  return state;
}

Status Lc3Vm::restore_state(std::span<const std::byte> state) {
  if (state.size() != sizeof(State))
    return fail(ErrorKind::kUsage, "state of {} bytes, it has {}", state.size(), sizeof(State));
  WARMFORK_TRY(guest_->memory().write(state_, state));
  stopped_between_ = false;
  // What it had may be gone, or another machine's.
  WARMFORK_TRY(call(Call::kUseCode, {code_ != nullptr ? 1U : 0U, 0, patience_}));
  // The host's cursors go back with the machine: what was drained or fed after the checkpoint never happened.
  std::memcpy(&input_head_, state.data() + offsetof(State, input) + offsetof(ByteRing<kInputCapacity>, head), 4);
  std::memcpy(&output_tail_, state.data() + offsetof(State, output) + offsetof(ByteRing<kOutputCapacity>, tail), 4);
  return {};
}

const char* describe(StopReason stop) {
  switch (stop) {
    case StopReason::kNone: return "not run";
    case StopReason::kBudget: return "the instruction budget is used up";
    case StopReason::kHalted: return "halted";
    case StopReason::kInputNeeded: return "waits for input";
    case StopReason::kInputExhausted: return "waits for input, and there is no more";
    case StopReason::kOutputFull: return "waits for its output to be read";
    case StopReason::kOutputPending: return "has shown something and looks for input";
    case StopReason::kIdle: return "waits for input in a loop";
    case StopReason::kBreakpoint: return "breakpoint";
    case StopReason::kWatchpoint: return "watchpoint";
    case StopReason::kUnhandledException: return "exception without a handler";
    case StopReason::kUnhandledInterrupt: return "interrupt without a handler";
    case StopReason::kUnhandledTrap: return "trap without a routine";
    case StopReason::kCompile: return "wants to be compiled";
    case StopReason::kWaiting: return "waits for the other end of a port";
  }
  return "unknown";
}

const char* stop_name(StopReason stop) {
  switch (stop) {
    case StopReason::kNone: return "none";
    case StopReason::kBudget: return "budget";
    case StopReason::kHalted: return "halted";
    case StopReason::kInputNeeded: return "input_needed";
    case StopReason::kInputExhausted: return "input_exhausted";
    case StopReason::kOutputFull: return "output_full";
    case StopReason::kOutputPending: return "output_pending";
    case StopReason::kIdle: return "idle";
    case StopReason::kBreakpoint: return "breakpoint";
    case StopReason::kWatchpoint: return "watchpoint";
    case StopReason::kUnhandledException: return "unhandled_exception";
    case StopReason::kUnhandledInterrupt: return "unhandled_interrupt";
    case StopReason::kUnhandledTrap: return "unhandled_trap";
    case StopReason::kCompile: return "compile";
    case StopReason::kWaiting: return "waiting";
  }
  return "unknown";
}

}  // namespace warmfork::lc3
