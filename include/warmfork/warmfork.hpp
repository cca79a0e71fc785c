// warmfork in a program of yours: a guest program is booted once, frozen when it is warm, and every request gets a
// fork of it that nobody has used before.
//
//   Snapshot::boot ──> Snapshot ──Pool::create──> Pool ──request──> answer
//                                                   └──acquire──> Fork ──call, call, …──(destroyed)──> back, reset
//
// With CMake: add_subdirectory(warmfork) (clang 19), target_link_libraries(yours PRIVATE warmfork::api); guest programs
// are built by warmfork_add_guest(name VMCALLS SOURCES …). tests/api/example.cpp is a whole program,
// tests/api/guest.cpp its guest. The same for C: warmfork/warmfork.h.
//
// Guests are hostile: what a call returns, what read() copies and what a guest prints are bytes of its choosing.
//
// Errors are values. No function throws anything of its own; std::bad_alloc, and what your own callbacks throw during
// boot, pass through. Messages are one sentence for people; programs look at the kind.
//
// Times are std::chrono durations, sizes are bytes. An absent duration means "no limit" or the default said there; one
// that is zero or negative has passed already, so "what is left of my deadline" can be handed on as it is.
//
// Threads: a Snapshot and a Pool may be used by any number of threads at once; a Fork and a Master by one at a time,
// but for Fork::cancel(). The library runs one thread of its own per process that keeps deadlines (a deferred Pool has
// another, as has an open channel), and interrupts calls by signal SIGRTMIN+3: do not block or handle that one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace warmfork::api {

// --- Errors ----------------------------------------------------------------------------------------------------------

/// What went wrong, by who can mend it. The numbers are those of enum warmfork_kind (warmfork.h) and never change.
enum class ErrorKind : int {
  kUsage = 1,        // the caller's: an object that was given back, too many arguments, options that contradict
  kInput = 2,        // the guest program's file is not valid, or has no such function
  kHost = 3,         // the host lacks something: a KVM device, a capability, memory, file descriptors
  kGuestFault = 4,   // the guest did something that ended it: a fault, an exit; also an address it may not use itself
  kDeadline = 5,     // a timeout has passed
  kCancelled = 6,    // by Fork::cancel() or Pool::close()
  kLimit = 7,        // a size does not fit into a configured limit
  kUnsupported = 8,  // valid, but not supported by this machine or version
};

/// "usage", "input", "host", "guest fault", …
[[nodiscard]] std::string_view name_of(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::kUsage;
  std::string message;   // one sentence with what, value and limit
  int system_errno = 0;  // of the system call that failed, 0 if none
};

/// A value, or why there is none. value() of an error throws std::bad_variant_access; * and -> do not look.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  [[nodiscard]] explicit operator bool() const { return ok(); }
  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T value() && { return std::get<0>(std::move(state_)); }
  [[nodiscard]] T& operator*() { return *std::get_if<0>(&state_); }
  [[nodiscard]] const T& operator*() const { return *std::get_if<0>(&state_); }
  [[nodiscard]] T* operator->() { return std::get_if<0>(&state_); }
  [[nodiscard]] const T* operator->() const { return std::get_if<0>(&state_); }
  [[nodiscard]] T value_or(T otherwise) const { return ok() ? std::get<0>(state_) : std::move(otherwise); }
  /// Of an error only, else it throws too.
  [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

/// Nothing, or why not.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  [[nodiscard]] bool ok() const { return !error_; }
  [[nodiscard]] explicit operator bool() const { return ok(); }
  /// Of an error only, else it throws std::bad_optional_access.
  [[nodiscard]] const Error& error() const { return error_.value(); }

 private:
  std::optional<Error> error_;
};

// --- Calls -----------------------------------------------------------------------------------------------------------

/// A function of a guest program: its address there. Valid for the snapshot it was found in and all its forks.
struct Function {
  std::uint64_t address = 0;
  friend bool operator==(Function, Function) = default;
};

/// A function with its arguments and its deadline: Call(add).with(1, 2).within(5ms). A plain value.
class Call {
 public:
  static constexpr std::size_t kMaxArguments = 6;
  static constexpr std::chrono::nanoseconds kNoDeadline = std::chrono::nanoseconds::max();

  explicit Call(Function function) : function_(function) {}

