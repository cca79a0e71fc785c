#include "api/state.hpp"
#include "base/tsc_clock.hpp"

namespace warmfork::api {
namespace {

Error gone() { return usage_error("a fork that was given back, or never was one"); }
Error no_pool() { return usage_error("a pool that was moved elsewhere"); }

// What the public options have in place of the host's; false if it is none of them.
bool translate(const PoolOptions& options, ForkOptions& fork) {
  switch (options.kind) {
    case ForkKind::kSpace: fork.kind = ::warmfork::ForkKind::kSpace; break;
    case ForkKind::kVm: fork.kind = ::warmfork::ForkKind::kVm; break;
    default: return false;
  }
  switch (options.reset) {
    case ResetMode::kAuto: fork.reset = ::warmfork::ResetMode::kAuto; break;
    case ResetMode::kFullCopy: fork.reset = ::warmfork::ResetMode::kFullCopy; break;
    case ResetMode::kDirtyLog: fork.reset = ::warmfork::ResetMode::kDirtyLog; break;
    case ResetMode::kDirtyRing: fork.reset = ::warmfork::ResetMode::kDirtyRing; break;
    case ResetMode::kCowRemap:
      fork.reset = ::warmfork::ResetMode::kCowRemap;
      fork.population = Population::kCow;  // it works on nothing else
      break;
    default: return false;
  }
  fork.heap_limit_bytes = options.heap_limit_bytes;
  fork.instruction_budget = options.instruction_budget;
  fork.seed = options.seed;
  return options.policy == ResetPolicy::kStrict || options.policy == ResetPolicy::kDeferred;
}

::warmfork::Result<std::uint64_t> run(const detail::ForkState& state, const Call& call, std::uint64_t timeout_ns) {
  return state.lease.call(Gva{call.function().address}, call.arguments(), {.timeout_ns = timeout_ns});
}

}  // namespace

// --- Forks -----------------------------------------------------------------------------------------------------------

Status detail::ForkState::close_channel() {
  if (!channel) return {};
  // cancel() goes on reaching the channel while it is being closed, which may take a while.
  Status closed = channel->close();
  const std::unique_ptr<CallChannel> over = [this] {
    const std::scoped_lock lock(mutex);
    return std::move(channel);
  }();
  return closed;
}

Fork::Fork() = default;
Fork::Fork(std::unique_ptr<detail::ForkState> state) : state_(std::move(state)) {}
Fork::Fork(Fork&&) noexcept = default;
Fork& Fork::operator=(Fork&&) noexcept = default;
Fork::~Fork() = default;
void Fork::release() { state_.reset(); }

Result<std::uint64_t> Fork::call(const Call& call) {
  if (!state_) return gone();
  if (call.argument_count() > Call::kMaxArguments) return too_many_arguments(call);
  const std::uint64_t timeout_ns = to_timeout(call.timeout());
  auto answer = state_->channel
                    ? state_->channel->call(Gva{call.function().address}, call.arguments(), {.timeout_ns = timeout_ns})
                    : run(*state_, call, timeout_ns);
  if (!answer) return to_public(std::move(answer).error());
  return *answer;
}

Result<std::uint64_t> Fork::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!state_) return gone();
  const auto address =
      state_->channel ? state_->channel->put_buffer(offset, bytes) : state_->lease->put_buffer(offset, bytes);
  if (!address) return to_public(address.error());
  return address->value;
}

Result<void> Fork::read(std::uint64_t address, std::span<std::byte> out) const {
  if (!state_) return gone();
  Status done;
  if (state_->channel) {
    // An address before the call area becomes an offset behind its end.
    const std::uint64_t begin = state_->lease->memory().call_area().begin.value;
    done = state_->channel->get_buffer(address - begin, out);
  } else {
    done = state_->lease->read(Gva{address}, out);
  }
  if (!done) return to_public(std::move(done).error());
  return {};
}

Result<void> Fork::reset() {
  if (!state_) return gone();
  (void)state_->close_channel();
  state_->forget_cancel();
  if (auto done = state_->lease->reset(); !done) return to_public(std::move(done).error());
  return {};
}

std::uint64_t Fork::generation() const { return state_ ? state_->lease->generation() : 0; }

void Fork::cancel() {
  if (!state_) return;
  const std::scoped_lock lock(state_->mutex);
  state_->cancelled.store(true);
  if (state_->channel) {
    state_->channel->cancel();
  } else {
    state_->lease->cancel();
  }
}

