// Floors that are measured beside whatever is compared with them: of a vmcall, a guest that does nothing but exit; of a
// call to another CPU, a cache line that travels there and back.
#pragma once

#include "base/histogram.hpp"
#include "base/tsc_clock.hpp"
#include "machine/raw_guest.hpp"
#include "warmfork/abi/layout.h"

#include <cstdint>
#include <memory>

namespace warmfork::bench {

class FloorProbe {
 public:
  [[nodiscard]] static Result<FloorProbe> create(const kvm::Kvm& kvm) {
    FloorProbe probe;
    WARMFORK_TRY_ASSIGN(probe.guest_, RawGuest::create(kvm));
    WARMFORK_TRY(probe.guest_->prepare(RawGuest::Code::kExitLoop));
    return probe;
  }

  [[nodiscard]] Status warm_up() {
    Histogram unused;
    for (int i = 0; i < 200; ++i) WARMFORK_TRY(exit_round_trip(unused));
    return {};
  }

  /// One KVM_RUN in which the guest executes OUT at CPL 3 and nothing else; records its ticks.
  [[nodiscard]] Status exit_round_trip(Histogram& ticks) {
    const std::uint64_t begin = tsc_now();
    const int error = guest_->vcpu().run_raw();
    const std::uint64_t took = tsc_now_ordered() - begin;
    const kvm_run& run = guest_->vcpu().shared();
    if (error == EINTR) return {};
    if (error != 0 || run.exit_reason != KVM_EXIT_IO || run.io.port != WARMFORK_PORT_RETURN) {
      return fail(ErrorKind::kHost, "floor probe: KVM_RUN error {}, exit reason {}", error, run.exit_reason);
    }
    ticks.record(took);
    return {};
  }

  [[nodiscard]] RawGuest& guest() { return *guest_; }

 private:
  FloorProbe() = default;
  std::unique_ptr<RawGuest> guest_;
};

/// A value travels to the cache of `other_cpu`, which must not be the caller's, and back: `round_trips` times. Between
/// calls nothing runs there.
[[nodiscard]] Status ping_pong(int other_cpu, std::uint64_t round_trips, Histogram& ticks);

}  // namespace warmfork::bench
