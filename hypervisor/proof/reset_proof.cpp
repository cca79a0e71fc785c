#include "proof/reset_proof.hpp"

#include "machine/machine.hpp"
#include "machine/vcpu_state.hpp"
#include "probes/scribble/scribble.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <random>
#include <span>

extern "C" const unsigned char warmfork_scribble_guest_begin[];
extern "C" const unsigned char warmfork_scribble_guest_end[];

namespace warmfork {
namespace {

using scribble::Crash;
using scribble::Range;
using scribble::StateReport;

constexpr std::size_t kHomes = 3;  // two forks that are attacked, and one that is made anew now and then
constexpr std::size_t kCpus = 2;   // of `space` forks
constexpr std::uint64_t kPatience = 60'000'000'000;
constexpr std::uint64_t kRangesOffset = 0x4000;  // in the call area, behind the report
constexpr std::uint64_t kWorkSeed = 4711;
constexpr std::uint64_t kWorkSteps = 40;
constexpr std::uint64_t kHostileSteps = 60;
constexpr std::byte kReadOnlyByte{0x5a};
constexpr std::uint64_t kSeededShare = 8;  // of so many resets, all but one are of forks with a seed

using Random = std::mt19937_64;
std::uint64_t below(Random& random, std::uint64_t bound) { return random() % bound; }

struct Call {
  linux_abi::SyscallRequest request;
  std::int64_t result = 0;
  friend bool operator==(const Call& a, const Call& b) {
    return a.request.number == b.request.number && a.request.arguments == b.request.arguments && a.result == b.result;
  }
};

std::string to_text(const Call& call) {
  const auto& a = call.request.arguments;
  return fmt::format("{}({:#x}, {:#x}, {:#x}) = {}", linux_abi::syscall_name(call.request.number), a[0], a[1], a[2],
                     call.result);
}

// What a fresh fork shows, at one place.
struct Record {
  std::vector<std::byte> window;
  std::vector<std::byte> tables;
  std::string book;
  VcpuState staged;  // registers as they are loaded, before the first instruction
  StateReport report{};
  VcpuState reported;  // the vCPU behind that call
  std::vector<Call> calls;
  std::uint64_t worked = 0;
  std::vector<std::byte> worked_window;
  VcpuState worked_state;
  std::string crash;
  VcpuState crashed;
};

std::string describe(const linux_abi::Process::Book& book) {
  return fmt::format("heap: {}; fs {:#x}, gs {:#x}, AT_RANDOM at {:#x}", book.heap.describe(), book.fs_base,
                     book.gs_base, book.random_bytes.value);
}

std::uint64_t count_registers(const VcpuState& state) {
  // General purpose, RIP, RFLAGS; segments, tables, control; x87, SSE, their control words; DR0 to DR7, events, MP
  // state.
  constexpr std::uint64_t kAlways = 18 + 8 + 2 + 8 + 14 + 17 + 6 + 2;
  return kAlways + state.xsave_layout.size() + state.msrs.size() + state.xcrs.nr_xcrs;
}

// --- One kind, population and mode -----------------------------------------------------------------------------------

class Combination {
 public:
  Combination(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot, const CaptureContext& context,
              const ResetProofOptions& options, ResetProofResult& result, std::uint64_t guest_options,
              bool keeps_x87_pointers)
      : kvm_(kvm),
        snapshot_(std::move(snapshot)),
        context_(context),
        options_(options),
        result_(result),
        guest_options_(guest_options),
        keeps_x87_pointers_(keeps_x87_pointers),
        random_(options.seed) {}

  // False: progress() wants it to end.
  Result<bool> run(bool seeded, std::uint64_t resets, std::uint64_t done_before);

 private:
  struct Place {
    std::size_t home;
    std::size_t cpu;
  };
  // What a round looks at; a record looks at everything.
  struct Depth {
    bool memory = true;  // the host looks before the guest does
    bool staged = true;
    bool work = true;
    bool crash = true;
  };
  struct Source {
    std::unique_ptr<ForkSource> forks;
    std::array<GuestCpu*, kCpus> cpus{};
  };

