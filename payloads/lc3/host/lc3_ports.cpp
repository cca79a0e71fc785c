// The ports of an LC-3 machine: the memory of its rings, and how they are connected.
#include "lc3/core/machine.hpp"
#include "lc3/host/lc3_calls.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <array>
#include <cstddef>

namespace warmfork::lc3 {
namespace {

// The shared regions of a machine with ports, in this order.
enum class PortPart : std::size_t { kIn, kInOwn, kOutOwn, kOut, kCount };
constexpr std::size_t region_of(unsigned port, PortPart part) {
  return port * static_cast<std::size_t>(PortPart::kCount) + static_cast<std::size_t>(part);
}
constexpr std::size_t feed_region(const PortRegions& ports) { return region_of(ports.ports, PortPart{}); }

// The doorbells a guest rings for port i: for whoever sends to it, and for whoever receives from it.
constexpr std::uint8_t sender_bell(unsigned port) { return static_cast<std::uint8_t>(2 * port); }
constexpr std::uint8_t receiver_bell(unsigned port) { return static_cast<std::uint8_t>(2 * port + 1); }

}  // namespace

Result<std::vector<SharedRegionSpec>> port_regions(const PortRegions& ports) {
  if (ports.ports > kPortCount) return fail(ErrorKind::kUsage, "{} ports: an LC-3 has {}", ports.ports, kPortCount);
  if (ports.feed_bytes != 0 && ports.ports == 0)
    return fail(ErrorKind::kUsage, "a feed, but no port that could read it");
  for (const std::uint64_t bytes : {ports.link_bytes, ports.feed_bytes}) {
    if (bytes != 0 && !ring::valid_capacity(bytes)) {
      return fail(ErrorKind::kUsage, "a ring of {} bytes: a power of two from {} up", bytes, ring::kLeastCapacity);
    }
  }
  std::vector<SharedRegionSpec> specs;
  const std::uint64_t ring = ring::spsc_producer_part_bytes(ports.link_bytes);
  for (unsigned i = 0; i < ports.ports; ++i) {
    specs.push_back({fmt::format("port{}.in", i), ring, SharedAccess::kReadOnly});
    specs.push_back({fmt::format("port{}.in.own", i), ring::kPageBytes, SharedAccess::kReadWrite});
    specs.push_back({fmt::format("port{}.out.own", i), ring, SharedAccess::kReadWrite});
    specs.push_back({fmt::format("port{}.out", i), ring::kPageBytes, SharedAccess::kReadOnly});
  }
  if (ports.feed_bytes != 0) {
    specs.push_back({"feed", ring::broadcast_part_bytes(ports.feed_bytes), SharedAccess::kReadOnly});
    specs.push_back({"feed.own", ring::kPageBytes, SharedAccess::kReadWrite});
  }
  return specs;
}

Result<SharedBindings> Lc3Vm::bindings(const PortConnections& connections) const {
  SharedBindings bindings(feed_region(ports_) + (ports_.feed_bytes != 0 ? 2 : 0));
  for (unsigned i = 0; i < kPortCount; ++i) {
    const PortConnections::Port& port = connections.ports[i];
    if (port.in == nullptr && port.out == nullptr && !port.feed) continue;
    if (i >= ports_.ports) return fail(ErrorKind::kUsage, "port {} is connected: this machine has {}", i, ports_.ports);
    for (const Link* link : {port.in.get(), port.out.get()}) {
      if (link != nullptr && link->capacity() != ports_.link_bytes) {
        return fail(ErrorKind::kUsage, "port {}: a link of {} bytes, where there is room for {}", i, link->capacity(),
                    ports_.link_bytes);
      }
    }
    if (port.feed && (port.in != nullptr || connections.feed == nullptr)) {
      return fail(ErrorKind::kUsage, "port {}: {}", i,
                  port.in != nullptr ? "both a link and the feed" : "there is no feed");
    }
    if (port.in != nullptr) {
      bindings[region_of(i, PortPart::kIn)] = port.in->producer_part();
      bindings[region_of(i, PortPart::kInOwn)] = port.in->consumer_part();
    }
    if (port.out != nullptr) {
      bindings[region_of(i, PortPart::kOutOwn)] = port.out->producer_part();
      bindings[region_of(i, PortPart::kOut)] = port.out->consumer_part();
    }
  }
  if (connections.feed == nullptr) return bindings;
  if (connections.feed->capacity() != ports_.feed_bytes) {
    return fail(ErrorKind::kUsage, "a feed of {} bytes, where there is room for {}", connections.feed->capacity(),
                ports_.feed_bytes);
  }
  bindings[feed_region(ports_)] = connections.feed->memory();
  bindings[feed_region(ports_) + 1] = connections.feed_cursor;
  return bindings;
}

Status Lc3Vm::connect(const PortConnections& connections) {
  const auto connect = [&](unsigned port, PortKind kind, std::size_t own, std::size_t peer, std::uint64_t capacity,
                           std::uint64_t port_options) -> Status {
    WARMFORK_TRY_ASSIGN(const Guest::SharedRegion mine, guest_->shared_region(own));
    WARMFORK_TRY_ASSIGN(const Guest::SharedRegion other, guest_->shared_region(peer));
    const bool cursor_is_optional = kind == PortKind::kFeed;
    if (other.memory == nullptr || (mine.memory == nullptr && !cursor_is_optional)) {
      return fail(ErrorKind::kUsage, "port {}: its ring is not bound to this machine's memory", port);
    }
    WARMFORK_TRY_ASSIGN(
        const std::uint64_t connected,
        call(Call::kConnect, {port, static_cast<std::uint64_t>(kind), mine.memory == nullptr ? 0 : mine.begin.value,
                              other.begin.value, capacity, port_options}));
    if (connected != 1) return fail(ErrorKind::kUsage, "port {}: what is bound there is no ring of its size", port);
    return {};
  };
  for (unsigned i = 0; i < kPortCount; ++i) {
    const PortConnections::Port& port = connections.ports[i];
    if (port.in != nullptr) {
      if (port.doorbells) WARMFORK_TRY(guest_->bind_doorbell(sender_bell(i), port.in->sender_bell()));
      WARMFORK_TRY(connect(i, PortKind::kReceive, region_of(i, PortPart::kInOwn), region_of(i, PortPart::kIn),
                           ports_.link_bytes, port_options(port.looks, port.doorbells, sender_bell(i))));
    }
    if (port.feed) {
      WARMFORK_TRY(connect(i, PortKind::kFeed, feed_region(ports_) + 1, feed_region(ports_), ports_.feed_bytes,
                           port_options(port.looks)));
    }
    if (port.out != nullptr) {
      if (port.doorbells) WARMFORK_TRY(guest_->bind_doorbell(receiver_bell(i), port.out->receiver_bell()));
      WARMFORK_TRY(connect(i, PortKind::kTransmit, region_of(i, PortPart::kOutOwn), region_of(i, PortPart::kOut),
                           ports_.link_bytes, port_options(port.looks, port.doorbells, receiver_bell(i))));
    }
  }
  return {};
}

Status Lc3Vm::end_port(unsigned port, CallOptions options) {
  WARMFORK_TRY(call(Call::kEndPort, {port, 0}, options));
  return {};
}

Status Lc3Vm::forget_receiver(unsigned port, CallOptions options) {
  WARMFORK_TRY(call(Call::kEndPort, {port, 1}, options));
  return {};
}

Result<bool> Lc3Vm::finish_port(unsigned port, CallOptions options) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t told, call(Call::kFinishPort, {port}, options));
  return told == 1;
}

Result<PortReport> Lc3Vm::port_report(unsigned port, CallOptions options) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t address, call(Call::kPortReport, {port}, options));
  if (address == 0) return fail(ErrorKind::kUsage, "port {}: an LC-3 has {}", port, kPortCount);
  using Words = std::array<std::uint64_t, kPortReportWords>;
  WARMFORK_TRY_ASSIGN(const Words words, guest_->memory().read_value<Words>(Gva{address}));
  const auto violation = [&](std::size_t at) -> ring::Violation {
    return {static_cast<ring::Reason>(static_cast<std::uint32_t>(words[at])), words[at + 1], words[at + 2]};
  };
  return PortReport{words[kPortReportReceived], words[kPortReportSent], violation(kPortReportIn),
                    violation(kPortReportOut)};
}

Result<std::uint32_t> Lc3Vm::port_interrupts() {
  return guest_->memory().read_value<std::uint32_t>(state_ + offsetof(State, port_interrupts));
}

}  // namespace warmfork::lc3
