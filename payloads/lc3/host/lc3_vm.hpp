// The host's handle on one LC-3 machine that runs inside a guest: load programs, run with exact budgets, feed and drain
// the console, look at registers and memory. Typed vmcalls over a Machine or a fork of one; the only place that knows
// the guest's protocol (include/warmfork/lc3/protocol.hpp).
//
// Everything the guest returns or leaves in its memory is hostile: results, cursors and lengths are copied once,
// checked, and only then used; a guest that breaks the protocol ends with kGuestFault.
//
// Threads: one at a time; cancel() from any thread and from signal handlers.
#pragma once

#include "base/result.hpp"
#include "bus/link.hpp"
#include "lc3/asm/program.hpp"
#include "lc3/host/profile.hpp"
#include "lc3/jit/code_cache.hpp"
#include "lc3/jit/optimiser.hpp"
#include "machine/code_region.hpp"
#include "machine/machine.hpp"
#include "warmfork/lc3/ports.hpp"
#include "warmfork/lc3/protocol.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

enum class TrapMode : std::uint8_t { kNative, kOs };

/// What executes LC-3 instructions. All give the same machine after the same number of them.
enum class Engine : std::uint8_t {
  kInterpreter,
  kXbyak,  // compiles what is executed at once, fast
  kOrc,    // as kXbyak, and has LLVM make better code of it at once, on another thread
  kAuto,   // interprets, compiles what goes on for long, and has LLVM make better code of what goes on for longer
};

/// By the order of Engine; stable words for machines.
inline constexpr std::array kEngineNames = {"interp", "xbyak", "orc", "auto"};
[[nodiscard]] std::optional<Engine> engine_named(std::string_view name);

/// Room in the address space of a machine and all its forks for the rings of its ports.
struct PortRegions {
  unsigned ports = 0;                  // ports 0 … ports - 1 can be connected; at most kPortCount
  std::uint64_t link_bytes = 1 << 16;  // capacity of each of their links, a power of two
  std::uint64_t feed_bytes = 0;        // capacity of the feed; 0: there can be none
};

struct Lc3Options {
  Engine engine = Engine::kAuto;
  int edition = 3;                // 2 or 3
  bool strict_privilege = false;  // raise the textbook's access-control exceptions
  TrapMode traps = TrapMode::kNative;
  bool load_os = true;                     // the project's own OS below x3000
  bool supervisor_start = false;           // start in supervisor mode (programs that bring their own OS)
  std::optional<std::uint64_t> randomise;  // fill memory and registers from this seed before loading
  bool detect_idle = true;                 // stop a loop that provably only waits for input
  bool stop_for_output = true;             // stop when input is polled while output waits
  std::string cache_dir;                   // optimised code of earlier runs, kOrc and kAuto; empty: none is kept
  std::uint64_t cache_limit = jit::kDefaultCacheLimit;  // bytes of all files there
  std::string perf_map;               // file for the names of compiled code (jit/code_names.hpp); empty: none
  bool locate_samples = false;        // compiled code says where it comes from, for sample_into(); --cache is not read
  PortRegions ports;                  // for rings to others; none by default
  bool stop_at_empty_vectors = true;  // a trap or exception whose vector word is x0000 stops the machine
};

/// What the ports of one machine are connected to; each can have a ring to receive from and one to send to. All links
/// have PortRegions::link_bytes, the feed PortRegions::feed_bytes.
struct PortConnections {
  struct Port {
    std::shared_ptr<Link> in, out;
    bool feed = false;  // receives from `feed`
    /// How often WAIT, SEND and FLUSH look at the ring before the run stops with kWaiting: some ns each.
    std::uint32_t looks = kDefaultLooks;
    /// The other sides of this port's rings may sleep, or this one: doorbells are rung (RunResult.address says where it
    /// waits). Costs a fence for each message.
    bool doorbells = false;
  };
  static constexpr std::uint32_t kDefaultLooks = 1 << 16;
  std::array<Port, kPortCount> ports;
  std::shared_ptr<Feed> feed;
  std::shared_ptr<SharedMemory> feed_cursor;  // a page that this machine writes; may be missing
};