  Result<Source> open(bool seeded) const;
  Status make_shared_memory();
  Status make_records();
  Status record(Place place);
  Status observe(Fork& fork, Depth depth);
  Status attack(Fork& fork, Source& source);
  Result<std::uint64_t> call(Fork& fork, const char* name, std::span<const std::uint64_t> arguments,
                             std::uint64_t timeout_ns = kPatience);
  Result<std::uint64_t> act(Fork& fork, const char* what, const char* name, std::span<const std::uint64_t> arguments,
                            std::uint64_t timeout_ns = kPatience);
  std::size_t cpus() const { return result_.kind == ForkKind::kSpace ? kCpus : 1; }
  std::size_t homes() const { return result_.kind == ForkKind::kSpace ? kHomes : 1; }

  // The guest's memory, as ranges for its calls.
  std::vector<Range> writable() const;
  std::vector<Range> readable() const;
  std::vector<Range> attacked() const;
  Result<Gva> put(Fork& fork, const std::vector<Range>& ranges) const;

  void differ(std::string what);
  void check_memory(Fork& fork, std::vector<std::byte>& expected, const char* when, bool random_parts_differ);
  void check_life(Fork& fork);
  void check_state(Fork& fork, VcpuState& expected, const VcpuState& found, const char* when, bool extended);
  void check_report(const StateReport& expected, const StateReport& found);

