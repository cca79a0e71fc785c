#include "feed/network.hpp"

#include "feed/wire.hpp"

#include <algorithm>

namespace warmfork::feed {
namespace {

constexpr std::uint16_t kEtherIpv4 = 0x0800, kEtherVlan = 0x8100;
constexpr std::uint8_t kProtocolUdp = 17;

tl::unexpected<Malformed> malformed(std::string_view what, std::uint64_t value, std::uint64_t limit) {
  return tl::unexpected(Malformed{what, value, limit, false});
}
tl::unexpected<Malformed> other(std::string_view what, std::uint64_t value, std::uint64_t wanted) {
  return tl::unexpected(Malformed{what, value, wanted, true});
}

}  // namespace

std::string Malformed::to_text() const { return fmt::format("{} {} ({})", what, limit, value); }

Parsed<UdpDatagram> parse_udp(std::span<const std::byte> frame) {
  if (frame.size() < kEthernetBytes) return malformed("Ethernet frame shorter than", frame.size(), kEthernetBytes);
  std::uint16_t type = load_16(frame, 12);
  std::span<const std::byte> ip = frame.subspan(kEthernetBytes);
  if (type == kEtherVlan) {
    if (ip.size() < kVlanBytes) return malformed("VLAN tag shorter than", ip.size(), kVlanBytes);
    type = load_16(ip, 2);
    ip = ip.subspan(kVlanBytes);
  }
  if (type != kEtherIpv4) return other("EtherType is not", type, kEtherIpv4);
  if (ip.size() < kIpv4Bytes) return malformed("IPv4 header shorter than", ip.size(), kIpv4Bytes);
  if (const unsigned version = load_8(ip, 0) >> 4; version != 4) return malformed("IP version is not", version, 4);
  const std::size_t header = std::size_t{load_8(ip, 0) & 0xfU} * 4;
  if (header < kIpv4Bytes) return malformed("IPv4 header length less than", header, kIpv4Bytes);
  const std::size_t total = load_16(ip, 2);
  if (total < header) return malformed("IPv4 total length less than its header's", total, header);
  if (total > ip.size()) return malformed("IPv4 total length more than the frame's", total, ip.size());
  if (const unsigned protocol = load_8(ip, 9); protocol != kProtocolUdp) {
    return other("IPv4 protocol is not", protocol, kProtocolUdp);
  }
  // Fragments: all but "don't fragment" has to be zero.
  if (const unsigned fragment = load_16(ip, 6) & 0x3fffU; fragment != 0)
    return other("IPv4 fragment is not", fragment, 0);
  const std::span<const std::byte> udp = ip.subspan(header, total - header);
  if (udp.size() < kUdpBytes) return malformed("UDP header shorter than", udp.size(), kUdpBytes);
  const std::size_t length = load_16(udp, 4);
  if (length < kUdpBytes) return malformed("UDP length less than", length, kUdpBytes);
  if (length > udp.size()) return malformed("UDP length more than IPv4's", length, udp.size());
  return UdpDatagram{.source = load_32(ip, 12),
                     .destination = load_32(ip, 16),
                     .source_port = load_16(udp, 0),
                     .destination_port = load_16(udp, 2),
                     .payload = udp.subspan(kUdpBytes, length - kUdpBytes)};
}

Parsed<MoldPacket> parse_mold(std::span<const std::byte> payload) {
  if (payload.size() < kMoldBytes) return malformed("MoldUDP64 header shorter than", payload.size(), kMoldBytes);
  MoldPacket packet;
  for (std::size_t i = 0; i < packet.session.size(); ++i) packet.session[i] = static_cast<char>(payload[i]);
  packet.sequence = load_64(payload, 10);
  packet.count = load_16(payload, 18);
  if (packet.count == kMoldEndOfSession) {
    packet.count = 0;
    packet.end_of_session = true;
  }
  if (packet.sequence > ~std::uint64_t{0} - packet.count) {
    return malformed("MoldUDP64 sequence number more than", packet.sequence, ~std::uint64_t{0} - packet.count);
  }
  packet.messages = payload.subspan(kMoldBytes);
  std::span<const std::byte> rest = packet.messages;
  for (unsigned i = 0; i < packet.count; ++i) {
    if (rest.size() < kMoldLengthBytes) return malformed("MoldUDP64 messages fewer than", i, packet.count);
    const std::size_t length = load_16(rest, 0);
    rest = rest.subspan(kMoldLengthBytes);
    if (length > rest.size()) return malformed("MoldUDP64 message longer than the packet's", length, rest.size());
    rest = rest.subspan(length);
  }
  if (!rest.empty()) return malformed("MoldUDP64 bytes behind its messages more than", rest.size(), 0);
  return packet;
}

std::span<const std::byte> take_message(std::span<const std::byte>& messages) {
  const std::size_t length = load_16(messages, 0);
  const auto message = messages.subspan(kMoldLengthBytes, length);
  messages = messages.subspan(kMoldLengthBytes + length);
  return message;
}

void write_udp_headers(std::span<std::byte> frame, std::size_t payload_bytes, const Addresses& addresses) {
  for (std::size_t i = 0; i < 6; ++i) {
    frame[i] = std::byte{addresses.destination_mac[i]};
    frame[6 + i] = std::byte{addresses.source_mac[i]};
  }
  store_big<2>(frame, 12, kEtherIpv4);
  const auto ip = frame.subspan(kEthernetBytes);
  store_big<2>(ip, 0, 0x4500);  // version 4, five words, no service type
  store_big<2>(ip, 2, kIpv4Bytes + kUdpBytes + payload_bytes);
  store_big<4>(ip, 4, 0x00004000);  // no identification, don't fragment
  store_big<4>(ip, 8, 0x10110000);  // 16 hops, UDP, checksum below
  store_big<4>(ip, 12, addresses.source);
  store_big<4>(ip, 16, addresses.destination);
  std::uint32_t sum = 0;  // RFC 1071
  for (std::size_t i = 0; i < kIpv4Bytes; i += 2) sum += load_16(ip, i);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  store_big<2>(ip, 10, ~sum & 0xffff);
  const auto udp = ip.subspan(kIpv4Bytes);
  store_big<2>(udp, 0, addresses.source_port);
  store_big<2>(udp, 2, addresses.destination_port);
  store_big<2>(udp, 4, kUdpBytes + payload_bytes);
  store_big<2>(udp, 6, 0);
}

}  // namespace warmfork::feed
