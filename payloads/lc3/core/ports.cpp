#include "lc3/core/ports.hpp"

#include <string.h>

namespace warmfork::lc3 {
namespace {

// SAFETY: the host gave the addresses (lc3_connect); they are mapped for as long as the guest is.
template <class T>
T* part(void* address) {
  return static_cast<T*>(address);
}
template <class T>
const T* part(const void* address) {
  return static_cast<const T*>(address);
}

std::uint32_t port_bit(std::uint16_t address) { return 1U << (address - kPortBase) / kPortRegisters; }

/// Takes the next record off its ring into `message`. False: there is none.
bool pull(Port& port) {
  auto* const to = reinterpret_cast<std::byte*>(port.message + 1);  // SAFETY: bytes of words that nobody else uses
  const std::span<std::byte> out(to, kPortMessageWords * 2);
  std::uint32_t size = 0;
  if (port.link) {
    const auto record = port.link->peek();
    if (!record) return false;
    size = record->size();
    record->copy_to(out);
    port.type = record->type();
    port.sequence = port.received++;
    port.link->advance();
  } else if (port.feed) {
    ring::BroadcastRecord record;
    ring::Found found = port.feed->read(out, record);
    if (found == ring::Found::kOverrun) found = port.feed->read(out, record);
    if (found != ring::Found::kRecord) return false;
    size = record.size;
    port.type = record.type;
    port.sequence = record.sequence;
  } else {
    return false;
  }
  if (size > out.size()) size = static_cast<std::uint32_t>(out.size());
  if (size % 2 != 0) to[size++] = {};
  port.message[0] = static_cast<std::uint16_t>(size / 2);
  port.cursor = 0;
  return true;
}

std::uint16_t status(const Port& port, bool interrupt_enabled) {
  unsigned value = interrupt_enabled ? kPortInterruptEnable : 0;
  if (port.link || port.feed) value |= kPortReceives;
  if (port.out) value |= kPortSends;
  if (port.at_hand) value |= kPortReady;
  if (port.refused) value |= kPortRefused;
  if (port_broken(port)) value |= kPortBroken;
  return static_cast<std::uint16_t>(value);
}

}  // namespace

bool connect_port(State& state, Ports& ports, std::uint32_t number, PortKind kind, void* own, const void* peer,
                  std::uint64_t capacity, std::uint64_t options) {
  if (number >= kPortCount) return false;
  Port& port = ports.ports[number];
  if (kind == PortKind::kNone) {
    port.link.reset();
    port.feed.reset();
    port.out.reset();
    port.at_hand = port.ended = false;
    state.port_interrupts &= ~(1U << number);
    return true;
  }
  if (peer == nullptr || !ring::valid_capacity(capacity)) return false;
  const auto looks = static_cast<std::uint32_t>(options);
  const bool rings = (options >> 32 & 1) != 0;
  const auto bell = static_cast<std::uint8_t>(options >> 40);
  switch (kind) {
    case PortKind::kReceive: {
      if (own == nullptr) return false;
      const ring::SpscConsumerView view{part<ring::SpscConsumerPage>(own), part<ring::SpscProducerPage>(peer),
                                        capacity};
      if (ring::check_spsc(*view.peer, *view.own, capacity)) return false;
      port.feed.reset();
      port.link.emplace(view);
      break;
    }
    case PortKind::kFeed: {
      const auto* page = part<ring::BroadcastPage>(peer);
      if (ring::check_broadcast(*page, capacity)) return false;
      port.link.reset();
      port.feed.emplace(*page, capacity, 0, part<ring::BroadcastReaderPage>(own));
      break;
    }
    case PortKind::kTransmit: {
      if (own == nullptr) return false;
      const ring::SpscProducerView view{part<ring::SpscProducerPage>(own), part<ring::SpscConsumerPage>(peer),
                                        capacity};
      if (ring::check_spsc(*view.own, *view.peer, capacity)) return false;
      port.out.emplace(view);
      port.out_words = 0;
      port.sent = 0;
      port.out_too_long = port.refused = port.unread = false;
      port.send_looks = looks;
      port.send_rings = rings;
      port.send_bell = bell;
      state.ports = reinterpret_cast<std::uintptr_t>(&ports);
      return true;
    }
    default: return false;
  }
  port.at_hand = port.ended = false;
  port.received = 0;
  port.burst = 1;
  port.stride = 1 + kPortMessageWords;
  port.count = 0;
  port.receive_looks = looks;
  port.receive_rings = rings;
  port.receive_bell = bell;
  state.ports = reinterpret_cast<std::uintptr_t>(&ports);
  return true;
}

bool port_broken(const Port& port) {
  return (port.link && port.link->violation()) || (port.feed && port.feed->violation()) ||
         (port.out && port.out->violation());
}

void end_port(Ports& ports, std::uint32_t number) {
  if (number >= kPortCount) return;
  Port& port = ports.ports[number];
  // What the ring still holds is read first: see take_message().
  port.ended = true;
}

void forget_receiver(Ports& ports, std::uint32_t number) {
  if (number < kPortCount) ports.ports[number].unread = true;
}

bool finish_port(Ports& ports, std::uint32_t number) {
  if (number >= kPortCount || !ports.ports[number].out) return false;
  Port& port = ports.ports[number];
  if (!port.out->push({}, kEndOfStream)) return false;
  if (port.send_rings && ports.ring_doorbell != nullptr && port.out->needs_wake()) ports.ring_doorbell(port.send_bell);
  return true;
}

bool may_sleep_for_message(Port& port) { return !port.receive_rings || !port.link || port.link->prepare_sleep(); }
bool may_sleep_for_room(Port& port) { return !port.send_rings || port.out->prepare_sleep(); }

bool take_message(Port& port) {
  if (port.at_hand) return true;
  if (!pull(port)) return false;
  if (port.type == kEndOfStream) {
    port.ended = true;
    if (port.link) --port.received;  // no message
    return false;
  }
  return port.at_hand = true;
}

void release_messages(Ports& ports, Port& port) {
  if (port.link) {
    port.link->release();
    if (port.receive_rings && ports.ring_doorbell != nullptr && port.link->needs_wake()) {
      ports.ring_doorbell(port.receive_bell);
    }
  } else if (port.feed) {
    port.feed->publish_cursor();
  }
}

Sent send_message(Ports& ports, Port& port, const std::uint16_t* words, std::uint32_t count) {
  port.refused = count > kPortMessageWords || 2 * count > port.out->longest();
  if (port.refused) return Sent::kDone;
  // A peer that has broken the rules takes nothing any more; a program that looks finds that in STATUS.
  if (port.out->violation()) return Sent::kDone;
  if (port.unread) return ++port.sent, Sent::kDone;
  const std::span<const std::uint16_t> message(words, count);
  if (!port.out->push(std::as_bytes(message))) return port.out->violation() ? Sent::kDone : Sent::kNoRoom;
  ++port.sent;
  if (port.send_rings && ports.ring_doorbell != nullptr && port.out->needs_wake()) ports.ring_doorbell(port.send_bell);
  return Sent::kDone;
}

std::uint16_t peek_port(const State& state, std::uint16_t address) {
  const Port& port = port_at(*ports_of(state), address);
  const bool receives = port.link || port.feed;
  switch (port_register(address)) {
    case PortRegister::kStatus: return status(port, (state.port_interrupts & port_bit(address)) != 0);
    case PortRegister::kLength: return port.at_hand ? port.message[0] : 0;
    case PortRegister::kData: return port.at_hand && port.cursor < port.message[0] ? port.message[1 + port.cursor] : 0;
    case PortRegister::kSequence: return port.at_hand ? static_cast<std::uint16_t>(port.sequence) : 0;
    case PortRegister::kSequenceHigh: return port.at_hand ? static_cast<std::uint16_t>(port.sequence >> 16) : 0;
    case PortRegister::kType: return port.at_hand ? port.type : 0;
    case PortRegister::kLost: {
      const std::uint64_t lost = port.feed ? port.feed->lost() : 0;
      return lost < 0xffff ? static_cast<std::uint16_t>(lost) : 0xffff;
    }
    case PortRegister::kBurst: return receives ? port.burst : 0;
    case PortRegister::kStride: return receives ? port.stride : 0;
    case PortRegister::kCount: return receives ? port.count : 0;
    default: return 0;
  }
}

std::uint16_t read_port(State& state, std::uint16_t address) {
  Port& port = port_at(*ports_of(state), address);
  switch (port_register(address)) {
    case PortRegister::kStatus: {
      const bool there = take_message(port);
      unsigned value = peek_port(state, address);
      if (!there && port.ended) value |= kPortEnded;
      if (port.out) {
        const std::uint32_t most = port.out->longest();
        if (port.unread || port.out->claim(most < 2 * kPortMessageWords ? most : 2 * kPortMessageWords) != nullptr)
          value |= kPortRoom;
      }
      return static_cast<std::uint16_t>(value);
    }
    case PortRegister::kLength:
    case PortRegister::kSequence:
    case PortRegister::kSequenceHigh:
    case PortRegister::kType: (void)take_message(port); break;
    case PortRegister::kData: {
      if (!take_message(port) || port.cursor >= port.message[0]) return 0;
      return port.message[1 + port.cursor++];
    }
    default: break;
  }
  return peek_port(state, address);
}

void write_port(State& state, std::uint16_t address, std::uint16_t value) {
  Ports& ports = *ports_of(state);
  Port& port = port_at(ports, address);
  switch (port_register(address)) {
    case PortRegister::kStatus: {
      const std::uint32_t bit = port_bit(address);
      const bool enable = (value & kPortInterruptEnable) != 0 && (port.link || port.feed);
      state.port_interrupts = enable ? state.port_interrupts | bit : state.port_interrupts & ~bit;
      break;
    }
    case PortRegister::kNext:
      if (!take_message(port)) break;
      finish_message(port);
      release_messages(ports, port);
      break;
    case PortRegister::kBurst: port.burst = value == 0 ? 1 : value > 0x7fff ? 0x7fff : value; break;
    case PortRegister::kStride:
      port.stride = value < 2 ? 2 : value > 1 + kPortMessageWords ? 1 + kPortMessageWords : value;
      break;
    case PortRegister::kPut:
      if (!port.out) break;
      if (port.out_words == kPortMessageWords) {
        port.out_too_long = true;
      } else {
        port.out_message[port.out_words++] = value;
      }
      break;
    default: break;
  }
}

bool port_interrupts(const State& state) {
  Ports* ports = ports_of(state);
  for (unsigned i = 0; i < kPortCount; ++i) {
    if ((state.port_interrupts >> i & 1) != 0 && take_message(ports->ports[i])) return true;
  }
  return false;
}

}  // namespace warmfork::lc3
