#include "fork/call_channel.hpp"

#include "base/tsc_clock.hpp"
#include "machine/call_metrics.hpp"
#include "memory/guest_memory.hpp"
#include "metrics/metrics.hpp"
#include "trace/trace.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

namespace warmfork {
namespace {

constexpr std::uint64_t kNever = ~std::uint64_t{0};
constexpr unsigned kHotPolls = 2000;  // without a look at anything else: some microseconds
constexpr double kYieldNs = 100'000;
constexpr double kMostSleepNs = 1'000'000;
constexpr double kLeastSleepNs = 1'000;
constexpr std::uint64_t kPatienceNs = 1'000'000'000;  // of close() with an idle guest
constexpr long kRepeatNs = 100'000;

void sleep_ns(double ns) {
  const timespec time{.tv_sec = 0, .tv_nsec = static_cast<long>(ns)};
  ::nanosleep(&time, nullptr);
}

// True if the caller's thread and the server's, which is pinned or starts where the caller may run, have to share one.
bool one_processor(std::optional<int> pinned) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return false;
  if (pinned) CPU_SET(static_cast<std::size_t>(*pinned), &set);
  return CPU_COUNT(&set) == 1;
}

Status pin(std::jthread& thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = ::pthread_setaffinity_np(thread.native_handle(), sizeof set, &set); error != 0) {
    errno = error;
    return fail_errno("pinning the call ring's server to CPU {}", cpu);
  }
  return {};
}

// Waits between looks as the header says.
class Patience {
 public:
  Patience(std::uint64_t start, std::uint64_t spin_ticks) : start_(start), spin_ticks_(spin_ticks) {}

  void pass(std::uint64_t now, std::uint64_t deadline) {
    const std::uint64_t waited = now - start_;
    __builtin_ia32_pause();
    if (waited < spin_ticks_) return;
    const double ns = tsc_to_ns(waited - spin_ticks_);
    if (ns < kYieldNs) {
      ::sched_yield();
      return;
    }
    const double left = deadline == kNever ? kMostSleepNs : tsc_to_ns(deadline - now);
    sleep_ns(std::clamp(std::min(ns / 8, left), kLeastSleepNs, kMostSleepNs));
  }

 private:
  std::uint64_t start_;
  std::uint64_t spin_ticks_;
};

std::span<std::byte> window_part(Guest& guest, const AddressRange& range) {
  AddressSpace& space = guest.memory();
  return space.window().subspan(*space.layout().window_offset(range.begin), range.size);
}

// Says that a caller is inside.
class Inside {
 public:
  explicit Inside(std::atomic<bool>& busy) : busy_(busy) { busy_.store(true, std::memory_order_relaxed); }
  ~Inside() { busy_.store(false, std::memory_order_release); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  std::atomic<bool>& busy_;
};

}  // namespace

CallChannel::CallChannel(Guest& guest, const ChannelOptions& options)
    : ring_(window_part(guest, guest.memory().layout().call_ring())),
      timeout_ns_(options.timeout_ns),
      ticks_per_ns_(1 / tsc_ns_per_tick()),
      put_(guest.memory().window().size() / kPage),
      guest_(guest),
      options_(options) {
  ::sem_init(&wakeup_, 0, 0);
}

Result<std::unique_ptr<CallChannel>> CallChannel::open_for_one_tenant(Guest& guest, const ChannelOptions& options) {
  const AddressRange range = guest.memory().layout().call_ring();
  static_assert(sizeof(CallRing) <= kPage);
  WARMFORK_TRY(guest.begin_service());
  std::unique_ptr<CallChannel> channel(new CallChannel(guest, options));
  // Together with one processor a spinning caller only keeps the guest from running.
  channel->spin_ticks_ = one_processor(options.cpu) ? 0 : ns_to_tsc(static_cast<double>(options.spin_ns));
  // No dirty tracking sees what the host writes there.
  guest.memory().dirty().add(*guest.memory().layout().window_offset(range.begin) / kPage);
  channel->ring_.clear();
  try {
    channel->thread_ = std::jthread([&channel = *channel] {
      trace::name_thread("call ring");
      channel.serve();
    });
  } catch (const std::system_error& error) {
    channel->closed_ = true;
    guest.end_service();
    return fail(ErrorKind::kHost, "cannot start the call ring's server: {}", error.what());
  }
  if (options.cpu) WARMFORK_TRY(pin(channel->thread_, *options.cpu));
  return channel;
}

CallChannel::~CallChannel() {
  if (!closed_) {
    // Answers nobody will get are not waited for.
    const bool in_call = busy_.load(std::memory_order_acquire);
    if (in_call) cancel();
    while (busy_.load(std::memory_order_acquire)) sleep_ns(kRepeatNs);
    if (ring_.in_flight() != 0) cancel();
    (void)close();
  }
  ::sem_destroy(&wakeup_);
}