/// What a machine says of one of its ports. It is the guest's word: for reports to people.
struct PortReport {
  std::uint64_t received = 0;  // messages taken from its link; records from its feed, the end among them
  std::uint64_t sent = 0;
  ring::Violation in, out;  // what the sender, the receiver at the other end was caught at
};

/// Registers of one moment.
struct Registers {
  std::array<std::uint16_t, 8> general{};
  std::uint16_t pc = 0;
  std::uint16_t psr = 0;
  std::uint16_t saved_ssp = 0;
  std::uint16_t saved_usp = 0;
  std::uint16_t mcr = 0;
  friend bool operator==(const Registers&, const Registers&) = default;
};

/// Where the time of create() went.
struct StartTimes {
  std::uint64_t construct_ns = 0;  // the KVM machine, its memory, the program in it
  std::uint64_t boot_ns = 0;       // until it waits for vmcalls
  std::uint64_t power_on_ns = 0;   // the LC-3 set up, its OS loaded
};

/// What Lc3Vm::time_runs() measured.
struct TimedRuns {
  std::vector<TimedRun> runs;
  /// The last of them stopped to be compiled and went on: to its ticks in the guest those from there to its end have
  /// been added, exits and compiler included.
  bool compiled = false;
};

class Lc3Vm {
 public:
  /// Boots the guest program and powers the LC-3 on. Takes about a millisecond.
  [[nodiscard]] static Result<std::unique_ptr<Lc3Vm>> create(const kvm::Kvm& kvm, const Lc3Options& options);
  /// As above with another guest program that offers the same calls.
  [[nodiscard]] static Result<std::unique_ptr<Lc3Vm>> create(const kvm::Kvm& kvm, const Lc3Options& options,
                                                             std::span<const std::byte> guest_elf);

  /// A handle on another guest: a fork made from a snapshot of this one's machine, whose LC-3 is as this one was when
  /// the snapshot was taken (this one must not have been used since). For each life of the fork a new handle: a reset
  /// puts the guest back, not the handle. The guest must outlive it. All runs together stop after
  /// `instruction_budget` instructions, exactly.
  [[nodiscard]] std::unique_ptr<Lc3Vm> attach(Guest& guest, std::uint64_t instruction_budget = ~std::uint64_t{0}) const;

  /// The memory of a fork of this machine that is to have these connections: for ForkSource::make_with(). Errors
  /// (kUsage): a port or a ring that Lc3Options::ports has no room for.
  [[nodiscard]] Result<SharedBindings> bindings(const PortConnections& connections) const;
  /// Connects the ports of a guest that was made with these bindings; once for each of its lives, and again after
  /// power_on(). Errors: kUsage (its memory is not that of the connections), kGuestFault.
  [[nodiscard]] Status connect(const PortConnections& connections);
  /// Tells the program that nothing more will come at a port than is in its ring: whoever sent there is gone.
  [[nodiscard]] Status end_port(unsigned port, CallOptions call = {});
  /// Nobody will read what a port sends: it is thrown away at once, and waits for no room.
  [[nodiscard]] Status forget_receiver(unsigned port, CallOptions call = {});
  /// Tells whoever receives from this machine's port that nothing more will come. False: its ring is full.
  [[nodiscard]] Result<bool> finish_port(unsigned port, CallOptions call = {});

  /// Messages and broken rules of a port so far. Errors: kUsage (no such port), kGuestFault,
  /// kDeadline.
  [[nodiscard]] Result<PortReport> port_report(unsigned port, CallOptions call = {});
  /// Bit p: a message at port p interrupts. Without a call of the guest. Errors (kGuestFault): its State is unreadable.
  [[nodiscard]] Result<std::uint32_t> port_interrupts();

  /// Power-on again, as new: memory, registers, devices, console, counters. Loads the OS if the options say so.
  [[nodiscard]] Status power_on(const Lc3Options& options);

