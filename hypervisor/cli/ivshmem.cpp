// warmfork ivshmem: what shared memory between host and guest costs, phase by phase.
#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "ivshmem/host/meeting_file.hpp"
#include "ivshmem/host/peer_program.hpp"
#include "ivshmem/host/report.hpp"
#include "ivshmem/host/runner.hpp"
#include "ivshmem/host/shrink_watch.hpp"
#include "ivshmem/host/study.hpp"
#include "machine/machine.hpp"
#include "memory/shared_memory.hpp"
#include "metrics.hpp"
#include "output_file.hpp"
#include "terminal.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

namespace warmfork::cli {
namespace {

using namespace ivshmem;

struct Options {
  MetricsOptions metrics;
  std::string out;
  std::string attach;
  std::string peer;
  std::string save_peer;
  std::string save_initramfs;
  std::string frame;
  std::string wake = "both";
  std::string guest = "vm";
  std::string memory = "64M";
  std::string timeout = "10s";
  std::optional<std::uint64_t> messages;
  std::optional<std::uint64_t> iterations;
  std::uint64_t sessions = 0;
  bool quick = false;
  bool no_baseline = false;
  bool json = false;
};

constexpr int kSignalBase = 128;

/// The file in which somebody else is met, for as long as this takes part. Who finds a file left later should know why.
class MeetingPlace {
 public:
  explicit MeetingPlace(MeetingFile file) : file_(std::move(file)), watch_(file_.memory()->bytes()) {}
  MeetingPlace(const MeetingPlace&) = delete;
  MeetingPlace& operator=(const MeetingPlace&) = delete;
  ~MeetingPlace() {
    if (file_.leave() == MeetingFile::Left::kInUse) {
      print_message("warmfork: {} stays: somebody else has it open\n", file_.path());
    }
  }
  [[nodiscard]] const std::shared_ptr<SharedMemory>& memory() const { return file_.memory(); }
  /// Somebody has shortened it, and that was noticed here. Costs next to nothing.
  [[nodiscard]] bool is_gone() const { return watch_.shortened(); }
  /// Why it came to an end that was not wanted, if that is the reason: the other side may have noticed first, and left.
  [[nodiscard]] std::optional<Error> shortened() const {
    struct stat status{};
    const bool shorter =
        ::fstat(memory()->fd(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) < memory()->size();
    if (!shorter && !is_gone()) return std::nullopt;
    return Error{ErrorKind::kInput, fmt::format("{}: somebody has shortened it", file_.path())};
  }

 private:
  MeetingFile file_;
  ShrinkWatch watch_;
};

/// Everybody who takes part, and the memory in which they do; members are destroyed from the last to the first.
struct Stage {
  std::optional<kvm::Kvm> kvm;
  std::unique_ptr<MeetingPlace> place;
  std::shared_ptr<SharedMemory> memory, guest_page;  // guest_page: nullptr, it is in `memory`
  std::shared_ptr<SharedMemory> threads_memory;      // of the floor, if somebody else uses `memory`
  std::unique_ptr<Machine> master;
  std::unique_ptr<ForkSource> source;
  std::unique_ptr<Fork> fork;
  std::unique_ptr<Runner> guest, threads;
  Partners partners;
};

std::uint64_t largest(const StudyOptions& study) {
  std::uint64_t most = 0;
  for (const Frame& frame : study.frames) most = std::max(most, frame.bytes());
  return most;
}

GuestPage& guest_page_at(std::span<std::byte> bytes) {
  // SAFETY: meet() has checked that there is a page, and mappings are page-aligned.
  return *reinterpret_cast<GuestPage*>(bytes.data());
}

Status add_guest(Stage& stage, const std::string& kind, const RunnerOptions& runner_options, std::uint64_t capacity) {
  WARMFORK_TRY_ASSIGN(stage.kvm, open_kvm());
  MachineConfig config{
      .memory_bytes = guest_memory_bytes(capacity),
      .shared_regions = {
          {.name = std::string(kHostRegion), .bytes = stage.memory->size(), .access = SharedAccess::kReadOnly},
          {.name = std::string(kGuestRegion), .bytes = stage.guest_page->size(), .access = SharedAccess::kReadWrite}}};
  const SharedBindings bindings{stage.memory, stage.guest_page};
  if (kind == "master") config.shared = bindings;
  WARMFORK_TRY_ASSIGN(stage.master, Machine::create(*stage.kvm, guest_elf(), "ivshmem", std::move(config)));
  WARMFORK_TRY(stage.master->boot({.timeout_ns = runner_options.timeout_ns}));
  Guest* guest = stage.master.get();
  if (kind != "master") {
    WARMFORK_TRY_ASSIGN(const auto snapshot, Snapshot::take(*stage.kvm, *stage.master));
    const ForkKind fork_kind = kind == "vm" ? ForkKind::kVm : ForkKind::kSpace;
    WARMFORK_TRY_ASSIGN(stage.source, make_fork_source(*stage.kvm, snapshot, {.kind = fork_kind}, 1));
    WARMFORK_TRY_ASSIGN(GuestCpu* const cpu, stage.source->make_cpu());
    WARMFORK_TRY_ASSIGN(stage.fork, stage.source->make_with(bindings));
    if (cpu != nullptr) WARMFORK_TRY(stage.fork->bind(*cpu));
    guest = stage.fork.get();
  }
  WARMFORK_TRY_ASSIGN(const auto host_region, guest->shared_region(kHostRegion));
  WARMFORK_TRY_ASSIGN(const auto guest_region, guest->shared_region(kGuestRegion));
  WARMFORK_TRY_ASSIGN(stage.guest,
                      make_guest_runner(*guest, host_region.begin, guest_region.begin, capacity, runner_options));
  return {};
}

Result<Stage> make_stage(const Options& options, const StudyOptions& study, std::uint64_t timeout_ns, int guest_cpu) {
  Stage stage;
  WARMFORK_TRY_ASSIGN(const std::uint64_t bytes, parse_size(options.memory));
  const std::uint64_t capacity = largest(study);
  const RunnerOptions runner_options{.cpu = guest_cpu, .timeout_ns = timeout_ns};
  const auto narrow = [&](Meeting meeting) {
    meeting.frame = meeting.frame.first(capacity);
    return meeting;
  };
  if (options.attach.empty()) {
    WARMFORK_TRY_ASSIGN(stage.memory, SharedMemory::create(bytes, true));
    WARMFORK_TRY_ASSIGN(stage.guest_page, SharedMemory::create(kPageBytes, true));
    WARMFORK_TRY_ASSIGN(const Meeting meeting, meet(stage.memory->bytes(), stage.guest_page->bytes(), capacity));
    for (Partner& partner : stage.partners) partner.meeting = narrow(meeting);
    WARMFORK_TRY_ASSIGN(stage.threads, make_thread_runner(stage.partners[0].meeting,
                                                          guest_page_at(stage.guest_page->bytes()), runner_options));
    WARMFORK_TRY(add_guest(stage, options.guest, runner_options, capacity));
  } else {
    WARMFORK_TRY_ASSIGN(MeetingFile file, MeetingFile::open(options.attach, MeetingFile::Side::kHost, bytes, capacity));
    stage.place = std::make_unique<MeetingPlace>(std::move(file));
    stage.memory = stage.place->memory();
    WARMFORK_TRY_ASSIGN(const Meeting meeting, meet(stage.memory->bytes(), {}, capacity));
    for (Partner& partner : stage.partners) partner.meeting = narrow(meeting);
    WARMFORK_TRY_ASSIGN(stage.threads_memory, SharedMemory::create(stage.memory->size(), true));
    WARMFORK_TRY_ASSIGN(const Meeting own, meet(stage.threads_memory->bytes(), {}, capacity));
    stage.partners[0].meeting = narrow(own);
    WARMFORK_TRY_ASSIGN(
        stage.threads,
        make_thread_runner(stage.partners[0].meeting,
                           guest_page_at(stage.threads_memory->bytes().subspan(kGuestPageOffset)), runner_options));
    stage.guest = make_remote_runner(runner_options);
  }
  stage.partners[static_cast<std::size_t>(Mode::kThreads)].runner = stage.threads.get();
  stage.partners[static_cast<std::size_t>(Mode::kPolling)].runner = stage.guest.get();
  stage.partners[static_cast<std::size_t>(Mode::kDoorbell)].runner = stage.guest.get();
  return stage;
}

Result<StudyOptions> make_study(const Options& options) {
  StudyOptions study;
  if (!options.frame.empty()) {
    std::erase_if(study.frames, [&](const Frame& frame) { return frame.name != options.frame; });
    study.latency_frame = 0;
  }
  study.messages = options.messages.value_or(options.quick ? 6 : 100);
  study.iterations = options.iterations.value_or(options.quick ? 2 : 10);
  study.rounds = options.quick ? 2 : 25;
  if (!options.no_baseline) study.modes.push_back(Mode::kThreads);
  if (!options.attach.empty() && options.wake == "doorbell") {
    return fail(ErrorKind::kUsage, "--wake doorbell: ivshmem-plain has none, --attach polls");
  }
  if (options.wake != "doorbell") study.modes.push_back(Mode::kPolling);
  if (options.wake != "polling" && options.attach.empty()) study.modes.push_back(Mode::kDoorbell);
  return study;
}

void pin_here(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  (void)::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);  // not pinned is slower, not wrong
}

Result<int> run_as_peer(const Options& options) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t timeout_ns, parse_duration(options.timeout));
  WARMFORK_TRY_ASSIGN(const std::uint64_t bytes, parse_size(options.memory));
  WARMFORK_TRY_ASSIGN(MeetingFile file, MeetingFile::open(options.peer, MeetingFile::Side::kGuest, bytes, kPageBytes));
  const MeetingPlace place(std::move(file));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  const std::uint64_t sessions = options.sessions == 0 ? ~std::uint64_t{0} : options.sessions;
  metrics_ready();
  WARMFORK_TRY_ASSIGN(const PeerEnd end,
                      run_peer(place.memory()->bytes(), fmt::format("process {}", ::getpid()), sessions, timeout_ns,
                               [&] { return signals->signal() != 0 || place.is_gone(); }));
  print_message("{} sessions, {} frames, {} verified\n", end.sessions, end.frames, end.verified);
  if (const auto shortened = place.shortened(); shortened && !end.why) return Failure(*shortened);
  if (!end.why && end.why.error().kind == ErrorKind::kCancelled) return kSignalBase + signals->signal();
  // Without a number of sessions, a host that does not come again is how it ends.
  if (!end.why && (options.sessions != 0 || end.sessions == 0)) return Failure(end.why.error());
  return end.verified == end.frames ? kSuccess : kFailure;
}