// --- The server thread -----------------------------------------------------------------------------------------------

void CallChannel::serve() {
  // What has been posted before the guest goes on, it sees: if it parks after that, it has found nothing newer.
  std::uint64_t seen = posted_.load(std::memory_order_acquire);
  auto service = guest_.serve(options_.polls_before_parking);
  while (service && *service == Guest::Service::kParked) {
    parks_.fetch_add(1, std::memory_order_relaxed);
    sleep_until_posted(seen);
    seen = posted_.load(std::memory_order_acquire);
    service = guest_.serve_on();
  }
  if (!service) {
    outcome_ = Failure(std::move(service).error());
  } else if (!closing_.load(std::memory_order_acquire)) {
    outcome_ = guest_.condemn("the program left the call ring's server");
  }
  ended_.store(true, std::memory_order_release);
}

void CallChannel::sleep_until_posted(std::uint64_t seen) {
  // Sequentially consistent against post_now() and the stops: one of the two sees the other.
  parked_.store(true, std::memory_order_seq_cst);
  const bool needed = posted_.load(std::memory_order_seq_cst) != seen || stopping_.load(std::memory_order_seq_cst);
  if (needed && parked_.exchange(false, std::memory_order_seq_cst)) return;
  while (::sem_wait(&wakeup_) != 0 && errno == EINTR) {
  }
}

void CallChannel::wake() {
  if (parked_.exchange(false, std::memory_order_seq_cst)) ::sem_post(&wakeup_);
}

// --- The caller ------------------------------------------------------------------------------------------------------

std::uint64_t CallChannel::deadline_after(std::uint64_t timeout_ns) const {
  if (timeout_ns == 0) return kNever;
  const double ticks = static_cast<double>(timeout_ns) * ticks_per_ns_;
  constexpr double kMost = 9e18;
  return tsc_now() + static_cast<std::uint64_t>(std::min(ticks, kMost));
}

Failure CallChannel::failure() const {
  if (!outcome_) return Failure(outcome_.error());
  return fail(ErrorKind::kUsage, "{}: call through a channel that is closed", guest_.program().name);
}

Status CallChannel::check_request(Gva function, std::span<const std::uint64_t> arguments) const {
  if (closed_ || ended()) [[unlikely]]
    return failure();
  if (arguments.size() > 6) [[unlikely]]
    return fail(ErrorKind::kUsage, "vmcall with {} arguments, at most 6", arguments.size());
  if (function.value == 0 || !x86::is_user_address(function.value)) [[unlikely]]
    return fail(ErrorKind::kUsage, "vmcall to {:#x}, outside user space", function.value);
  return {};
}

void CallChannel::post_now(std::uint64_t function, std::span<const std::uint64_t> arguments, std::uint64_t timeout_ns) {
  const std::uint64_t begin = metrics::on() ? tsc_now() : 0;
  ring_.post(function, arguments);
  const std::uint64_t sequence = ring_.posted();
  begun_[sequence % CallRingClient::kSlots] = begin;
  posted_.store(sequence, std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_seq_cst)) [[unlikely]]
    wake();
  deadlines_[sequence % CallRingClient::kSlots] = deadline_after(timeout_ns != 0 ? timeout_ns : timeout_ns_);
}

Result<std::uint64_t> CallChannel::call(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) {
  const Inside inside(busy_);
  WARMFORK_TRY(check_request(function, arguments));
  if (ring_.in_flight() != 0) [[unlikely]]
    return fail(ErrorKind::kUsage, "a call while {} requests are in flight", ring_.in_flight());
  post_now(function.value, arguments, options.timeout_ns);
  const std::uint64_t sequence = ring_.posted();
  for (unsigned i = 0; i < kHotPolls; ++i) {
    if (const auto answer = ring_.take()) [[likely]] {
      if (metrics::on()) note(sequence, *answer);
      return *answer;
    }
  }
  auto answer = take_patiently();
  if (metrics::on()) note(sequence, answer);
  return answer;
}

// A request that failed stays in flight; it is counted once.
void CallChannel::note(std::uint64_t sequence, const Result<std::uint64_t>& answer) {
  const std::uint64_t begin = std::exchange(begun_[sequence % CallRingClient::kSlots], 0);
  if (begin != 0) record_call(CallMode::kRing, tsc_now() - begin, answer, {});
}

Status CallChannel::post(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) {
  const Inside inside(busy_);
  WARMFORK_TRY(check_request(function, arguments));
  if (ring_.full()) return fail(ErrorKind::kLimit, "{} requests are in flight, as many as fit", ring_.in_flight());
  post_now(function.value, arguments, options.timeout_ns);
  return {};
}

