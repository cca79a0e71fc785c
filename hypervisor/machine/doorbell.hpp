// How a guest wakes a thread of the host: it writes a doorbell's number to WARMFORK_PORT_DOORBELL, and an eventfd
// becomes readable. A guest with a VM of its own does so without leaving the kernel (KVM_IOEVENTFD); one that shares
// its VM leaves it, because KVM could not tell whose doorbell rings.
//
// A doorbell carries no data and means nothing but "look again": guests ring as often as they like, and however often
// they do, whoever waits wakes once. A number nobody has bound rings nothing.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <cstdint>
#include <memory>

namespace warmfork {

class Doorbell {
 public:
  /// Errors (kHost): no descriptor is left.
  [[nodiscard]] static Result<std::shared_ptr<Doorbell>> create();

  /// Wakes whoever waits, or the next who does. Async-signal-safe.
  void ring() const;
  /// Sleeps until it rings, and makes it silent again; at once if it has rung since. False: `timeout_ns` went by, or a
  /// signal came.
  [[nodiscard]] bool wait(std::uint64_t timeout_ns) const;

  /// For poll(); and whoever writes 8 bytes to it rings.
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit Doorbell(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace warmfork