  /// Loads all segments and sets the PC to the program's entry. Errors (kInput): a segment that reaches device space.
  [[nodiscard]] Status load(const Program& program);
  /// As load(), but without a call of the guest: the host writes the words and the PC into the State itself. For forks
  /// that are given a program each time, where an exit would cost more than the run. Same errors; also kGuestFault (the
  /// guest has made its State unwritable).
  [[nodiscard]] Status place(const Program& program);

  /// Runs exactly `budget` instructions unless something stops the machine before: see RunResult::stop. After kDeadline
  /// or kCancelled the run waits in the middle of the guest: resume() goes on with it, nothing else can be called.
  [[nodiscard]] Result<RunResult> run(std::uint64_t budget, CallOptions call = {});
  /// Goes on with a run that a deadline or a cancellation stopped; returns as that run would have.
  [[nodiscard]] Result<RunResult> resume(CallOptions call = {});

  /// Runs up to `count` single instructions on the fast engine and returns the machine after each; see result() for
  /// why there are fewer.
  [[nodiscard]] Result<std::vector<TraceRecord>> trace(std::uint64_t count);

  /// Runs `budget` instructions up to `count` times (and no more often than there is room for what is reported of
  /// them) and returns what each took in the guest, without the call. A run that has to be compiled is the last: see
  /// `compiled`. Empty: the first run stopped for another reason.
  [[nodiscard]] Result<TimedRuns> time_runs(std::uint64_t budget, std::uint64_t count);

  /// Gives input bytes to the console; returns how many found room (the rest is the caller's to give again).
  [[nodiscard]] Result<std::size_t> feed(std::span<const std::uint8_t> bytes);
  /// No more input will come after what has been fed.
  [[nodiscard]] Status close_input();
  /// Appends what the program has printed since the last time.
  [[nodiscard]] Status drain(std::string& output);

  [[nodiscard]] Result<Registers> registers();
  [[nodiscard]] Status write_register(RegisterId id, std::uint16_t value);
  /// `count` words from `address`, wrapping at xFFFF; device registers without side effects.
  [[nodiscard]] Result<std::vector<std::uint16_t>> read_memory(std::uint16_t address, std::uint32_t count);
  [[nodiscard]] Status write_memory(std::uint16_t address, std::span<const std::uint16_t> words);

  /// Switches instrumentation: counting, or watch flags only (runs become careful), or off. Compiled code counts, too:
  /// with every engine but the interpreter, whose runs become careful, that of the fast compiler. Runs are careful as
  /// well with strict privilege, and while there are watch flags.
  [[nodiscard]] Status instrument(InstrumentMode mode);
  /// Sets WatchFlags for `count` addresses; needs instrumentation.
  [[nodiscard]] Status watch(std::uint16_t address, std::uint32_t count, std::uint8_t flags);
  /// A copy of the statistics; needs instrumentation. 2.8 MiB.
  [[nodiscard]] Result<std::unique_ptr<Instrumentation>> statistics();
  [[nodiscard]] Result<Counters> counters();
  /// The vector of the exception the machine took last; nothing if it took none since power-on.
  [[nodiscard]] Result<std::optional<std::uint8_t>> last_exception();

  /// Everything that makes the LC-3: for checkpoints of the debugger.
  [[nodiscard]] Result<std::vector<std::byte>> save_state();
  [[nodiscard]] Status restore_state(std::span<const std::byte> state);

  /// From now on samples (machine/sampler.hpp) of this machine are added to `profile`, which outlives the handle.
  /// Samples in compiled code need Lc3Options::locate_samples; else they look like the guest's own.
  void sample_into(Profile& profile);

  /// Waits until LLVM has nothing left to make better. For measurements.
  void finish_optimising();
  /// Waits for what LLVM has begun with, and has no more begun: then the counters, and the directory of
  /// Lc3Options::cache_dir, are as they will stay.
  void end_optimising();
  /// What went wrong first in the directory of Lc3Options::cache_dir; empty: nothing. Runs go on without it.
  [[nodiscard]] std::string cache_complaint() const;
  /// Why Lc3Options::perf_map does not hold all names; empty: it does.
  [[nodiscard]] std::string names_complaint() const;
  /// What has been compiled for this machine and its forks. All zero with the interpreter.
  [[nodiscard]] jit::CacheCounters code_counters() const;