Result<std::optional<std::uint64_t>> CallChannel::poll() {
  const Inside inside(busy_);
  if (ring_.in_flight() == 0) return fail(ErrorKind::kUsage, "no request is in flight");
  // Whether it has ended is asked first: what the guest answered before that counts.
  const bool was_over = closed_ || ended();
  const std::uint64_t sequence = ring_.oldest();
  if (const auto answer = ring_.take()) {
    if (metrics::on()) note(sequence, *answer);
    return answer;
  }
  if (!was_over && tsc_now() < deadlines_[sequence % CallRingClient::kSlots]) return std::nullopt;
  Failure failed = was_over ? failure() : expire();
  if (metrics::on()) note(sequence, failed);
  return failed;
}

Result<std::uint64_t> CallChannel::wait() {
  const Inside inside(busy_);
  if (ring_.in_flight() == 0) return fail(ErrorKind::kUsage, "no request is in flight");
  const std::uint64_t sequence = ring_.oldest();
  auto answer = take_patiently();
  if (metrics::on()) note(sequence, answer);
  return answer;
}

Result<std::uint64_t> CallChannel::take_patiently() {
  const std::uint64_t deadline = deadlines_[ring_.oldest() % CallRingClient::kSlots];
  Patience patience(tsc_now(), spin_ticks_);
  for (;;) {
    const bool was_over = closed_ || ended();
    if (const auto answer = ring_.take()) return *answer;
    if (was_over) return failure();
    const std::uint64_t now = tsc_now();
    if (now >= deadline) return expire();
    patience.pass(now, deadline);
  }
}

Failure CallChannel::expire() {
  stopping_.store(true, std::memory_order_seq_cst);
  // Again and again: between two runs of the guest there is nothing that could expire.
  while (!ended()) {
    guest_.cpu().expire();
    wake();
    sleep_ns(kRepeatNs);
  }
  return failure();
}

void CallChannel::cancel() {
  cancelled_.store(true, std::memory_order_seq_cst);
  if (ended()) return;
  stopping_.store(true, std::memory_order_seq_cst);
  guest_.cancel();
  wake();
}

Status CallChannel::close() {
  if (closed_) return outcome_;
  const Inside inside(busy_);
  std::uint64_t deadline = deadline_after(kPatienceNs);
  while (ring_.in_flight() != 0 && take_patiently()) {
  }
  if (!ended()) {
    deadline = std::max(deadline, deadline_after(kPatienceNs));
    closing_.store(true, std::memory_order_release);
    post_now(0, {}, 0);
    Patience patience(tsc_now(), spin_ticks_);
    while (!ended()) {
      const std::uint64_t now = tsc_now();
      if (now >= deadline) {
        (void)expire();
      } else {
        patience.pass(now, deadline);
      }
    }
  }
  closed_ = true;
  thread_.join();
  guest_.end_service();
  if (cancelled_.load(std::memory_order_acquire)) guest_.cpu().forget_cancel();
  put_.for_each_run([&](std::size_t first, std::size_t count) {
    for (std::size_t page = first; page < first + count; ++page) guest_.memory().dirty().add(page);
  });
  return outcome_;
}

// --- Buffers ---------------------------------------------------------------------------------------------------------

Result<Gva> CallChannel::put_buffer(std::uint64_t offset, std::span<const std::byte> bytes) {
  const AddressRange area = guest_.memory().call_area();
  if (offset > area.size || bytes.size() > area.size - offset) {
    return fail(ErrorKind::kLimit, "buffer of {} bytes at offset {} of a call area of {}", bytes.size(), offset,
                area.size);
  }
  if (closed_) return failure();
  // SAFETY: in the call area, as just checked, whose protection no guest can change (machine/guest_layout.cpp); the
  // guest may read and write there meanwhile, and only copies of it are ever looked at.
  copy_once(window_part(guest_, area).data() + offset, bytes.data(), bytes.size());
  const std::uint64_t begin = *guest_.memory().layout().window_offset(area.begin) + offset;
  for (std::uint64_t page = begin / kPage; page * kPage < begin + bytes.size(); ++page) put_.add(page);
  return area.begin + offset;
}

Status CallChannel::get_buffer(std::uint64_t offset, std::span<std::byte> out) const {
  const AddressRange area = guest_.memory().call_area();
  if (offset > area.size || out.size() > area.size - offset) {
    return fail(ErrorKind::kLimit, "buffer of {} bytes at offset {} of a call area of {}", out.size(), offset,
                area.size);
  }
  // SAFETY: as put_buffer().
  copy_once(out.data(), window_part(guest_, area).data() + offset, out.size());
  return {};
}

}  // namespace warmfork
