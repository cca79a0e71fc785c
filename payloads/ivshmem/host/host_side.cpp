#include "ivshmem/host/host_side.hpp"

#include "base/entropy.hpp"
#include "base/tsc_clock.hpp"
#include "ivshmem/peer.hpp"

#include <cstring>

namespace warmfork::ivshmem {
namespace {

// Order of the states within one message, to tell going on from going back.
int rank(GuestState state) {
  switch (state) {
    case GuestState::kReady: return 0;
    case GuestState::kProcessing: return 1;
    case GuestState::kAcknowledged: return 2;
    default: return -1;
  }
}

// How many looks before a rest; a message that takes a polling guest microseconds is found without one.
constexpr std::uint64_t kLooks = 256;
constexpr std::uint64_t kRestNs = 10'000'000;

}  // namespace

GuestWatch::Look GuestWatch::broken(std::string why) {
  if (violation_.empty()) violation_ = std::move(why);
  return Look::kBroken;
}

GuestWatch::Look GuestWatch::look(std::uint64_t word) {
  if (!violation_.empty()) return Look::kBroken;
  const StateWord found = decode(word);
  if (found.session != session_) {
    if (!joined_) return Look::kWaiting;
    return broken(fmt::format("the guest has left the session: its state word is of session {:#x}, this is {:#x}",
                              found.session, session_));
  }
  if (found.state >= kStates)
    return broken(fmt::format("the guest's state is {}, at most {}", found.state, kStates - 1));
  const auto state = static_cast<GuestState>(found.state);
  if (rank(state) < 0) return broken(fmt::format("the guest is in this session and {}", name_of(state)));
  if (!joined_ && (state != GuestState::kReady || found.message != 0)) {
    return broken(fmt::format("the guest has joined as {} with message {}, expected ready with 0", name_of(state),
                              found.message));
  }
  // A guest can be where it was last seen, or on its way from there to what is waited for.
  const bool repeated = joined_ && state == state_ && found.message == seen_message_;
  if (!repeated && joined_) {
    const bool next =
        wanted_ == GuestState::kReady
            ? state == GuestState::kReady && state_ == GuestState::kAcknowledged && found.message == message_
            : found.message == message_ && rank(state) > 0 && (seen_message_ != message_ || rank(state) > rank(state_));
    if (!next) {
      return broken(fmt::format("the guest went from {} with message {} to {} with message {}, expected {} with {}",
                                name_of(state_), seen_message_, name_of(state), found.message, name_of(wanted_),
                                message_));
    }
  }
  joined_ = true;
  state_ = state;
  seen_message_ = found.message;
  return state == wanted_ && found.message == message_ ? Look::kArrived : Look::kWaiting;
}

Result<GuestResult> read_result(const GuestPage& page, std::uint64_t round_trip, std::uint64_t slack) {
  const std::uint64_t error = load_once(&page.error);
  const GuestTimes times{.hot = load_once(&page.times.hot),
                         .cold = load_once(&page.times.cold),
                         .copy = load_once(&page.times.copy),
                         .verify = load_once(&page.times.verify),
                         .total = load_once(&page.times.total)};
  constexpr auto kMostError = static_cast<std::uint64_t>(GuestError::kFrameBytes);
  if (error > kMostError)
    return fail(ErrorKind::kGuestFault, "the guest's error code is {}, at most {}", error, kMostError);
  const std::uint64_t most = round_trip + slack < round_trip ? ~std::uint64_t{0} : round_trip + slack;
  if (times.total == 0 || times.total > most) {
    return fail(ErrorKind::kGuestFault, "the guest says that a message took it {} ticks, the host saw {} go by",
                times.total, round_trip);
  }
  const bool measured = error != static_cast<std::uint64_t>(GuestError::kFrameBytes);
  std::uint64_t sum = 0;
  const std::pair<const char*, std::uint64_t> phases[] = {
      {"hot read", times.hot}, {"cold read", times.cold}, {"copy", times.copy}, {"verification", times.verify}};
  for (const auto& [name, took] : phases) {
    if (took > times.total - sum || (measured && took == 0)) {
      return fail(ErrorKind::kGuestFault, "the guest says that its {} took {} ticks, with {} of its {} left", name,
                  took, times.total - sum, times.total);
    }
    sum += took;
  }
  return GuestResult{.error = static_cast<GuestError>(error), .times = times};
}

std::string read_name(const GuestPage& page) {
  std::string name;
  for (const char& at : page.name) {
    const char found = __atomic_load_n(&at, __ATOMIC_RELAXED);
    if (found == 0) break;
    name += found >= ' ' && found <= '~' ? found : '?';
  }
  return name;
}

Result<Meeting> meet(std::span<std::byte> memory, std::span<std::byte> guest_part, std::uint64_t frame_bytes) {
  if (memory.size() < kFrameOffset || memory.size() - kFrameOffset < frame_bytes) {
    return fail(ErrorKind::kUsage, "shared memory of {} bytes; a frame of {} needs at least {}", memory.size(),
                frame_bytes, kFrameOffset + frame_bytes);
  }
  if (!guest_part.empty() && guest_part.size() < kPageBytes) {
    return fail(ErrorKind::kUsage, "{} bytes for the guest's page, at least {}", guest_part.size(), kPageBytes);
  }
  std::byte* const guest = guest_part.empty() ? memory.data() + kGuestPageOffset : guest_part.data();
  // SAFETY: page-aligned mappings, checked to be large enough; the types are plain words.
  return Meeting{
      .host = reinterpret_cast<HostPage*>(memory.data()),
      .guest = reinterpret_cast<const GuestPage*>(guest),
      .frame = std::span(reinterpret_cast<unsigned char*>(memory.data() + kFrameOffset), memory.size() - kFrameOffset)};
}

Status HostSide::move(HostState to) {
  if (!may_follow(state_, to)) {
    return fail(ErrorKind::kUsage, "the host is {}, it cannot become {}", name_of(state_), name_of(to));
  }
  state_ = to;
  store(&meeting_.host->state,
        encode({.state = static_cast<std::uint8_t>(to), .message = message_, .session = session_}));
  return {};
}

Status HostSide::wait(GuestState state) {
  watch_.expect(state, message_);
  const std::uint64_t begin = tsc_now();
  const std::uint64_t limit = ns_to_tsc(static_cast<double>(waiting_.timeout_ns));
  for (std::uint64_t looks = 1;; ++looks) {
    const std::uint64_t word = load(&meeting_.guest->state);
    const GuestWatch::Look look = watch_.look(word);
    if (look == GuestWatch::Look::kArrived) return {};
    if (look == GuestWatch::Look::kBroken) return fail(ErrorKind::kGuestFault, "{}", watch_.violation());
    if (looks % kLooks != 0) {
      __builtin_ia32_pause();
      continue;
    }
    if (waiting_.cancelled()) return fail(ErrorKind::kCancelled, "interrupted");
    WARMFORK_TRY(waiting_.alive());
    if (tsc_now() - begin >= limit) {
      const std::uint64_t ms = waiting_.timeout_ns / 1'000'000;
      if (!watch_.joined()) return fail(ErrorKind::kDeadline, "no guest has joined within {} ms", ms);
      return fail(ErrorKind::kDeadline, "the guest did not become {} with message {} within {} ms: it is {}",
                  name_of(state), message_, ms, name_of(watch_.state()));
    }
    if (waiting_.rest) waiting_.rest(kRestNs);
  }
}

Status HostSide::begin() {
  HostPage& page = *meeting_.host;
  const StateWord old_host = decode(load(&page.state));
  const StateWord old_guest = decode(load(&meeting_.guest->state));
  std::uint32_t session = 0;
  while (session == 0 || session == old_host.session || session == old_guest.session || session == session_) {
    draw_entropy(std::as_writable_bytes(std::span(&session, 1)));
  }
  store(&page.magic, 0);
  session_ = session;
  message_ = 0;
  watch_ = GuestWatch(session);
  WARMFORK_TRY(move(HostState::kInitializing));
  // A guest of the session before may just be looking at them; it believes them behind magic and state only.
  store_once(&page.version, kVersion);
  store_once(&page.page_bytes, kPageBytes);
  store_once(&page.frame_offset, kFrameOffset);
  store_once(&page.frame_capacity, meeting_.frame.size());
  store_once(&page.frame_bytes, 0);
  std::memset(page.sha256, 0, sizeof page.sha256);
  store(&page.magic, kMagic);
  WARMFORK_TRY(move(HostState::kReady));
  waiting_.notify();
  WARMFORK_TRY(wait(GuestState::kReady));
  guest_name_ = read_name(*meeting_.guest);
  return {};
}

Result<HostSide::Sample> HostSide::send(std::span<const unsigned char> frame, const unsigned char (&hash)[kHashBytes]) {
  if (frame.empty() || frame.size() > meeting_.frame.size()) {
    return fail(ErrorKind::kUsage, "a frame of {} bytes, 1 to {} fit", frame.size(), meeting_.frame.size());
  }
  if (message_ == kMostMessages) return fail(ErrorKind::kLimit, "{} messages in a session are the most", kMostMessages);
  if (state_ != HostState::kReady) return fail(ErrorKind::kUsage, "the host is {}, not ready", name_of(state_));
  Sample sample;
  HostPage& page = *meeting_.host;
  const std::uint64_t write_begin = ticks();
  copy_frame(meeting_.frame.data(), frame.data(), frame.size());
  sample.host_write = ticks() - write_begin;
  page.frame_bytes = frame.size();
  std::memcpy(page.sha256, hash, kHashBytes);
  ++message_;
  const std::uint64_t begin = ticks();
  WARMFORK_TRY(move(HostState::kSending));
  waiting_.notify();
  WARMFORK_TRY(wait(GuestState::kAcknowledged));
  sample.round_trip = ticks() - begin;
  WARMFORK_TRY_ASSIGN(sample.guest, read_result(*meeting_.guest, sample.round_trip, ns_to_tsc(20'000)));
  WARMFORK_TRY(move(HostState::kReady));
  waiting_.notify();
  WARMFORK_TRY(wait(GuestState::kReady));
  return sample;
}

Status HostSide::complete() {
  WARMFORK_TRY(move(HostState::kCompleted));
  waiting_.notify();
  return {};
}

}  // namespace warmfork::ivshmem
