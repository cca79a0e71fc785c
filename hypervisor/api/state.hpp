// What is behind the public handles (warmfork/warmfork.hpp), and the way from the host's errors to the public ones.
#pragma once

#include "base/result.hpp"
#include "fork/call_channel.hpp"
#include "fork/pool.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"
#include "machine/guest_io.hpp"
#include "machine/machine.hpp"
#include "warmfork/warmfork.hpp"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace warmfork::api {

[[nodiscard]] Error to_public(::warmfork::Error error);
template <class T>
[[nodiscard]] Error to_public(::warmfork::Result<T> failed) {
  return to_public(std::move(failed).error());
}

/// A public duration as the host takes it, where 0 is "none": what has passed becomes the shortest there is.
[[nodiscard]] inline std::uint64_t to_timeout(std::optional<std::chrono::nanoseconds> timeout) {
  if (!timeout) return 0;
  return timeout->count() > 0 ? static_cast<std::uint64_t>(timeout->count()) : 1;
}

[[nodiscard]] inline Error usage_error(std::string message) { return {ErrorKind::kUsage, std::move(message)}; }
[[nodiscard]] inline Error too_many_arguments(const Call& call) {
  return usage_error(fmt::format("a call with {} arguments, at most {}", call.argument_count(), Call::kMaxArguments));
}

/// What a guest prints, to the embedder's function; there is no input.
class OutputIo final : public GuestIo {
 public:
  explicit OutputIo(Output output) : output_(std::move(output)) {}
  ssize_t write(int fd, std::span<const std::byte> bytes) override;
  ssize_t read(std::span<std::byte>) override { return 0; }
  [[nodiscard]] bool is_terminal(int) const override { return false; }

 private:
  Output output_;
};

namespace detail {

struct MasterState {
  Machine& machine;
  std::uint64_t timeout_ns;

  [[nodiscard]] Master handle() { return Master(*this); }
};

struct SnapshotState {
  std::shared_ptr<const kvm::Kvm> kvm;
  std::shared_ptr<const ::warmfork::Snapshot> snapshot;
};

struct PoolState {
  std::shared_ptr<const SnapshotState> snapshot;
  std::optional<OutputIo> io;
  std::unique_ptr<::warmfork::Pool> pool;  // last: it goes first
};

struct ForkState {
  std::shared_ptr<PoolState> pool;
  Lease lease;
  // Changed by the fork's thread only, with the lock, which it does not need to look at it; cancel() does.
  std::mutex mutex;
  std::unique_ptr<CallChannel> channel;
  std::atomic<bool> cancelled{false};

  ForkState(std::shared_ptr<PoolState> of, Lease taken) : pool(std::move(of)), lease(std::move(taken)) {}
  ForkState(const ForkState&) = delete;
  ForkState& operator=(const ForkState&) = delete;
  ~ForkState() {
    (void)close_channel();
    forget_cancel();
    lease.release();
  }
  [[nodiscard]] Status close_channel();
  /// A cancellation that came too late must not meet whoever has the fork next.
  void forget_cancel() {
    if (cancelled.exchange(false)) lease->cpu().forget_cancel();
  }
};

}  // namespace detail
}  // namespace warmfork::api