  const kvm::Kvm& kvm_;
  std::shared_ptr<const Snapshot> snapshot_;
  const CaptureContext& context_;
  const ResetProofOptions& options_;
  ResetProofResult& result_;
  std::uint64_t guest_options_;
  bool keeps_x87_pointers_;
  Random random_;
  SharedBindings shared_;  // of all forks: a read-write and a read-only memory
  bool seeded_ = true;
  bool recording_ = false;
  Record* record_ = nullptr;  // of the place at hand
  std::array<std::array<Record, kCpus>, kHomes> records_;
  std::uint64_t last_generation_ = 0;
  std::array<std::byte, 80> last_random_{};
  std::uint64_t next_crash_ = 0;
  std::string round_;  // for differences: what was done
};

std::vector<Range> Combination::writable() const {
  std::vector<Range> ranges;
  for (const GuestLayout::Piece& piece : snapshot_->layout()->pieces()) {
    if (piece.in_window && piece.access.user && piece.access.write) {
      ranges.push_back({piece.range.begin.value, piece.range.size});
    }
  }
  return ranges;
}

// What is attacked: also what others share. The work that is compared leaves that out, as nobody puts it back.
std::vector<Range> Combination::attacked() const {
  std::vector<Range> ranges = writable();
  for (const GuestLayout::SharedRegion& region : snapshot_->layout()->shared_regions()) {
    if (region.access == SharedAccess::kReadWrite) ranges.push_back({region.range.begin.value, region.range.size});
  }
  return ranges;
}

std::vector<Range> Combination::readable() const {
  std::vector<Range> ranges;
  const std::uint64_t at_random = snapshot_->book().random_bytes.value;
  for (const GuestLayout::Piece& piece : snapshot_->layout()->pieces()) {
    if (!piece.access.user) continue;
    const Range all{piece.range.begin.value, piece.range.size};
    if (all.begin == WARMFORK_FORK_PAGE) {
      ranges.push_back({all.begin, WARMFORK_FORK_INFO_OFFSET});
      // Without a seed all of ForkInfo is a fork's own, with one the generation is.
      const std::uint64_t own = seeded_ ? sizeof(ForkInfo::generation) : sizeof(ForkInfo);
      const std::uint64_t rest = WARMFORK_FORK_INFO_OFFSET + own;
      ranges.push_back({all.begin + rest, all.size - rest});
    } else if (!seeded_ && at_random - all.begin < all.size) {
      // The hash is of aligned words.
      const std::uint64_t first = at_random & ~std::uint64_t{7};
      const std::uint64_t last = (at_random + 16 + 7) & ~std::uint64_t{7};
      ranges.push_back({all.begin, first - all.begin});
      ranges.push_back({last, all.begin + all.size - last});
    } else {
      ranges.push_back(all);
    }
  }
  return ranges;
}

Result<Gva> Combination::put(Fork& fork, const std::vector<Range>& ranges) const {
  if (ranges.size() > scribble::kMaxRanges) return fail(ErrorKind::kLimit, "{} ranges of memory", ranges.size());
  return fork.put_buffer(kRangesOffset, std::as_bytes(std::span(ranges)));
}

Result<std::uint64_t> Combination::call(Fork& fork, const char* name, std::span<const std::uint64_t> arguments,
                                        std::uint64_t timeout_ns) {
  WARMFORK_TRY_ASSIGN(const Gva function, fork.find_vmcall(name));
  return fork.call(function, arguments, {.timeout_ns = timeout_ns});
}

void Combination::differ(std::string what) {
  ++result_.differing;
  if (result_.differences.size() >= options_.keep_differences) return;
  result_.differences.push_back(
      fmt::format("reset {}{} ({}): {}", result_.resets + 1, seeded_ ? "" : ", no seed", round_, std::move(what)));
}

// `expected` becomes what this life is allowed to have of its own.
void Combination::check_memory(Fork& fork, std::vector<std::byte>& expected, const char* when,
                               bool random_parts_differ) {
  const std::span<const std::byte> window = fork.memory().window();
  if (recording_) {
    expected.assign(window.begin(), window.end());
    return;
  }
  const GuestLayout& layout = *snapshot_->layout();
  const auto take_over = [&](Gva from, std::size_t size) {
    const std::uint64_t offset = *layout.window_offset(from);
    std::memcpy(&expected[offset], &window[offset], size);
  };
  const Gva info{WARMFORK_FORK_PAGE + WARMFORK_FORK_INFO_OFFSET};
  take_over(info + offsetof(ForkInfo, generation), sizeof(ForkInfo::generation));
  if (random_parts_differ) {
    take_over(info + offsetof(ForkInfo, random), sizeof(ForkInfo::random));
    take_over(snapshot_->book().random_bytes, 16);
  }
  result_.bytes += window.size();
  if (std::memcmp(window.data(), expected.data(), window.size()) == 0) return;
  std::size_t bytes = 0;
  std::size_t first = window.size();
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (window[i] == expected[i]) continue;
    first = std::min(first, i);
    ++bytes;
  }
  for (const GuestLayout::Piece& piece : layout.pieces()) {
    if (!piece.in_window || first - piece.offset >= piece.range.size) continue;
    differ(fmt::format("memory {}: {:#x} in {}: {:#x} != {:#x} ({} bytes differ in all)", when,
                       (piece.range.begin + (first - piece.offset)).value, piece.what,
                       std::to_integer<unsigned>(expected[first]), std::to_integer<unsigned>(window[first]), bytes));
  }
}

// What every life must have of its own.
void Combination::check_life(Fork& fork) {
  const std::span<const std::byte> window = fork.memory().window();
  ForkInfo info;
  std::memcpy(&info, &window[*snapshot_->layout()->window_offset(Gva{WARMFORK_FORK_PAGE + WARMFORK_FORK_INFO_OFFSET})],
              sizeof info);
  if (info.generation <= last_generation_ || info.generation != fork.generation()) {
    differ(fmt::format("generation {} comes after {}", info.generation, last_generation_));
  }
  last_generation_ = info.generation;
  if (seeded_) return;
  std::array<std::byte, 80> now{};
  std::memcpy(now.data(), info.random, sizeof info.random);
  std::memcpy(&now[64], &window[*snapshot_->layout()->window_offset(snapshot_->book().random_bytes)], 16);
  for (std::size_t i = 0; i < now.size(); i += 16) {
    if (std::memcmp(&now[i], &last_random_[i], 16) == 0) differ("random bytes are those of an earlier life");
  }
  last_random_ = now;
}

void Combination::check_state(Fork& fork, VcpuState& expected, const VcpuState& found, const char* when,
                              bool extended) {
  (void)fork;
  if (recording_) {
    expected = found;
    return;
  }
  result_.registers += count_registers(found);
  for (const std::string& difference : compare(expected, found)) {
    // Between the load of the registers and the first instruction, which loads the extended state, it is still the
    // last guest's; no instruction of the next sees it.
    if (!extended && difference.starts_with("xsave ")) continue;
    differ(fmt::format("vCPU {}: {}", when, difference));
  }
}

void Combination::check_report(const StateReport& expected, const StateReport& found) {
  result_.bytes += sizeof found;
  const auto look = [&](const std::string& name, const auto& a, const auto& b) {
    if (std::memcmp(&a, &b, sizeof a) == 0) return;
    std::uint64_t x = 0;
    std::uint64_t y = 0;
    std::memcpy(&x, &a, std::min(sizeof x, sizeof a));
    std::memcpy(&y, &b, std::min(sizeof y, sizeof b));
    differ(fmt::format("seen by the guest: {}: {:#x} != {:#x}", name, x, y));
  };
  constexpr std::array kGprs{"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  for (std::size_t i = 0; i < kGprs.size(); ++i) look(kGprs[i], expected.gprs[i], found.gprs[i]);
  look("rflags", expected.rflags, found.rflags);
  look("return address", expected.return_address, found.return_address);
  look("word below the stack", expected.below_stack, found.below_stack);
  look("cs", expected.cs, found.cs);
  look("ss", expected.ss, found.ss);
  look("ds", expected.ds, found.ds);
  look("es", expected.es, found.es);
  look("fs", expected.fs, found.fs);
  look("gs", expected.gs, found.gs);
  look("fs base", expected.fs_base, found.fs_base);
  look("gs base", expected.gs_base, found.gs_base);
  look("mxcsr", expected.mxcsr, found.mxcsr);
  look("pkru", expected.pkru, found.pkru);
  look("xcr0", expected.xcr0, found.xcr0);
  look("hash of all readable memory", expected.memory_hash, found.memory_hash);
  const auto bytes = [&](const char* name, const std::uint8_t* a, const std::uint8_t* b, std::size_t begin,
                         std::size_t end) {
    const auto [x, y] = std::mismatch(a + begin, a + end, b + begin);
    if (x != a + end) differ(fmt::format("seen by the guest: {} byte {}: {:#x} != {:#x}", name, x - a, *x, *y));
  };
  // Bytes 12 to 27 are FIP, FOP, FDP and their segments.
  bytes("fnstenv", expected.x87_environment, found.x87_environment, 0, keeps_x87_pointers_ ? 28 : 12);
  bytes("fxsave", expected.fxsave, found.fxsave, 0, sizeof found.fxsave);
  // XSTATE_BV may be set at will for what is in its initial state (Intel SDM vol. 1, 13.6); the contents count.
  bytes("xsave", expected.xsave, found.xsave, 0, 512);
  bytes("xsave", expected.xsave, found.xsave, 520, sizeof found.xsave);
}

// Looks at a fork that is as new, and has it do the next things. Ends with a fork that is not new any more.
Status Combination::observe(Fork& fork, Depth depth) {
  Record& record = *record_;
  WARMFORK_TRY_ASSIGN(const Gva report_function, fork.find_vmcall("report_state"));
  if (!fork.ready()) {
    differ("the fork is not ready");
    return {};
  }
  check_life(fork);
  if (depth.memory) check_memory(fork, record.window, "after the reset", !seeded_);
  const std::span<const std::byte> tables = fork.memory().regions().tables;
  const std::string book = describe(fork.process().book());
  if (recording_) {
    record.tables.assign(tables.begin(), tables.end());
    record.book = book;
  }
  result_.bytes += tables.size();
  if (std::memcmp(tables.data(), record.tables.data(), tables.size()) != 0) {
    const auto at = std::ranges::mismatch(tables, record.tables).in1 - tables.begin();
    differ(fmt::format("page tables: entry {} of table {}", at % static_cast<long>(kPage) / 8,
                       at / static_cast<long>(kPage)));
  }
  if (book != record.book) differ(fmt::format("the process's book: {} != {}", record.book, book));

  const std::vector<Range> ranges = readable();
  const Gva area = fork.memory().call_area().begin;
  WARMFORK_TRY_ASSIGN(const Gva list, put(fork, ranges));
  const std::array<std::uint64_t, 4> arguments{area.value, guest_options_, list.value, ranges.size()};
  if (depth.staged) {
    WARMFORK_TRY(fork.stage(report_function, arguments));
    WARMFORK_TRY_ASSIGN(const VcpuState state, capture(fork.vcpu(), context_));
    check_state(fork, record.staged, state, "with its registers loaded", false);
  }
  auto reported = fork.call(report_function, arguments, {.timeout_ns = kPatience});
  if (!reported) {
    differ(fmt::format("the first call: {}", reported.error().message));
    return {};
  }
  WARMFORK_TRY_ASSIGN(const StateReport report, fork.memory().read_value<StateReport>(area));
  if (recording_) record.report = report;
  check_report(record.report, report);
  // What of the report is not compared must not be in memory either when that is compared again.
  const auto blank = [&](std::size_t offset, std::size_t size) -> Status {
    WARMFORK_TRY(fork.put_buffer(offset, std::vector<std::byte>(size)));
    return {};
  };
  WARMFORK_TRY(blank(offsetof(StateReport, xinuse), sizeof report.xinuse));
  WARMFORK_TRY(blank(offsetof(StateReport, xsave) + 512, 8));
  if (!keeps_x87_pointers_) WARMFORK_TRY(blank(offsetof(StateReport, x87_environment) + 12, 16));
  WARMFORK_TRY_ASSIGN(const VcpuState after_report, capture(fork.vcpu(), context_));
  check_state(fork, record.reported, after_report, "after the first call", true);

  if (depth.work) {
    std::vector<Call> calls;
    fork.process().set_trace(
        [&](const linux_abi::SyscallRecord& served) { calls.push_back({served.request, served.outcome.result}); });
    const std::vector<Range> targets = writable();
    auto where = put(fork, targets);
    const std::array<std::uint64_t, 5> work{kWorkSeed, kWorkSteps, where ? where->value : 0, targets.size(), 0};
    const auto worked = call(fork, "random_scribble", work);
    fork.process().set_trace({});
    if (!worked) {
      differ(fmt::format("the following work: {}", worked.error().message));
      return {};
    }
    if (recording_) {
      record.calls = calls;
      record.worked = *worked;
    }
    result_.system_calls += calls.size();
    for (std::size_t i = 0; i < std::min(calls.size(), record.calls.size()); ++i) {
      if (calls[i] == record.calls[i]) continue;
      differ(fmt::format("system call {}: {} != {}", i, to_text(record.calls[i]), to_text(calls[i])));
      break;
    }
    if (calls.size() != record.calls.size()) {
      differ(fmt::format("{} system calls != {}", record.calls.size(), calls.size()));
    }
    if (*worked != record.worked) {
      differ(fmt::format("result of the work: {:#x} != {:#x}", record.worked, *worked));
    }
    // Without a seed the work's own random bytes are all over its memory.
    if (seeded_) check_memory(fork, record.worked_window, "after the following work", false);
    WARMFORK_TRY_ASSIGN(const VcpuState after_work, capture(fork.vcpu(), context_));
    check_state(fork, record.worked_state, after_work, "after the following work", true);
  }
  // The crash comes after the work in the record.
  if (depth.work && depth.crash) {
    const std::array<std::uint64_t, 1> which{static_cast<std::uint64_t>(Crash::kNullWrite)};
    const auto ended = call(fork, "crash", which);
    const std::string crash = ended ? "it returned" : ended.error().message;
    if (recording_) record.crash = crash;
    if (crash != record.crash) differ(fmt::format("a crash: {} != {}", record.crash, crash));
    WARMFORK_TRY_ASSIGN(const VcpuState after_crash, capture(fork.vcpu(), context_));
    check_state(fork, record.crashed, after_crash, "after a crash", true);
  }
  return {};
}

Result<Combination::Source> Combination::open(bool seeded) const {
  ForkOptions options{.kind = result_.kind, .population = result_.population, .reset = result_.mode};
  if (seeded) options.seed = options_.seed;
  options.shared = shared_;
  Source source;
  WARMFORK_TRY_ASSIGN(source.forks, make_fork_source(kvm_, snapshot_, options, kHomes));
  for (std::size_t i = 0; i < cpus(); ++i) {
    WARMFORK_TRY_ASSIGN(source.cpus[i], source.forks->make_cpu());
  }
  return source;
}

Status Combination::make_shared_memory() {
  for (int i = 0; i < 2; ++i) {
    WARMFORK_TRY_ASSIGN(auto memory, SharedMemory::create(options_.shared_bytes));
    shared_.push_back(std::move(memory));
  }
  std::ranges::fill(shared_[1]->bytes(), kReadOnlyByte);
  return {};
}

Status Combination::record(Place place) {
  WARMFORK_TRY_ASSIGN(Source source, open(seeded_));
  std::vector<std::unique_ptr<Fork>> forks;  // homes are given in order
  for (std::size_t home = 0; home <= place.home; ++home) {
    WARMFORK_TRY_ASSIGN(auto fork, source.forks->make());
    forks.push_back(std::move(fork));
  }
  Fork& fork = *forks.back();
  if (source.cpus[place.cpu] != nullptr) WARMFORK_TRY(fork.bind(*source.cpus[place.cpu]));
  record_ = &records_[place.home][place.cpu];
  return observe(fork, {});
}

Status Combination::make_records() {
  for (std::size_t home = 0; home < homes(); ++home) {
    for (std::size_t cpu = 0; cpu < cpus(); ++cpu) {
      recording_ = true;
      WARMFORK_TRY(record({home, cpu}));
      recording_ = false;
    }
  }
  // A fresh fork is like a fresh fork: else nothing could be told from a difference.
  round_ = "two fresh forks";
  return record({0, 0});
}

Result<std::uint64_t> Combination::act(Fork& fork, const char* what, const char* name,
                                       std::span<const std::uint64_t> arguments, std::uint64_t timeout_ns) {
  ++result_.acts[what];
  round_ += fmt::format("{}{}", round_.empty() ? "" : ", ", what);
  auto result = call(fork, name, arguments, timeout_ns);
  if (!result && result.error().kind == ErrorKind::kHost) return result;
  return 0;  // how a hostile guest ends is its own affair
}

// One hostile act. The fork may have ended already; then nothing happens.
Status Combination::attack(Fork& fork, Source& source) {
  if (source.cpus[0] != nullptr) WARMFORK_TRY(fork.bind(*source.cpus[below(random_, kCpus)]));
  if (!fork.ready()) return {};
  const std::vector<Range> ranges = attacked();
  WARMFORK_TRY_ASSIGN(const Gva list, put(fork, ranges));
  const std::uint64_t seed = random_();
  if (!shared_.empty() && below(random_, 8) == 0) {
    const AddressRange range = snapshot_->layout()->shared_regions()[1].range;
    WARMFORK_TRY_ASSIGN(const Gva forbidden, put(fork, std::vector<Range>{{range.begin.value, range.size}}));
    WARMFORK_TRY(act(fork, "read-only memory", "scribble_memory", std::array{seed, forbidden.value, std::uint64_t{1}}));
    return {};
  }
  const std::uint64_t options = guest_options_ | (below(random_, 2) == 0 ? SCRIBBLE_PENDING : 0U);
  const std::array<std::uint64_t, 4> all{seed, options, list.value, ranges.size()};
  const std::array<std::uint64_t, 3> memory{seed, list.value, ranges.size()};
  std::array<std::uint64_t, 5> work{seed, kHostileSteps, list.value, ranges.size(), 0};
  const std::uint64_t soon = 20'000 + below(random_, 200'000);
  switch (below(random_, 8)) {
    case 0: WARMFORK_TRY(act(fork, "registers", "scribble_registers", all)); break;
    case 1: WARMFORK_TRY(act(fork, "memory", "scribble_memory", memory)); break;
    case 2: WARMFORK_TRY(act(fork, "all", "scribble_all", all)); break;
    case 3: WARMFORK_TRY(act(fork, "random", "random_scribble", work)); break;
    case 4:
      work[4] = SCRIBBLE_KEEP;
      WARMFORK_TRY(act(fork, "random, kept", "random_scribble", work));
      break;
    case 5: {
      const std::uint64_t which = next_crash_++ % static_cast<std::uint64_t>(Crash::kCount);
      const bool loops = static_cast<Crash>(which) == Crash::kInfiniteLoop;
      const std::string name = fmt::format("crash {}", which);
      WARMFORK_TRY(act(fork, name.c_str(), "crash", std::array{which}, loops ? soon : kPatience));
      break;
    }
    case 6: WARMFORK_TRY(act(fork, "deadline", "scribble_all", all, soon)); break;
    default:
      fork.cancel();
      WARMFORK_TRY(act(fork, "cancelled", "scribble_all", all));
      break;
  }
  return {};
}

Result<bool> Combination::run(bool seeded, std::uint64_t resets, std::uint64_t done_before) {
  constexpr std::uint64_t kFreshPeriod = 64;
  seeded_ = seeded;
  if (options_.shared_bytes != 0 && shared_.empty()) WARMFORK_TRY(make_shared_memory());
  WARMFORK_TRY(make_records());
  WARMFORK_TRY_ASSIGN(Source source, open(seeded));
  result_.chosen = source.forks->reset_mode();
  std::array<std::unique_ptr<Fork>, 2> forks;
  for (auto& fork : forks) {
    WARMFORK_TRY_ASSIGN(fork, source.forks->make());
  }
  const auto bind = [&](Fork& fork, Place place) -> Status {
    record_ = &records_[result_.kind == ForkKind::kSpace ? place.home : 0][place.cpu];
    return source.cpus[place.cpu] != nullptr ? fork.bind(*source.cpus[place.cpu]) : Status{};
  };
  for (std::uint64_t round = 0; round < resets; ++round) {
    const std::size_t chosen = below(random_, forks.size());
    Fork& fork = *forks[chosen];
    if (!fork.ready() || below(random_, 2) == 0) WARMFORK_TRY(fork.reset());  // else on top of the last round's work
    round_.clear();
    for (std::uint64_t acts = 1 + below(random_, 3); acts != 0; --acts) WARMFORK_TRY(attack(fork, source));
    if (below(random_, 4) == 0) {  // a neighbour comes between
      Fork& other = *forks[1 - chosen];
      if (!other.ready()) WARMFORK_TRY(other.reset());
      round_ += "; its neighbour: ";
      WARMFORK_TRY(attack(other, source));
    }
    const Place place{chosen, below(random_, cpus())};
    if (below(random_, 2) == 0) WARMFORK_TRY(bind(fork, place));  // reset there, or where it was
    WARMFORK_TRY(fork.reset());
    if (options_.after_reset) options_.after_reset(fork);
    WARMFORK_TRY(bind(fork, place));
    WARMFORK_TRY(observe(fork, {.memory = below(random_, 4) != 0,
                                .staged = below(random_, 2) == 0,
                                .work = below(random_, 2) == 0,
                                .crash = below(random_, 4) == 0}));
    if (!shared_.empty() &&
        std::ranges::any_of(shared_[1]->bytes(), [](std::byte byte) { return byte != kReadOnlyByte; })) {
      differ("read-only shared memory was written");
    }
    ++result_.resets;
    if (round % kFreshPeriod == kFreshPeriod - 1) {
      round_ = "a fresh fork beside them";
      WARMFORK_TRY_ASSIGN(const auto fresh, source.forks->make());
      const Place third{kHomes - 1, below(random_, cpus())};
      WARMFORK_TRY(bind(*fresh, third));
      WARMFORK_TRY(observe(*fresh, {}));
      ++result_.fresh_forks;
    }
    if (options_.progress && !options_.progress(done_before + round + 1)) return false;
  }
  return true;
}

// --- What all combinations share -------------------------------------------------------------------------------------

struct Subject {
  std::unique_ptr<Machine> master;
  std::shared_ptr<const Snapshot> snapshot;
  std::uint64_t guest_options = 0;
  bool keeps_x87_pointers = false;
};

Result<std::unique_ptr<Machine>> boot(const kvm::Kvm& kvm, const ResetProofOptions& options) {
  MachineConfig config;
  config.memory_bytes = options.memory_bytes;
  config.stack_bytes = 64 << 10;
  config.process.seed = options.seed;
  if (options.shared_bytes != 0) {
    config.shared_regions = {{.name = "write", .bytes = options.shared_bytes, .access = SharedAccess::kReadWrite},
                             {.name = "read", .bytes = options.shared_bytes, .access = SharedAccess::kReadOnly}};
  }
  const auto elf = std::as_bytes(std::span(warmfork_scribble_guest_begin, warmfork_scribble_guest_end));
  WARMFORK_TRY_ASSIGN(auto machine, Machine::create(kvm, elf, "scribble", std::move(config)));
  WARMFORK_TRY(machine->boot({.timeout_ns = kPatience}));
  return machine;
}

Result<Subject> make_subject(const kvm::Kvm& kvm, const CaptureContext& context, const ResetProofOptions& options) {
  Subject subject;
  WARMFORK_TRY_ASSIGN(subject.master, boot(kvm, options));
  WARMFORK_TRY_ASSIGN(const Gva try_fsgsbase, subject.master->find_vmcall("try_fsgsbase"));
  WARMFORK_TRY_ASSIGN(const Gva registers, subject.master->find_vmcall("scribble_registers"));
  WARMFORK_TRY_ASSIGN(const Gva work, subject.master->find_vmcall("random_scribble"));
  // In machines of their own: one may end, the other dirties the processor.
  WARMFORK_TRY_ASSIGN(const auto curious, boot(kvm, options));
  if (curious->call(try_fsgsbase, {}, {.timeout_ns = kPatience})) subject.guest_options = SCRIBBLE_FSGSBASE;
  WARMFORK_TRY_ASSIGN(const auto dirty, boot(kvm, options));
  WARMFORK_TRY(dirty->call(registers, std::array<std::uint64_t, 2>{1, 0}, {.timeout_ns = kPatience}));
  WARMFORK_TRY_ASSIGN(const std::vector<std::byte> area, dirty->vcpu().xsave(context.xsave_size));
  constexpr std::size_t kFip = 8;
  std::uint64_t fip = 0;
  std::memcpy(&fip, &area[kFip], sizeof fip);
  subject.keeps_x87_pointers = fip != 0;
  // A heap and a stack with something in them.
  const AddressRange heap = subject.master->memory().heap();
  const AddressRange stack = subject.master->memory().stack();
  const std::array ranges{Range{heap.begin.value, heap.size / 2}, Range{stack.begin.value, stack.size / 2}};
  WARMFORK_TRY_ASSIGN(const Gva list, subject.master->put_buffer(kRangesOffset, std::as_bytes(std::span(ranges))));
  const std::array<std::uint64_t, 5> arguments{options.seed, 200, list.value, ranges.size(), 0};
  WARMFORK_TRY(subject.master->call(work, arguments, {.timeout_ns = kPatience}));
  WARMFORK_TRY_ASSIGN(subject.snapshot, Snapshot::take(kvm, *subject.master));
  return subject;
}

}  // namespace