/// Writes the peer for a guest of another hypervisor, as a program or as all that such a guest needs beside its kernel.
Status save_peer(const Options& options) {
  const auto save = [](const std::string& option, const std::string& path, std::span<const std::byte> content,
                       mode_t mode) {
    return write_output_file(option, path, [&](int fd) -> Status {
      WARMFORK_TRY(write_all(fd, content, path));
      struct stat status{};
      if (::fstat(fd, &status) != 0 || ::fchmod(fd, status.st_mode | mode) != 0) return fail_errno("{}", path);
      return {};
    });
  };
  if (!options.save_peer.empty()) WARMFORK_TRY(save("--save-peer", options.save_peer, peer_elf(), S_IXUSR));
  if (!options.save_initramfs.empty()) {
    WARMFORK_TRY(save("--save-initramfs", options.save_initramfs, make_initramfs(peer_elf()), 0));
  }
  return {};
}

Result<int> run_checked(const Options& options) {
  if (!options.peer.empty()) return run_as_peer(options);
  if (!options.save_peer.empty() || !options.save_initramfs.empty()) {
    WARMFORK_TRY(save_peer(options));
    return kSuccess;
  }
  WARMFORK_TRY_ASSIGN(const std::uint64_t timeout_ns, parse_duration(options.timeout));
  WARMFORK_TRY_ASSIGN(StudyOptions study, make_study(options));
  if (!options.out.empty()) WARMFORK_TRY(prepare_directory(options.out));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  Stage stage;
  study.cancelled = [&] { return signals->signal() != 0 || (stage.place != nullptr && stage.place->is_gone()); };
  const auto [host_cpu, guest_cpu] = choose_cpus();
  WARMFORK_TRY_ASSIGN(stage, make_stage(options, study, timeout_ns, host_cpu == guest_cpu ? -1 : guest_cpu));
  if (host_cpu != guest_cpu) pin_here(host_cpu);
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  if (terminal) {
    study.progress = [](std::string_view what, std::uint64_t done, std::uint64_t of) {
      print_message("\r\033[K{} of {} messages ({})", done, of, what);
    };
  }
  metrics_ready();
  WARMFORK_TRY_ASSIGN(StudyResult result, run_study(study, stage.partners));
  if (terminal) print_message("\r\033[K");
  if (stage.place != nullptr && (result.ended || stage.place->is_gone())) {
    if (auto shortened = stage.place->shortened()) {  // whatever the two then thought of each other
      if (!result.ended) result.ended_where = "its last message";
      result.ended = std::move(shortened);
    }
  }

  int code = kSuccess;
  if (std::ranges::any_of(result.rows, [](const Row& row) { return !row.success; })) code = kFailure;
  if (result.ended) {
    code =
        result.ended->kind == ErrorKind::kCancelled ? kSignalBase + signals->signal() : exit_code(result.ended->kind);
  }
  if (!options.out.empty()) {
    WARMFORK_TRY_ASSIGN(const auto not_drawn, write_report(result, study, options.out));
    for (const std::string& what : not_drawn) print_message("warmfork: {}\n", what);
  }
  if (options.json) {
    fmt::print("{}\n", ivshmem::to_json(result, study, code));
  } else {
    fmt::print("{}", ivshmem::to_text(result, study));
  }
  if (result.ended && result.ended->kind != ErrorKind::kCancelled) {
    (void)report({result.ended->kind, fmt::format("{}: {}", result.ended_where, result.ended->message)});
  }
  return code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  return code ? *code : report(code.error());
}

}  // namespace

