// The links of a fleet: which ring is at which port, who waits for whom, and what becomes of the others when one ends.
//
//   guest stops in WAIT, SEND or FLUSH ──> wait(): looks, or sleeps on the link's doorbell ──> the guest runs on
//
// A machine that waits for a message waits for its sender, one that waits for room for its receiver. If all it waits
// for wait themselves, and none of the rings between them has changed since they looked, nothing can come any more:
// those machines are stuck, and wait() says so. The rings' indices are read from memory that guests write: they are
// compared with what they were and mean nothing else here, so a guest that writes nonsense there delays or wakes its
// own peers and nobody else.
//
// Threads: create() by one; then each machine belongs to a thread, which alone passes its index. stop() from any.
#pragma once

#include "base/result.hpp"
#include "lc3/fleet/config.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3 {

class Bus {
 public:
  /// Empty rings for `links`, which outlive the bus; `machines`: of the fleet, `looks`: as PortConnections::Port::looks
  /// for every port. Errors (kHost): memory, descriptors.
  [[nodiscard]] static Result<std::unique_ptr<Bus>> create(std::span<const LinkSpec> links, std::size_t machines,
                                                           std::uint32_t looks);

  [[nodiscard]] bool linked(std::size_t machine) const { return machines_[machine].linked; }
  /// What the ports of a machine have to be connected to.
  [[nodiscard]] PortConnections connections(std::size_t machine) const;

  /// Before each run of a machine: remembers the rings as they are, so that wait() sees what has changed since.
  void note(std::size_t machine);
  /// Ports whose sender has ended since this was last asked, bit p: port p: Lc3Vm::end_port() is due.
  [[nodiscard]] std::uint32_t take_ended(std::size_t machine);

  /// The same of ports whose receiver has ended: Lc3Vm::forget_receiver() is due.
  [[nodiscard]] std::uint32_t take_unread(std::size_t machine);

  enum class Outcome : std::uint8_t {
    kRun,      // something has changed, or the deadline (on the steady clock) has passed
    kStuck,    // nothing can come any more
    kStopped,  // stop() was called
  };
  /// After a run that stopped at the port register `address`: waits until it is worth going on. `interrupts`: ports
  /// whose messages interrupt, which are waited for as well.
  [[nodiscard]] Outcome wait(std::size_t machine, std::uint16_t address, std::uint32_t interrupts,
                             std::uint64_t deadline_ns);
  /// "a message at port 0, from b:1" or "room at port 2, to c:0": what a machine that is stuck waited for.
  [[nodiscard]] std::string awaited(std::size_t machine) const;

  /// A machine has ended and never runs again: its receivers get the end of the stream, its senders' messages are
  /// thrown away from now on.
  void ended(std::size_t machine);
  /// Wakes all who wait.
  void stop();

  /// Bytes in the ring of links[i], as its two ends say: at most its capacity. Any thread.
  [[nodiscard]] std::uint64_t fill(std::size_t link) const;

 private:
  struct Wire {
    const LinkSpec* spec = nullptr;
    std::shared_ptr<Link> link;
    std::atomic<bool> sender_gone{false}, receiver_gone{false};
    [[nodiscard]] std::uint64_t tail() const { return ring::load_acquire(&link->producer_view().own->tail); }
    [[nodiscard]] std::uint64_t head() const { return ring::load_acquire(&link->consumer_view().own->head); }
  };
  struct Ports {
    std::array<Wire*, kPortCount> in{}, out{};
    std::array<std::uint64_t, kPortCount> tails{}, heads{};  // as note() has found them
    std::uint32_t ended = 0;                                 // ports that end_port() was told of
    std::uint32_t unread = 0;                                // that forget_receiver() was told of
    bool linked = false;
    // Of mutex_, as long as the machine waits; what it waits for does not change meanwhile.
    bool waits = false;
    bool over = false;
    unsigned port = 0;
    bool sends = false;
    std::uint32_t receives = 0;  // ports where a message would wake it, bit p: port p
    std::atomic<bool> stuck{false};
  };
  Bus() = default;
  [[nodiscard]] bool changed(const Ports& machine) const;
  [[nodiscard]] const Doorbell& bell(const Ports& machine) const;
  void find_stuck(std::size_t machine);
  template <class Visit>
  void for_peers(const Ports& machine, Visit&& visit) const;

  std::vector<Wire> wires_;
  std::vector<Ports> machines_;
  std::uint32_t looks_ = 0;
  std::mutex mutex_;
  std::atomic<bool> stopped_{false};
};

}  // namespace warmfork::lc3