std::uint64_t ResetProofReport::resets() const {
  return std::accumulate(results.begin(), results.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const ResetProofResult& result) { return sum + result.resets; });
}

std::uint64_t ResetProofReport::differing() const {
  return std::accumulate(results.begin(), results.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const ResetProofResult& result) { return sum + result.differing; });
}

Result<ResetProofReport> prove_reset(const kvm::Kvm& kvm, const ResetProofOptions& options) {
  ResetProofReport report;
  WARMFORK_TRY_ASSIGN(const CaptureContext context, CaptureContext::create(kvm));
  WARMFORK_TRY_ASSIGN(const Subject subject, make_subject(kvm, context, options));
  if (!subject.keeps_x87_pointers) {
    report.processor =
        "this processor keeps the last x87 instruction's addresses in no save area: they are not compared";
  }
  std::size_t possible = 0;
  for (const ForkKind kind : options.kinds) {
    for (const Population population : options.populations) {
      for (const ResetMode mode : options.modes) {
        ResetProofResult result{.kind = kind, .population = population, .mode = mode};
        const auto chosen = choose_reset_mode(mode, population, *subject.snapshot, kvm);
        chosen ? ++possible : possible;
        if (!chosen) result.skipped = chosen.error().message;
        report.results.push_back(std::move(result));
      }
    }
  }
  if (possible == 0) return report;
  std::uint64_t done = 0;
  std::uint64_t index = 0;
  for (ResetProofResult& result : report.results) {
    if (!result.skipped.empty()) continue;
    // What does not divide evenly goes to the first.
    const std::uint64_t share = options.resets / possible + (index++ < options.resets % possible ? 1 : 0);
    const std::uint64_t without_seed = share / kSeededShare;
    Combination combination(kvm, subject.snapshot, context, options, result, subject.guest_options,
                            subject.keeps_x87_pointers);
    for (const bool seeded : {true, false}) {
      const std::uint64_t resets = seeded ? share - without_seed : without_seed;
      if (resets == 0) continue;
      WARMFORK_TRY_ASSIGN(const bool go_on, combination.run(seeded, resets, done));
      done += resets;
      if (!go_on) {
        report.interrupted = true;
        return report;
      }
    }
  }
  return report;
}

}  // namespace warmfork
