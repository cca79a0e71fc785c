#include "ivshmem/host/runner.hpp"

#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "ivshmem/peer.hpp"

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <array>

extern "C" const unsigned char warmfork_ivshmem_guest_begin[];
extern "C" const unsigned char warmfork_ivshmem_guest_end[];

namespace warmfork::ivshmem {
namespace {

constexpr std::uint64_t kCompletedSession = 2;  // what the guest's `serve` returns; see guest.cpp
// How long a guest looks for the host's next step before it parks: about what parking and waking costs.
constexpr double kPatienceNs = 20'000;
// A guest that has parked looks again this often even if nobody rings, so that an end is never missed.
constexpr std::uint64_t kParkedNs = 50'000'000;

void pin_thread(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  // Not pinned is slower, not wrong.
  (void)::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
}

std::uint64_t thread_cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// A runner with a thread: what it shares with the host's side.
class ThreadedRunner : public Runner {
 public:
  explicit ThreadedRunner(const RunnerOptions& options) : options_(options) {}

  Status start(Wake wake) override {
    wake_ = wake;
    ended_ = false;
    stop_ = false;
    failure_ = {};
    tid_ = 0;
    thread_ = std::thread([this] {
      pin_thread(options_.cpu);
      const std::uint64_t before = thread_cpu_ns();
      tid_ = ::gettid();
      tid_.notify_one();
      failure_ = take_part();
      cpu_ns_ = thread_cpu_ns() - before;
      ended_ = true;
      woken_by_end();
    });
    tid_.wait(0);
    counters_.open(tid_);
    return {};
  }
  Status finish(bool abandon) override {
    if (!thread_.joinable()) return failure_;
    if (abandon) {
      stop_ = true;
      interrupt();
    }
    thread_.join();
    return failure_;
  }
  std::optional<std::uint64_t> cpu_ns() const override { return cpu_ns_; }
  Counts counts() const override { return counters_.read(); }
  std::string why_not_counted() const override { return counters_.why(); }
  Waiting waiting() override {
    Waiting waiting;
    waiting.timeout_ns = options_.timeout_ns;
    waiting.alive = [this]() -> Status {
      if (!ended_.load()) return {};
      if (!failure_) return failure_;
      return fail(ErrorKind::kGuestFault, "the guest has left before the session's end");
    };
    // The host's own turn may need the guest's processor.
    waiting.rest = [](std::uint64_t) { ::sched_yield(); };
    return waiting;
  }

 protected:
  virtual Status take_part() = 0;
  virtual void interrupt() = 0;
  virtual void woken_by_end() {}
  void end_thread() {
    if (thread_.joinable()) (void)finish(true);
  }

  RunnerOptions options_;
  Wake wake_ = Wake::kPolling;
  std::atomic<bool> stop_{false};

 private:
  std::thread thread_;
  std::atomic<int> tid_{0};
  std::atomic<bool> ended_{false};
  Status failure_;  // by the thread before `ended_`
  std::uint64_t cpu_ns_ = 0;
  ThreadCounters counters_;
};

class GuestRunner final : public ThreadedRunner {
 public:
  GuestRunner(Guest& guest, Gva serve, std::shared_ptr<Doorbell> to_host, std::shared_ptr<Doorbell> to_guest,
              const RunnerOptions& options)
      : ThreadedRunner(options),
        guest_(guest),
        serve_(serve),
        to_host_(std::move(to_host)),
        to_guest_(std::move(to_guest)) {}
  ~GuestRunner() override { end_thread(); }

  Waiting waiting() override {
    Waiting waiting = ThreadedRunner::waiting();
    if (wake_ == Wake::kDoorbell) {
      waiting.notify = [this] { to_guest_->ring(); };
      waiting.rest = [this](std::uint64_t ns) { (void)to_host_->wait(ns); };
    }
    return waiting;
  }