  /// Appends integer arguments; signed ones are sign-extended. For more than six in all the call fails (kUsage).
  /// Buffers go by the guest address that write() returns; pointers of the host mean nothing to a guest and do not
  /// compile.
  template <class... Integers>
    requires((std::is_integral_v<Integers> || std::is_enum_v<Integers>) && ...)
  Call& with(Integers... arguments) {
    (add(static_cast<std::uint64_t>(arguments)), ...);
    return *this;
  }
  Call& with(std::span<const std::uint64_t> arguments) {
    for (const std::uint64_t argument : arguments) add(argument);
    return *this;
  }

  /// The longest the call may take. Without it the default holds: PoolOptions::timeout, or BootOptions::timeout for a
  /// Master. kNoDeadline: forever.
  Call& within(std::chrono::nanoseconds timeout) {
    timeout_ = timeout;
    return *this;
  }

  [[nodiscard]] Function function() const { return function_; }
  /// How many arguments were given, and the first six of them.
  [[nodiscard]] std::size_t argument_count() const { return count_; }
  [[nodiscard]] std::span<const std::uint64_t> arguments() const {
    return std::span(arguments_).first(count_ < kMaxArguments ? count_ : kMaxArguments);
  }
  [[nodiscard]] std::optional<std::chrono::nanoseconds> timeout() const { return timeout_; }

 private:
  void add(std::uint64_t argument) {
    if (count_ < kMaxArguments) arguments_[count_] = argument;
    ++count_;
  }

  Function function_;
  std::size_t count_ = 0;
  std::uint64_t arguments_[kMaxArguments] = {};
  std::optional<std::chrono::nanoseconds> timeout_;
};

// --- Snapshots -------------------------------------------------------------------------------------------------------

namespace detail {
struct MasterState;
struct SnapshotState;
struct PoolState;
struct ForkState;
}  // namespace detail

/// Gets what a guest writes to descriptor 1 or 2, as it comes: hostile bytes, in pieces. Runs on the thread that runs
/// the guest, in the midst of its call: it must not use that Fork. Of a pool's forks several may call it at once.
using Output = std::function<void(int descriptor, std::string_view bytes)>;

struct BootOptions {
  std::string name = {};                      // argv[0] and in messages; empty: the path, or "program"
  std::vector<std::string> arguments = {};    // from argv[1] on
  std::vector<std::string> environment = {};  // NAME=value; nothing of the host's is passed on
  std::uint64_t memory_bytes = 64 << 20;      // everything the guest can write, together: data, heap, stack, call area
  std::uint64_t stack_bytes = 1 << 20;
  std::uint64_t call_area_bytes = 64 << 10;  // where write() puts buffers
  std::optional<std::chrono::nanoseconds> timeout =
      {};                                  // of booting, and of each warm-up call that has none of its own
  std::optional<std::uint64_t> seed = {};  // random bytes while booting; absent: the host's entropy
  Output output = {};                      // absent: what the guest prints is discarded
  std::string kvm_device = "/dev/kvm";
};

/// The one guest that is booted, before it is frozen: for calls that warm it up (fill caches, parse configuration).
/// Exists only while BootOptions' warm-up function runs.
class Master {
 public:
  /// As those of Snapshot and Fork.
  [[nodiscard]] Result<Function> find(std::string_view name) const;
  [[nodiscard]] Result<std::uint64_t> call(const Call& call);
  [[nodiscard]] Result<std::uint64_t> write(std::uint64_t offset, std::span<const std::byte> bytes);
  [[nodiscard]] Result<void> read(std::uint64_t address, std::span<std::byte> out) const;

 private:
  friend struct detail::MasterState;
  explicit Master(detail::MasterState& state) : state_(state) {}
  detail::MasterState& state_;
};

/// Returns an error if there is to be no snapshot; boot() passes it on.
using WarmUp = std::function<Result<void>(Master&)>;

/// A warm guest, frozen. Immutable; copies share one. Pools keep what they need of it alive.
class Snapshot {
 public:
  /// Boots the static x86-64 Linux program (musl or glibc) in the file `path` until it waits for calls, lets `warm_up`
  /// call into it, and freezes it. Takes milliseconds. Errors: kInput (no such file, not such a program), kGuestFault
  /// (the program crashed, or exited without waiting for calls), kDeadline, kLimit (memory_bytes), kHost (no KVM
  /// device …), kUnsupported (this processor), kUsage (warm_up left a call unfinished), and what warm_up returns.
  [[nodiscard]] static Result<Snapshot> boot(const std::string& path, const BootOptions& options = {},
                                             const WarmUp& warm_up = {});
  /// The same with the bytes of such a file, which are copied where needed.
  [[nodiscard]] static Result<Snapshot> boot(std::span<const std::byte> elf, const BootOptions& options = {},
                                             const WarmUp& warm_up = {});