void add_ivshmem(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("ivshmem", "Study shared memory between host and guest, phase by phase");
  verb->footer(
      "The host writes frames of random data into memory that it shares with a guest, which reads them (in whatever\n"
      "cache they are; then flushed from all caches), copies them, and verifies their SHA-256. Each side measures its\n"
      "own part; the notification is the round trip without the guest's. The guest may only read what the host "
      "writes.\n"
      "The same loops between two threads on the same memory, in the same run, are the floor.\n\n"
      "  warmfork ivshmem --quick                        a first look\n"
      "  warmfork ivshmem --out results                  all frames; CSV, report and plots into results/\n"
      "  warmfork ivshmem --frame 4k --wake polling --messages 1000 --json\n"
      "  warmfork ivshmem --guest space                  a fork that shares its VM with others\n\n"
      "Somebody else's guest, in a file of QEMU's ivshmem-plain layout (the file is the device's BAR 2):\n"
      "  warmfork ivshmem --save-initramfs peer.img      a guest that needs nothing but this and any kernel of Linux\n"
      "  qemu-system-x86_64 -m 256 -nographic -no-reboot -kernel /boot/vmlinuz-$(uname -r) -initrd peer.img \\\n"
      "    -append 'console=ttyS0 quiet' -device ivshmem-plain,memdev=m \\\n"
      "    -object memory-backend-file,id=m,share=on,mem-path=/dev/shm/study,size=64M\n"
      "  warmfork ivshmem --attach /dev/shm/study --timeout 60s       meanwhile, on the host\n"
      "A guest that is there already: --save-peer FILE writes the same as a static program. Copied there and started\n"
      "as root, it finds the device; its --help says the rest. In the initramfs, its arguments are those behind '--' "
      "in\n"
      "-append: '… -- --sessions 2'. A process as the guest: warmfork ivshmem --peer /dev/shm/study.\n"
      "Either side may start first. The floor is on memory of the host's own. The file's size is a power of two for\n"
      "QEMU; it must belong to you or root, be writable by nobody else, and hold nothing else. Who comes first makes "
      "it. "
      "What\n"
      "warmfork has made, the last warmfork removes, unless QEMU still has it open; what QEMU has made is yours to "
      "remove.\n"
      "Both sides' time stamp counters must count equally fast, as those of KVM's and of QEMU's guests do. Linux maps "
      "a\n"
      "BAR uncached, where the processor heeds that (emulation does not).\n\n"
      "Files of --out: latency_results, latency_performance (the processor's counters), bandwidth_results,\n"
      "bandwidth_performance as .csv, for --wake both those of doorbells as NAME.doorbell.csv, of the floor as\n"
      "NAME.threads.csv; performance_report.txt; latency_histogram, latency_over_time, latency_percentiles and\n"
      "bandwidth_analysis as .png and .svg. After Ctrl-C or an error they hold the messages before it, and there is a\n"
      "file INCOMPLETE that says why.\n\n"
      "Keys of --json: exit_code, complete, ended, wrong_hashes, counters_missing, modes (guest, wall_ns, "
      "host_cpu_ns,\n"
      "guest_cpu_ns, bottleneck), blocks (part, mode, frame, frame_bytes, messages, verified, phases with p50, p90, "
      "p95,\n"
      "p99, min, max, mean, stddev in ns and ratio_to_threads).\n\n"
      "Exit codes: 0 all frames verified · 1 a frame arrived with a wrong hash · 2 wrong usage · 3 bad file\n"
      "4 no KVM, no memory · 5 the guest broke the protocol · 7 it did not answer · 130 Ctrl-C");
  verb->add_option("--out", options->out, "Write files into this directory, which is made")->type_name("DIR");
  verb->add_option("--messages", options->messages, "Of the latency part, per mode (default: 100; --quick: 6)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000}))
      ->type_name("N");
  verb->add_option("--iterations", options->iterations,
                   "Of the bandwidth part, per frame and mode (default: 10; --quick: 2)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000}))
      ->type_name("N");
  verb->add_option("--frame", options->frame, "Only this one (default: latency with 4k, bandwidth with all)")
      ->check(CLI::IsMember({"1080p", "1440p", "4k"}));
  verb->add_option("--wake", options->wake, "How the two wake each other")
      ->check(CLI::IsMember({"polling", "doorbell", "both"}))
      ->capture_default_str();
  verb->add_option("--guest", options->guest, "A fork with a VM of its own, one that shares it, or the master itself")
      ->check(CLI::IsMember({"vm", "space", "master"}))
      ->capture_default_str();
  verb->add_option("--memory", options->memory, "Size of the shared memory; of a file that is there, its own")
      ->capture_default_str();
  verb->add_option("--timeout", options->timeout, "How long to wait for the other side")->capture_default_str();
  verb->add_flag("--quick", options->quick, "Few messages");
  verb->add_flag("--no-baseline", options->no_baseline, "Without the two threads");
  auto* const attach =
      verb->add_option("--attach", options->attach, "Be the host of whoever has this file")->type_name("FILE");
  auto* const peer = verb->add_option("--peer", options->peer, "Be the guest in this file")->type_name("FILE");
  peer->excludes(attach);
  for (const auto& [name, path, what] :
       {std::tuple{"--save-peer", &options->save_peer,
                   "Write the guest's side as a static program, and do nothing else"},
        std::tuple{"--save-initramfs", &options->save_initramfs, "Write it as an initramfs, and do nothing else"}}) {
    verb->add_option(name, *path, what)->type_name("FILE")->excludes(attach)->excludes(peer);
  }
  verb->add_option("--sessions", options->sessions,
                   "With --peer: end after so many sessions (default: after --timeout)")
      ->needs(peer)
      ->type_name("N");
  verb->add_flag("--json", options->json, "The result as one JSON object");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, std::string("ivshmem"), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