  [[nodiscard]] const StartTimes& start_times() const { return start_times_; }

  ~Lc3Vm();
  Lc3Vm(const Lc3Vm&) = delete;
  Lc3Vm& operator=(const Lc3Vm&) = delete;

  void cancel() { guest_->cancel(); }
  [[nodiscard]] Guest& guest() { return *guest_; }
  /// The master, of which snapshots can be taken. Not for handles that attach() made.
  [[nodiscard]] Machine& machine() { return *machine_; }

 private:
  enum class Call : std::uint8_t;
  /// The code of a master and all forks of it.
  struct Code {
    Code(CodeRegion memory, Engine engine, std::shared_ptr<jit::DiskCache> disk, std::shared_ptr<jit::CodeNames> names);
    CodeRegion region;
    std::shared_ptr<jit::CodeNames> names;  // none: nobody asked
    jit::CodeCache cache;
    std::optional<jit::Optimiser> optimiser;
  };
  class ProfileSink;
  Lc3Vm();
  [[nodiscard]] Result<std::uint64_t> call(Call which, std::initializer_list<std::uint64_t> arguments = {},
                                           CallOptions options = {});
  /// Goes on with the run that was begun until it stops for a reason that is not the compilers'. `begin`: when its
  /// deadline began to count, if it has one.
  [[nodiscard]] Result<RunResult> finish_run(Result<std::uint64_t> stop, CallOptions options, std::uint64_t begin);
  [[nodiscard]] Result<RunResult> check_run(const Result<std::uint64_t>& stop);
  /// Compiles for the machine, which has stopped. Returns the version's address, or 0: it has to be interpreted.
  [[nodiscard]] Result<std::uint64_t> compile(std::uint16_t pc);
  /// Adds what compiled code has counted to `counted_`, and begins its counters anew.
  [[nodiscard]] Status settle_counts();
  /// Ends the guest: nothing it says can be believed any more.
  [[nodiscard]] Failure broken_protocol(const std::string& what);
  [[nodiscard]] Result<Gva> put_words(std::span<const std::uint16_t> words);

  std::unique_ptr<Machine> machine_;  // none if the guest is somebody else's
  Guest* guest_ = nullptr;
  StartTimes start_times_;
  std::array<Gva, 20> functions_{};
  PortRegions ports_;
  std::shared_ptr<Code> code_;   // none: the machine is interpreted
  std::uint32_t patience_ = 0;   // see CodeUse
  std::uint32_t lost_seen_ = 0;  // of CodeUse::lost_count
  bool compile_first_ = false;   // before the next run
  mutable bool shared_ = false;  // forks have been attached to the machine as it is
  Gva state_{};
  Gva instrumentation_{};
  bool counting_ = false;    // instrumentation is on and counts
  jit::Made counting_code_;  // the last that counts that the machine was offered; its counters are in use
  std::unique_ptr<Instrumentation> counted_;  // by code, so far; none: nothing
  std::uint64_t running_budget_ = 0;          // of the run that was last begun, without what it has executed
  std::uint64_t running_executed_ = 0;        // of it, before the piece that runs now
  bool stopped_between_ = false;              // its deadline passed while the guest was waiting to be called again
  std::uint64_t stopped_with_ = 0;            // the version it was about to be given then
  std::uint64_t left_ = ~std::uint64_t{0};    // instructions all further runs may execute
  metrics::Counter instructions_;             // by its engine
  std::uint32_t input_head_ = 0;              // the host's own cursors: the copies in guest memory are for the guest
  std::uint32_t output_tail_ = 0;
  std::unique_ptr<ProfileSink> profile_;  // last: it takes itself back from the guest
};

/// "halted", "budget used up", …: a stop reason for people.
[[nodiscard]] const char* describe(StopReason stop);
/// A stop reason as a stable word for machines: "halted", "budget", "input_needed", …
[[nodiscard]] const char* stop_name(StopReason stop);

}  // namespace warmfork::lc3