std::string Fork::fault() const {
  if (!state_ || state_->channel || !state_->lease->fault()) return {};
  const FaultReport& report = *state_->lease->fault();
  return report.summary + "\n" + report.to_text();
}

Result<void> Fork::open_channel(const ChannelOptions& options) {
  if (!state_) return gone();
  if (state_->channel) return usage_error("a channel is open already");
  auto opened = CallChannel::open_for_one_tenant(
      state_->lease.fork(), {.polls_before_parking = options.polls_before_parking,
                             .spin_ns = options.spin.count() > 0 ? static_cast<std::uint64_t>(options.spin.count()) : 0,
                             .cpu = options.cpu,
                             .timeout_ns = state_->pool->pool->options().timeout_ns});
  if (!opened) return to_public(std::move(opened).error());
  const std::scoped_lock lock(state_->mutex);
  state_->channel = std::move(*opened);
  return {};
}

Result<void> Fork::close_channel() {
  if (!state_) return gone();
  if (auto closed = state_->close_channel(); !closed) return to_public(std::move(closed).error());
  return {};
}

// --- Pools -----------------------------------------------------------------------------------------------------------

Pool::Pool(std::shared_ptr<detail::PoolState> state) : state_(std::move(state)) {}
Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;
Pool::~Pool() = default;

Result<Pool> Pool::create(const Snapshot& snapshot, const PoolOptions& options) {
  if (!snapshot.state_) return usage_error("a pool of a snapshot that was moved elsewhere");
  auto state = std::make_shared<detail::PoolState>();
  state->snapshot = snapshot.state_;
  ::warmfork::PoolOptions chosen;
  if (!translate(options, chosen.fork)) return usage_error("a fork kind, reset mode or policy that does not exist");
  if (options.output) chosen.fork.io = &state->io.emplace(options.output);
  chosen.ready = options.ready;
  chosen.most = options.most;
  chosen.policy =
      options.policy == ResetPolicy::kStrict ? ::warmfork::ResetPolicy::kStrict : ::warmfork::ResetPolicy::kDeferred;
  chosen.timeout_ns = to_timeout(options.timeout);
  auto pool = ::warmfork::Pool::create(*state->snapshot->kvm, state->snapshot->snapshot, chosen);
  if (!pool) return to_public(std::move(pool).error());
  state->pool = std::move(*pool);
  return Pool(std::move(state));
}

Result<std::uint64_t> Pool::request(const Call& call) {
  if (!state_) return no_pool();
  if (call.argument_count() > Call::kMaxArguments) return too_many_arguments(call);
  ::warmfork::Pool& pool = *state_->pool;
  std::uint64_t timeout_ns = call.timeout() ? to_timeout(call.timeout()) : pool.options().timeout_ns;
  const std::uint64_t begin = timeout_ns != 0 ? tsc_now() : 0;
  auto lease = pool.acquire(timeout_ns);
  if (!lease) return to_public(std::move(lease).error());
  if (timeout_ns != 0) {
    const double waited_ns = tsc_to_ns(tsc_now() - begin);
    timeout_ns = waited_ns < static_cast<double>(timeout_ns) ? timeout_ns - static_cast<std::uint64_t>(waited_ns) : 1;
  }
  auto answer = lease->call(Gva{call.function().address}, call.arguments(), {.timeout_ns = timeout_ns});
  lease->release();
  if (!answer) return to_public(std::move(answer).error());
  return *answer;
}

Result<Fork> Pool::acquire(std::optional<std::chrono::nanoseconds> timeout) {
  if (!state_) return no_pool();
  auto lease = state_->pool->acquire(to_timeout(timeout));
  if (!lease) return to_public(std::move(lease).error());
  return Fork(std::make_unique<detail::ForkState>(state_, std::move(*lease)));
}

void Pool::close() {
  if (state_) state_->pool->close();
}

PoolStats Pool::stats() const {
  if (!state_) return {};
  const ::warmfork::PoolStats stats = state_->pool->stats();
  return {.acquired = stats.acquired,
          .waited = stats.waited,
          .faults = stats.faults,
          .deadlines = stats.deadlines,
          .replaced = stats.replaced,
          .forks = stats.forks,
          .vcpus = stats.vcpus,
          .in_use = stats.in_use};
}

std::string Pool::describe() const { return state_ ? state_->pool->describe() : std::string(); }

}  // namespace warmfork::api