 private:
  Status take_part() override {
    const bool doorbell = wake_ == Wake::kDoorbell;
    const auto patience = ns_to_tsc(doorbell ? kPatienceNs : static_cast<double>(options_.timeout_ns));
    const std::array<std::uint64_t, 2> arguments{patience, doorbell ? 1U : 0U};
    // Longer than anything the host waits for: a guest that does not come back was abandoned by then.
    const CallOptions limit{.timeout_ns = 4 * options_.timeout_ns};
    const std::uint64_t most = ns_to_tsc(2 * static_cast<double>(options_.timeout_ns));
    for (std::uint64_t begin = tsc_now(); !stop_.load();) {
      WARMFORK_TRY_ASSIGN(const std::uint64_t end, guest_.call(serve_, arguments, limit));
      if (end == kCompletedSession) return {};
      if (end != 0) return fail(ErrorKind::kGuestFault, "the guest ended its service with {}", end);
      if (!doorbell)
        return fail(ErrorKind::kDeadline, "the guest has waited {} ms for the host", options_.timeout_ns / 1'000'000);
      if (to_guest_->wait(kParkedNs)) begin = tsc_now();
      if (tsc_now() - begin > most) return fail(ErrorKind::kDeadline, "nobody has rung for the guest");
    }
    return fail(ErrorKind::kCancelled, "interrupted");
  }
  void interrupt() override {
    guest_.cancel();
    to_guest_->ring();
  }
  void woken_by_end() override { to_host_->ring(); }

  Guest& guest_;
  Gva serve_;
  std::shared_ptr<Doorbell> to_host_;
  std::shared_ptr<Doorbell> to_guest_;
};

class ThreadRunner final : public ThreadedRunner {
 public:
  ThreadRunner(const Peer::Memory& memory, Mapping copy, const RunnerOptions& options)
      : ThreadedRunner(options), copy_(std::move(copy)), peer_(memory) {
    peer_.begin();
  }
  ~ThreadRunner() override { end_thread(); }

 private:
  Status start(Wake wake) override {
    if (wake == Wake::kDoorbell) return fail(ErrorKind::kUsage, "a thread that polls has no doorbell");
    return ThreadedRunner::start(wake);
  }
  Status take_part() override {
    for (std::uint64_t idle = 0; !stop_.load(std::memory_order_relaxed);) {
      const Peer::Step step = peer_.step();
      if (step == Peer::Step::kCompleted) return {};
      if (step == Peer::Step::kNothing && ++idle % 4096 == 0) ::sched_yield();  // there may be one processor only
      __builtin_ia32_pause();
    }
    return fail(ErrorKind::kCancelled, "interrupted");
  }
  void interrupt() override {}

  Mapping copy_;
  Peer peer_;
};

class RemoteRunner final : public Runner {
 public:
  explicit RemoteRunner(const RunnerOptions& options) : options_(options) {}
  Status start(Wake wake) override {
    if (wake == Wake::kDoorbell) return fail(ErrorKind::kUsage, "a memory without a device has no doorbell");
    return {};
  }
  Status finish(bool) override { return {}; }
  Waiting waiting() override {
    Waiting waiting;
    waiting.timeout_ns = options_.timeout_ns;
    waiting.rest = [](std::uint64_t) { ::sched_yield(); };
    return waiting;
  }
  std::optional<std::uint64_t> cpu_ns() const override { return {}; }
  Counts counts() const override { return {}; }
  std::string why_not_counted() const override { return "the guest is not of this process"; }

