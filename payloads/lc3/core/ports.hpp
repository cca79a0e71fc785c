// The machine's end of its ports (warmfork/lc3/ports.hpp): messages between rings in shared memory and device
// registers. Peers of links are hostile: they can spoil their own port and nothing else. A feed is the host's.
//
// One thread at a time, as the State they belong to. A machine without ports never touches any of this.
#pragma once

#include "warmfork/lc3/ports.hpp"
#include "warmfork/lc3/state.hpp"
#include "warmfork/ring/broadcast.hpp"
#include "warmfork/ring/spsc.hpp"

#include <cstdint>
#include <optional>

namespace warmfork::lc3 {

struct Port {
  std::optional<ring::SpscConsumer<ring::Hostile>> link;
  std::optional<ring::BroadcastReader<ring::Trusted>> feed;
  std::optional<ring::SpscProducer<ring::Hostile>> out;

  // Receiving. The message at hand, as RECEIVE stores it: its length, then its words.
  std::uint16_t message[1 + kPortMessageWords];
  std::uint16_t cursor;  // of DATA
  std::uint16_t type;
  std::uint64_t sequence;
  std::uint64_t received;  // from a link
  bool at_hand, ended;
  std::uint16_t burst, stride, count;

  // Sending.
  std::uint16_t out_words;
  std::uint64_t sent;
  bool out_too_long, refused, unread;
  std::uint16_t out_message[kPortMessageWords];

  std::uint32_t receive_looks, send_looks;
  bool receive_rings, send_rings;
  std::uint8_t receive_bell, send_bell;
};

struct Ports {
  Port ports[kPortCount];
  void (*ring_doorbell)(std::uint8_t bell);  // null: there is none
};

/// Connects one side of a port, or takes both away (kNone). The parts must be what format_spsc() or format_broadcast()
/// made of them, with `capacity` bytes. False: they are not, or an argument makes no sense; the port is as it was.
[[nodiscard]] bool connect_port(State& state, Ports& ports, std::uint32_t port, PortKind kind, void* own,
                                const void* peer, std::uint64_t capacity, std::uint64_t options);
/// No message will come that is not in the ring already: whoever sent there is gone.
void end_port(Ports& ports, std::uint32_t port);
/// Whoever receives from this port is gone: what is sent is thrown away, at once.
void forget_receiver(Ports& ports, std::uint32_t port);
/// Tells whoever receives from this port that nothing more will come. False: there is no room to say so, or nobody.
[[nodiscard]] bool finish_port(Ports& ports, std::uint32_t port);

/// Whether one of the port's peers was caught breaking the rules.
bool port_broken(const Port& port);

/// True if a message is at hand, after taking one from the ring if there was none.
bool take_message(Port& port);
/// Takes up to `most` messages off the ring, none of them at hand: `store(bytes, copy_to)` says for each in turn
/// whether it is wanted, and gets up to `bytes` bytes of it by copy_to(span). What was copied may be believed of as
/// many as this returns. 0: there is none, it is not wanted, or take_message() has to see it.
template <class Store>
std::uint32_t take_messages(Port& port, std::uint32_t most, Store&& store) {
  std::uint32_t taken = 0;
  if (port.link) {
    for (; taken != most; ++taken) {
      const auto record = port.link->peek();
      if (!record || record->type() == kEndOfStream) break;
      if (!store(record->size(), [&](std::span<std::byte> out) { (void)record->copy_to(out); })) break;
      ++port.received;
      port.link->advance();
    }
  } else if (port.feed) {
    // One that was overrun goes on at the latest message; take_message() is as good for that.
    (void)port.feed->read_some(most, taken, [&](const ring::BroadcastRecord& record, const std::byte* payload) {
      if (record.type == kEndOfStream) return false;
      return store(record.size, [&](std::span<std::byte> out) {
        ring::copy_once(out.data(), payload, out.size() < record.size ? out.size() : record.size);
      });
    });
  }
  return taken;
}
/// Before a run stops for want of a message: true if the sender will ring, or nobody does; false: there is one now.
[[nodiscard]] bool may_sleep_for_message(Port& port);
/// The same for want of room.
[[nodiscard]] bool may_sleep_for_room(Port& port);
/// Ends what take_message() took.
inline void finish_message(Port& port) { port.at_hand = false; }
/// Gives the room of taken messages back to a link's sender, and wakes it if it waits for that.
void release_messages(Ports& ports, Port& port);

enum class Sent : std::uint8_t { kDone, kNoRoom };
/// Sends `count` words. kDone also if they cannot be sent at all: then refused is set.
Sent send_message(Ports& ports, Port& port, const std::uint16_t* words, std::uint32_t count);

/// Registers but for those that wait or move memory (WAIT, SEND, FLUSH, RECEIVE), which the step function does.
std::uint16_t read_port(State& state, std::uint16_t address);
void write_port(State& state, std::uint16_t address, std::uint16_t value);
/// What read_port() would say, but that it takes nothing from the ring.
std::uint16_t peek_port(const State& state, std::uint16_t address);

/// Whether a port that may interrupt has a message.
bool port_interrupts(const State& state);

// SAFETY: connect_port() stored the address.
inline Ports* ports_of(const State& state) {
  return reinterpret_cast<Ports*>(static_cast<std::uintptr_t>(state.ports));  // NOLINT(performance-no-int-to-ptr)
}
inline Port& port_at(Ports& ports, std::uint16_t address) {
  return ports.ports[(address - kPortBase) / kPortRegisters];
}
inline PortRegister port_register(std::uint16_t address) {
  return static_cast<PortRegister>((address - kPortBase) % kPortRegisters);
}

}  // namespace warmfork::lc3
