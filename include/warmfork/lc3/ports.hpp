// The LC-3's ports: eight sets of device registers through which a program exchanges messages with other machines and
// with its host, over the rings of warmfork/ring in shared memory. A message is up to 1,024 words; what they mean is
// the peers' business (a feed's records: its documentation).
//
//   port p has the 16 registers from xFE20 + 16 p up (p = 0 … 7: xFE20 … xFE9F)
//   +0  STATUS    r: PortStatus; w: bit 14 lets a message interrupt (vector x81, priority 4)
//   +1  LENGTH    r: words of the message at hand; 0: there is none, or it is empty
//   +2  DATA      r: its next word, 0 behind its end
//   +3  SEQUENCE  r: its number, bits 15-0: 0 for a link's first message; a feed's own numbers
//   +4  SEQ_HIGH  r: bits 31-16
//   +5  LOST      r: messages this port has missed, at most xFFFF (a feed that was faster; links lose none)
//   +6  NEXT      w: done with the message at hand, whatever is written
//   +7  RECEIVE   w: an address: up to BURST messages go to memory there, STRIDE words apart: length, then words
//   +8  BURST     rw: 1 … x7FFF, at first 1
//   +9  STRIDE    rw: words from one message to the next, 2 … 1,025, at first 1,025; what does not fit is cut off
//   +10 COUNT     r: messages that the last RECEIVE has stored, the one at hand (if there was one) among them
//   +11 SEND      w: an address: sends the message that lies there: length, then words
//   +12 PUT       w: appends a word to the message being made
//   +13 FLUSH     w: sends the message being made, whatever is written
//   +14 WAIT      w: completes when there is a message, or never will be
//   +15 TYPE      r: the type its sender gave the message at hand; 0 from an LC-3
//
// LENGTH, DATA, SEQUENCE, TYPE and NEXT concern the message at hand, which the first of STATUS, LENGTH, DATA, TYPE or
// SEQUENCE takes from the ring if there is none. SEND and FLUSH complete when there is room: nothing sent is ever lost.
// A message longer than 1,024 words (or half of the ring) is not sent, one that would begin or end in device space
// neither: STATUS bit 9. WAIT, SEND and FLUSH do not count as executed before they complete; a run may stop in them
// (StopReason::kWaiting). A port that is not connected reads as 0 and ignores writes.
#pragma once

#include <cstdint>

namespace warmfork::lc3 {

inline constexpr std::uint16_t kPortBase = 0xfe20;
inline constexpr std::uint16_t kPortRegisters = 16;
inline constexpr unsigned kPortCount = 8;
inline constexpr std::uint16_t kPortEnd = kPortBase + kPortRegisters * kPortCount;
inline constexpr std::uint32_t kPortMessageWords = 1024;

inline constexpr bool is_port(std::uint16_t address) { return address >= kPortBase && address < kPortEnd; }

enum class PortRegister : std::uint16_t {
  kStatus,
  kLength,
  kData,
  kSequence,
  kSequenceHigh,
  kLost,
  kNext,
  kReceive,
  kBurst,
  kStride,
  kCount,
  kSend,
  kPut,
  kFlush,
  kWait,
  kType,
};

enum PortStatus : std::uint16_t {
  kPortReady = 0x8000,            // a message is at hand
  kPortInterruptEnable = 0x4000,  // as written
  kPortRoom = 0x2000,             // the longest message could be sent now
  kPortEnded = 0x1000,            // no message is at hand, and none will ever come
  kPortReceives = 0x0800,
  kPortSends = 0x0400,
  kPortRefused = 0x0200,  // the last SEND or FLUSH was of a message that cannot be sent
  kPortBroken = 0x0100,   // the peer broke the ring's rules: nothing more comes, nothing can be sent
};

/// Vector of the ports' interrupt; the same for all: its routine looks at the STATUS of each.
inline constexpr std::uint8_t kPortInterrupt = 0x81;

/// Type of the last record of a ring: nothing follows. Only hosts send it.
inline constexpr std::uint16_t kEndOfStream = 0xffff;

/// What lc3_connect gives a port; a port can have one ring to receive from (a link or a feed) and one to send to.
enum class PortKind : std::uint32_t {
  kNone,      // disconnects the port
  kReceive,   // spsc: own: consumer's part, peer: producer's part
  kTransmit,  // spsc: own: producer's part, peer: consumer's part
  kFeed,      // broadcast: own: the reader's page, or 0; peer: the writer's part
};

/// Options of lc3_connect, one word: how long WAIT, SEND and FLUSH look before the run stops, and which doorbell to
/// ring (WARMFORK_PORT_DOORBELL) when the peer sleeps.
inline constexpr std::uint64_t port_options(std::uint32_t looks, bool rings = false, std::uint8_t doorbell = 0) {
  return looks | std::uint64_t{rings} << 32 | std::uint64_t{doorbell} << 40;
}

/// What lc3_port_report says of a port: this many words.
enum PortReportWord : std::uint32_t {
  kPortReportReceived,  // messages taken from the link
  kPortReportSent,
  kPortReportIn,       // the rule its sender has broken: ring::Reason, value, limit
  kPortReportOut = 5,  // the rule its receiver has broken
  kPortReportWords = 8,
};

}  // namespace warmfork::lc3