 private:
  RunnerOptions options_;
};

// SAFETY: a mapping is page-aligned and plain bytes.
unsigned char* bytes_of(const Mapping& mapping) { return reinterpret_cast<unsigned char*>(mapping.bytes().data()); }

}  // namespace

Result<std::unique_ptr<Runner>> make_guest_runner(Guest& guest, Gva host_address, Gva guest_address,
                                                  std::uint64_t frame_capacity, const RunnerOptions& options) {
  WARMFORK_TRY_ASSIGN(const Gva prepare, guest.find_vmcall("prepare"));
  WARMFORK_TRY_ASSIGN(const Gva serve, guest.find_vmcall("serve"));
  WARMFORK_TRY_ASSIGN(auto to_host, Doorbell::create());
  WARMFORK_TRY_ASSIGN(auto to_guest, Doorbell::create());
  WARMFORK_TRY(guest.bind_doorbell(kGuestDoorbell, to_host));
  const std::array<std::uint64_t, 4> arguments{host_address.value, guest_address.value,
                                               host_address.value + kFrameOffset, frame_capacity};
  WARMFORK_TRY_ASSIGN(const std::uint64_t prepared, guest.call(prepare, arguments, {.timeout_ns = options.timeout_ns}));
  if (prepared != 0) {
    return fail(ErrorKind::kLimit, "the guest has no memory for a copy of a frame of {} bytes", frame_capacity);
  }
  return std::make_unique<GuestRunner>(guest, serve, std::move(to_host), std::move(to_guest), options);
}

Result<std::unique_ptr<Runner>> make_thread_runner(const Meeting& meeting, GuestPage& guest_page,
                                                   const RunnerOptions& options) {
  WARMFORK_TRY_ASSIGN(Mapping copy, Mapping::anonymous(meeting.frame.size()));
  copy.populate();
  const Peer::Memory memory{.host = meeting.host,
                            .guest = &guest_page,
                            .frame = meeting.frame.data(),
                            .frame_capacity = meeting.frame.size(),
                            .copy = bytes_of(copy),
                            .name = "thread of warmfork"};
  return std::make_unique<ThreadRunner>(memory, std::move(copy), options);
}

std::unique_ptr<Runner> make_remote_runner(const RunnerOptions& options) {
  return std::make_unique<RemoteRunner>(options);
}

std::span<const std::byte> guest_elf() {
  return std::as_bytes(std::span(warmfork_ivshmem_guest_begin, warmfork_ivshmem_guest_end));
}

Result<PeerEnd> run_peer(std::span<std::byte> memory, const std::string& name, std::uint64_t sessions,
                         std::uint64_t timeout_ns, const std::function<bool()>& cancelled) {
  WARMFORK_TRY_ASSIGN(const Meeting meeting, meet(memory, {}, 1));
  WARMFORK_TRY_ASSIGN(Mapping copy, Mapping::anonymous(meeting.frame.size()));
  copy.populate();
  // SAFETY: meet() has checked that the page is there.
  auto* const page = reinterpret_cast<GuestPage*>(memory.data() + kGuestPageOffset);
  Peer peer({.host = meeting.host,
             .guest = page,
             .frame = meeting.frame.data(),
             .frame_capacity = meeting.frame.size(),
             .copy = bytes_of(copy),
             .name = name.c_str()});
  peer.begin();
  const std::uint64_t most = ns_to_tsc(static_cast<double>(timeout_ns));
  std::uint64_t last = tsc_now();
  Status why;
  for (std::uint64_t looks = 1; peer.sessions() < sessions; ++looks) {
    if (peer.step() != Peer::Step::kNothing) last = tsc_now();
    __builtin_ia32_pause();
    if (looks % 1024 != 0) continue;
    if (cancelled()) {
      why = fail(ErrorKind::kCancelled, "interrupted");
      break;
    }
    if (tsc_now() - last > most) {
      why = fail(ErrorKind::kDeadline, "nothing has come from a host for {} ms; the guest is {}",
                 timeout_ns / 1'000'000, name_of(peer.state()));
      break;
    }
    ::sched_yield();
  }
  peer.leave();
  return PeerEnd{
      .sessions = peer.sessions(), .frames = peer.frames(), .verified = peer.verified(), .why = std::move(why)};
}

}  // namespace warmfork::ivshmem
