#include "lc3/fleet/bus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace warmfork::lc3 {
namespace {

// How often a thread looks at ports that may interrupt while their machine waits at another: nobody rings for those.
constexpr std::uint64_t kInterruptLookNs = 1'000'000;

// Before a thread goes to sleep its guest looks for about as long as leaving it and coming back takes.
constexpr std::uint32_t kDoorbellLooks = 1000;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

}  // namespace

Result<std::unique_ptr<Bus>> Bus::create(std::span<const LinkSpec> links, std::size_t machines, std::uint32_t looks) {
  std::unique_ptr<Bus> bus(new Bus);
  bus->looks_ = looks;
  bus->wires_ = std::vector<Wire>(links.size());
  bus->machines_ = std::vector<Ports>(machines);
  for (std::size_t i = 0; i < links.size(); ++i) {
    Wire& wire = bus->wires_[i];
    wire.spec = &links[i];
    WARMFORK_TRY_ASSIGN(wire.link, Link::create(links[i].capacity));
    Ports& from = bus->machines_[links[i].from.index];
    Ports& to = bus->machines_[links[i].to.index];
    from.out[links[i].from.port] = &wire;
    to.in[links[i].to.port] = &wire;
    from.linked = to.linked = true;
  }
  return bus;
}

PortConnections Bus::connections(std::size_t machine) const {
  PortConnections connections;
  for (unsigned i = 0; i < kPortCount; ++i) {
    PortConnections::Port& port = connections.ports[i];
    port.looks = looks_;
    for (const auto& [wire, end] :
         {std::pair{machines_[machine].in[i], &port.in}, std::pair{machines_[machine].out[i], &port.out}}) {
      if (wire == nullptr) continue;
      *end = wire->link;
      port.doorbells |= wire->spec->wake == Wake::kDoorbell;
    }
    if (port.doorbells) port.looks = std::min(port.looks, kDoorbellLooks);
  }
  return connections;
}

void Bus::note(std::size_t machine) {
  Ports& self = machines_[machine];
  for (unsigned i = 0; i < kPortCount; ++i) {
    if (self.in[i] != nullptr) self.tails[i] = self.in[i]->tail();
    if (self.out[i] != nullptr) self.heads[i] = self.out[i]->head();
  }
}

std::uint32_t Bus::take_ended(std::size_t machine) {
  Ports& self = machines_[machine];
  std::uint32_t due = 0;
  for (unsigned i = 0; i < kPortCount; ++i) {
    if (self.in[i] != nullptr && self.in[i]->sender_gone && (self.ended >> i & 1) == 0) due |= 1U << i;
  }
  if (due == 0) return 0;
  const std::lock_guard lock(mutex_);
  self.ended |= due;
  return due;
}

std::uint32_t Bus::take_unread(std::size_t machine) {
  Ports& self = machines_[machine];
  std::uint32_t due = 0;
  for (unsigned i = 0; i < kPortCount; ++i) {
    if (self.out[i] != nullptr && self.out[i]->receiver_gone) due |= 1U << i;
  }
  return due & ~std::exchange(self.unread, due);
}

// Whether a machine that waits has something to look at. Of a machine that does not run the answer can only become yes,
// but for a peer that takes its index back: that is caught when the guest looks.
bool Bus::changed(const Ports& machine) const {
  if (machine.sends) {
    const Wire& wire = *machine.out[machine.port];
    if (wire.receiver_gone || wire.head() != machine.heads[machine.port]) return true;
  }
  for (unsigned i = 0; i < kPortCount; ++i) {
    if ((machine.receives >> i & 1) == 0) continue;
    const Wire& wire = *machine.in[i];
    if (wire.tail() != machine.tails[i] || (wire.sender_gone && (machine.ended >> i & 1) == 0)) return true;
  }
  return false;
}

const Doorbell& Bus::bell(const Ports& machine) const {
  return machine.sends ? *machine.out[machine.port]->link->sender_bell()
                       : *machine.in[machine.port]->link->receiver_bell();
}

template <class Visit>
void Bus::for_peers(const Ports& machine, Visit&& visit) const {
  if (machine.sends) visit(machines_[machine.out[machine.port]->spec->to.index]);
  for (unsigned i = 0; i < kPortCount; ++i) {
    if ((machine.receives >> i & 1) != 0) visit(machines_[machine.in[i]->spec->from.index]);
  }
}

