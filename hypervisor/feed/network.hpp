// What carries a market-data feed: Ethernet, one VLAN tag or none, IPv4, UDP, MoldUDP64. Pure functions over bytes that
// may be anything; nothing outside them is read, nothing is copied or allocated.
//
//   ┌ Ethernet 14 ┬ VLAN 4? ┬ IPv4 20 to 60 ┬ UDP 8 ┬ MoldUDP64 20 ┬ length 2 │ message ┬ length 2 │ message ┬ …
//   └ IEEE 802.3 ─┴ 802.1Q ─┴ RFC 791 ──────┴ 768 ──┴ session 10, first sequence number 8, count 2 ─────────┴
//
// MoldUDP64 Protocol Specification V 1.00 (NASDAQ OMX, 2009): messages are numbered; a packet with a count of 0 is a
// heartbeat, one with 0xFFFF the end of the session, and both have the number of the next message.
//
// Checksums are not verified: network cards do that, and captures of what a machine itself has sent do not have them.
#pragma once

#include "base/result.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace warmfork::feed {

/// Why bytes were not understood.
struct Malformed {
  std::string_view what;    // "UDP length", a constant
  std::uint64_t value = 0;  // what it is
  std::uint64_t limit = 0;  // what it may be at least, at most or exactly, as `what` says
  bool other = false;       // no defect: something else than what was looked for (ARP, TCP, IPv6, a fragment)

  [[nodiscard]] std::string to_text() const;
};
template <class T>
using Parsed = tl::expected<T, Malformed>;

inline constexpr std::size_t kEthernetBytes = 14;
inline constexpr std::size_t kVlanBytes = 4;
inline constexpr std::size_t kIpv4Bytes = 20;
inline constexpr std::size_t kUdpBytes = 8;
inline constexpr std::size_t kMoldBytes = 20;
inline constexpr std::size_t kMoldLengthBytes = 2;
inline constexpr std::uint16_t kMoldEndOfSession = 0xffff;

struct UdpDatagram {
  std::uint32_t source = 0, destination = 0;
  std::uint16_t source_port = 0, destination_port = 0;
  std::span<const std::byte> payload;
};

/// The datagram in an Ethernet frame; bytes after it are padding. Malformed: a header is cut off or contradicts
/// another.
[[nodiscard]] Parsed<UdpDatagram> parse_udp(std::span<const std::byte> frame);

struct MoldPacket {
  std::array<char, 10> session{};
  std::uint64_t sequence = 0;           // of the first message; without messages, of the next one
  std::uint16_t count = 0;              // of messages; 0: heartbeat; never kMoldEndOfSession
  bool end_of_session = false;          // then count is 0
  std::span<const std::byte> messages;  // `count` messages, each with its length before it, and nothing else
};

/// The MoldUDP64 packet in a datagram, all its messages' lengths checked. Malformed: it is cut off, a message does not
/// fit, bytes are left over, or sequence numbers would go beyond 64 bits.
[[nodiscard]] Parsed<MoldPacket> parse_mold(std::span<const std::byte> payload);

/// Takes the next message off the messages of a packet from parse_mold(), which has one left.
[[nodiscard]] std::span<const std::byte> take_message(std::span<const std::byte>& messages);

/// Where a generated feed seems to come from.
struct Addresses {
  std::array<std::uint8_t, 6> source_mac{0x02, 0, 0, 0, 0, 1};                   // locally administered
  std::array<std::uint8_t, 6> destination_mac{0x01, 0, 0x5e, 0x36, 0x0c, 0x6f};  // RFC 1112: of the address below
  std::uint32_t source = 0xc0000201;                                             // 192.0.2.1, RFC 5737
  std::uint32_t destination = 0xe9360c6f;                                        // 233.54.12.111, multicast
  std::uint16_t source_port = 26477, destination_port = 26477;
};

inline constexpr std::size_t kUdpFrameBytes = kEthernetBytes + kIpv4Bytes + kUdpBytes;

/// Writes the headers of a frame of `frame.size()` bytes (kUdpFrameBytes at least) that carries `payload_bytes` of UDP;
/// what is left is padding. The UDP checksum is 0: none (RFC 768).
void write_udp_headers(std::span<std::byte> frame, std::size_t payload_bytes, const Addresses& addresses);

}  // namespace warmfork::feed