  /// Writes the snapshot to `path`, which holds the old file or all of the new one at any time. Readable by its owner
  /// only: it holds all of a guest's memory, and whoever can change it decides what guests do. Errors: kUsage (`path`
  /// is no regular file), kHost (the disk …).
  [[nodiscard]] Result<void> save(const std::string& path) const;

  /// A snapshot that save() wrote, here or on another machine of the kind; the file is copied, not mapped. Functions
  /// have to be found again. Errors: kInput (no such file, damaged, foreign), kUnsupported (of another version, or of a
  /// processor with more features), kLimit, kHost.
  [[nodiscard]] static Result<Snapshot> load(const std::string& path, const std::string& kvm_device = "/dev/kvm");

  /// A function by the name it was registered under (WARMFORK_REGISTER_VMCALL), else by its symbol. Costs a search:
  /// once, not for every request. Errors: kInput (no such function).
  [[nodiscard]] Result<Function> find(std::string_view name) const;

  /// Bytes of memory the snapshot itself holds: the guest's pages that are not zero.
  [[nodiscard]] std::uint64_t stored_bytes() const;

 private:
  friend class Pool;
  explicit Snapshot(std::shared_ptr<const detail::SnapshotState> state) : state_(std::move(state)) {}
  static Result<Snapshot> boot_named(std::span<const std::byte> elf, const std::string& name,
                                     const BootOptions& options, const WarmUp& warm_up);
  std::shared_ptr<const detail::SnapshotState> state_;
};

// --- Forks -----------------------------------------------------------------------------------------------------------

/// For Fork::open_channel().
struct ChannelOptions {
  std::uint64_t polls_before_parking = 1 << 18;  // of an idle guest, about a nanosecond each; 0: it never parks
  std::chrono::nanoseconds spin = std::chrono::microseconds(20);  // a caller spins as long before it yields
  std::optional<int> cpu = {};                                    // the guest's thread is pinned to this processor
};

/// A fork on loan from a Pool: yours until it is destroyed, and then reset as the pool's policy says. Calls on one loan
/// find what the calls before have left, until reset(). It keeps its pool alive. Empty by default and when moved from.
///
/// Every function of an empty Fork, or after release(), fails with kUsage or does nothing.
class Fork {
 public:
  Fork();
  Fork(Fork&&) noexcept;
  Fork& operator=(Fork&&) noexcept;
  ~Fork();

  /// Calls a function of the guest and returns what it returns. Errors: kUsage (too many arguments); kGuestFault (the
  /// guest has ended, see fault()), kDeadline, kCancelled and kHost: every later call fails until reset().
  [[nodiscard]] Result<std::uint64_t> call(const Call& call);

  /// Copies `bytes` into the call area at `offset` and returns their guest address, to be passed as an argument.
  /// Errors: kLimit (they do not fit).
  [[nodiscard]] Result<std::uint64_t> write(std::uint64_t offset, std::span<const std::byte> bytes);

  /// Copies guest memory out, with the guest's own rights. Errors: kGuestFault (it may not read there itself); with an
  /// open channel kLimit (outside the call area).
  [[nodiscard]] Result<void> read(std::uint64_t address, std::span<std::byte> out) const;

  /// As new: memory, registers, heap, random bytes, whatever has become of the guest. Closes the channel. Errors: kHost
  /// (this fork cannot be used any more; give it back).
  [[nodiscard]] Result<void> reset();

  /// Different for every fork and every reset in this process, as the guest sees it in warmfork::fork_info(); 0 if
  /// empty.
  [[nodiscard]] std::uint64_t generation() const;

  /// Stops the call that runs, or the next one if none does; reset() and giving back forget it. Any thread, while the
  /// Fork object itself is neither moved nor destroyed nor released. Not for signal handlers.
  void cancel();

  /// Why the guest has ended, if a fault ended it: one sentence, then lines of registers. Empty otherwise, and while a
  /// channel is open.
  [[nodiscard]] std::string fault() const;

  /// Calls without exits: from here on a thread keeps the guest polling for calls in its memory, and call() costs two
  /// cache lines instead of a KVM_RUN: for many calls of ONE tenant, because the guest can go on running after it has
  /// answered. It uses a processor while calls come, and parks when they do not. call(), write(), read() (of the call
  /// area only) and cancel() work as before. After a call that failed, every later one fails the same way until
  /// reset(). Errors: kUsage (a channel is open, or the guest has ended), kHost (no thread, no such processor).
  [[nodiscard]] Result<void> open_channel(const ChannelOptions& options = {});
  /// Waits until the guest has noticed, at most about a second. Errors: that of the call that failed; nothing if no
  /// channel is open.
  Result<void> close_channel();