// A machine can go on if it runs, if there is something to look at, or if one that it waits for can go on. Those that
// wait and cannot are stuck for good: only they could change what they wait for. Called when a machine begins to wait,
// with the lock held: no other moment makes a machine stuck but the end of one, which is seen as a change.
void Bus::find_stuck(std::size_t machine) {
  const auto live = [&](const Ports& one) { return !one.waits && !one.over; };
  const Ports& self = machines_[machine];
  bool runs = changed(self);
  for_peers(self, [&](const Ports& peer) { runs |= live(peer); });
  if (runs) return;  // by far the most frequent
  std::vector<bool> goes_on(machines_.size());
  for (std::size_t i = 0; i < machines_.size(); ++i) {
    const Ports& one = machines_[i];
    goes_on[i] = live(one);
    if (!one.waits || !changed(one)) continue;
    goes_on[i] = true;
    bell(one).ring();  // a peer that has not rung as it should leaves nobody asleep
  }
  for (bool more = true; more;) {
    more = false;
    for (std::size_t i = 0; i < machines_.size(); ++i) {
      if (goes_on[i] || machines_[i].over) continue;
      for_peers(machines_[i], [&](const Ports& peer) {
        goes_on[i] = goes_on[i] || goes_on[static_cast<std::size_t>(&peer - machines_.data())];
      });
      more |= goes_on[i];
    }
  }
  for (std::size_t i = 0; i < machines_.size(); ++i) {
    if (goes_on[i] || machines_[i].over) continue;
    machines_[i].stuck = true;
    bell(machines_[i]).ring();
  }
}

Bus::Outcome Bus::wait(std::size_t machine, std::uint16_t address, std::uint32_t interrupts,
                       std::uint64_t deadline_ns) {
  Ports& self = machines_[machine];
  const unsigned port = (address - kPortBase) / kPortRegisters;
  const bool sends = (address - kPortBase) % kPortRegisters != static_cast<unsigned>(PortRegister::kWait);
  // A guest that claims to wait where nothing is connected runs on, until its deadline.
  if ((sends ? self.out[port] : self.in[port]) == nullptr) return Outcome::kRun;
  {
    const std::lock_guard lock(mutex_);
    self.port = port;
    self.sends = sends;
    self.receives = sends ? 0 : 1U << port;
    for (unsigned i = 0; i < kPortCount; ++i) {
      if (self.in[i] != nullptr) self.receives |= interrupts & 1U << i;
    }
    self.waits = true;
    find_stuck(machine);
  }
  Wire& wire = sends ? *self.out[port] : *self.in[port];
  const bool others = (self.receives & ~(sends ? 0U : 1U << port)) != 0;
  while (!stopped_ && !self.stuck && !changed(self)) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) break;
    if (wire.spec->wake == Wake::kPoll) {
      std::this_thread::yield();
    } else {
      const std::uint64_t left = deadline_ns - now;
      (void)bell(self).wait(others ? std::min(left, kInterruptLookNs) : left);
    }
  }
  // Whoever would read them is gone: they are thrown away, as often as the ring is full.
  if (sends && wire.receiver_gone) ring::store_release(&wire.link->consumer_view().own->head, wire.tail());
  const std::lock_guard lock(mutex_);
  self.waits = false;
  return stopped_ ? Outcome::kStopped : self.stuck ? Outcome::kStuck : Outcome::kRun;
}

std::string Bus::awaited(std::size_t machine) const {
  const Ports& self = machines_[machine];
  if (self.sends) {
    const LinkEnd& to = self.out[self.port]->spec->to;
    return fmt::format("room at port {}, to {}:{}", self.port, to.machine, to.port);
  }
  const LinkEnd& from = self.in[self.port]->spec->from;
  return fmt::format("a message at port {}, from {}:{}", self.port, from.machine, from.port);
}

void Bus::ended(std::size_t machine) {
  const std::lock_guard lock(mutex_);
  Ports& self = machines_[machine];
  self.over = true;
  for (unsigned i = 0; i < kPortCount; ++i) {
    if (self.out[i] != nullptr) {
      self.out[i]->sender_gone = true;
      self.out[i]->link->receiver_bell()->ring();
    }
    if (self.in[i] != nullptr) {
      self.in[i]->receiver_gone = true;
      self.in[i]->link->sender_bell()->ring();
    }
  }
}

std::uint64_t Bus::fill(std::size_t link) const {
  const Wire& wire = wires_[link];
  const std::uint64_t head = wire.head();
  return std::min(wire.tail() - head, wire.spec->capacity);
}

void Bus::stop() {
  stopped_ = true;
  for (const Wire& wire : wires_) {
    wire.link->receiver_bell()->ring();
    wire.link->sender_bell()->ring();
  }
}

}  // namespace warmfork::lc3