  /// Gives the fork back before the object is destroyed. A second time it does nothing.
  void release();
  /// Whether there is a fork: not empty, not given back.
  [[nodiscard]] explicit operator bool() const { return state_ != nullptr; }

 private:
  friend class Pool;
  explicit Fork(std::unique_ptr<detail::ForkState> state);
  std::unique_ptr<detail::ForkState> state_;
};

// --- Pools -----------------------------------------------------------------------------------------------------------

/// What separates one fork from another; SECURITY.md says what each is worth.
enum class ForkKind : int {
  kSpace = 0,  // page tables and memory of its own in a VM shared with the pool's other forks: cheaper to make
  kVm = 1,     // a KVM VM of its own
};
/// How a reset finds and restores what was changed. kAuto is right unless you have measured.
enum class ResetMode : int { kAuto = 0, kFullCopy = 1, kDirtyLog = 2, kDirtyRing = 3, kCowRemap = 4 };
/// When a used fork is put back.
enum class ResetPolicy : int {
  kStrict = 0,    // before request() or release() returns: nothing of a request is in memory after it
  kDeferred = 1,  // later, when it is next taken or in the background: shorter requests
};

struct PoolOptions {
  ForkKind kind = ForkKind::kSpace;
  ResetMode reset = ResetMode::kAuto;
  ResetPolicy policy = ResetPolicy::kStrict;
  std::size_t ready = 1;                                 // forks made ahead
  std::size_t most = 64;                                 // forks at once; who wants one more waits
  std::optional<std::chrono::nanoseconds> timeout = {};  // of calls that have none of their own; absent: no limit
  std::optional<std::uint64_t> seed = {};  // every fork gets the same random bytes; absent: unpredictable ones
  std::uint64_t heap_limit_bytes = 0;      // of each fork; 0: all of memory_bytes that is left
  std::uint64_t instruction_budget = 0;    // handed to guests that count instructions themselves; 0: none
  Output output = {};                      // absent: what guests print is discarded
};

/// What a pool has done since it was made; the last three: right now. While threads use the pool the figures are of
/// slightly different moments.
struct PoolStats {
  std::uint64_t acquired = 0;   // forks lent, by request() too
  std::uint64_t waited = 0;     // of them, after waiting for another to come back
  std::uint64_t faults = 0;     // forks that came back crashed or exited …
  std::uint64_t deadlines = 0;  // … or stopped, by a deadline or a cancellation
  std::uint64_t replaced = 0;   // forks that could not be reset and were thrown away
  std::uint64_t forks = 0;
  std::uint64_t vcpus = 0;
  std::uint64_t in_use = 0;
};

/// Ready forks for many threads. A thread gets the fork back it had last, without a lock.
class Pool {
 public:
  /// Makes options.ready forks. Errors: kUsage (ready > most, most = 0, a reset mode that does not fit), kLimit (`most`
  /// is more than this KVM can have), kUnsupported (a reset mode this KVM lacks), kHost.
  [[nodiscard]] static Result<Pool> create(const Snapshot& snapshot, const PoolOptions& options = {});
  Pool(Pool&&) noexcept;
  Pool& operator=(Pool&&) noexcept;
  /// No thread may be inside a function of the pool any more: close() it before if one might be. Forks on loan stay
  /// usable and keep alive what they need.
  ~Pool();

  /// One call in a fork nobody has used since it was reset. The call's deadline is that of the whole request: waiting
  /// for a fork counts. A guest that crashes costs this request, nothing else. Errors: as Fork::call() and acquire().
  [[nodiscard]] Result<std::uint64_t> request(const Call& call);

  /// A fork as new, for several calls or calls with buffers. Waits while all are in use, first come, first served, at
  /// most `timeout` (absent: as long as it takes). Errors: kDeadline, kCancelled (the pool is closed), kHost (there is
  /// no fork, and none could be made).
  [[nodiscard]] Result<Fork> acquire(std::optional<std::chrono::nanoseconds> timeout = {});

  /// Cancels all calls and acquisitions in flight and returns when every Fork has been given back, so not for a thread
  /// that holds one; the pool only says kCancelled from then on.
  void close();

  [[nodiscard]] PoolStats stats() const;
  /// "space forks, copied, reset by dirty_ring, strict"
  [[nodiscard]] std::string describe() const;

 private:
  explicit Pool(std::shared_ptr<detail::PoolState> state);
  std::shared_ptr<detail::PoolState> state_;
};

}  // namespace warmfork::api
