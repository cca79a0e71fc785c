// The decoder: records only of what is in the frames, counters that add up, nothing read outside of a frame.
//
// Input: frames, each after 2 bytes of length (low first); one that is longer than what is left is all of it. A frame
// of which the first byte is odd is a MoldUDP64 packet instead (without that byte), to which the target makes headers.
#include "feed/decode.hpp"
#include "require.hpp"

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace {

using namespace warmfork::feed;

// Of its exact size, on the heap: a byte read too far is found.
std::vector<std::byte> frame_of(std::span<const std::byte> input) {
  if (input.empty() || (std::to_integer<unsigned>(input[0]) & 1) == 0) return {input.begin(), input.end()};
  const auto payload = input.subspan(1);
  std::vector<std::byte> frame(kUdpFrameBytes + payload.size());
  write_udp_headers(frame, payload.size(), {});
  if (!payload.empty()) std::memcpy(frame.data() + kUdpFrameBytes, payload.data(), payload.size());
  return frame;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto rest = std::as_bytes(std::span(data, size));
  ItchDecoder decoder;
  std::uint64_t frames = 0, records = 0, ends = 0;
  while (rest.size() >= 2) {
    const std::size_t length = std::to_integer<std::size_t>(rest[0]) | std::to_integer<std::size_t>(rest[1]) << 8;
    rest = rest.subspan(2);
    const auto input = rest.first(std::min(length, rest.size()));
    rest = rest.subspan(input.size());
    const std::vector<std::byte> frame = frame_of(input);
    const auto before = decoder.counters();
    std::uint64_t of_frame = 0;
    decoder.decode(frame, [&](const ItchRecord& record) {
      ++of_frame;
      ends += record.type == kRecordEndOfSession ? 1 : 0;
      WARMFORK_REQUIRE(record.type == kRecordEndOfSession || itch_length(static_cast<char>(record.type)) != 0);
      WARMFORK_REQUIRE(record.type == 'S' || record.side <= 2);
    });
    ++frames;
    records += of_frame;
    WARMFORK_REQUIRE(of_frame * 14 <= frame.size() || of_frame == 1);
    const auto& after = decoder.counters();
    WARMFORK_REQUIRE(after.missing >= before.missing || after.gaps != before.gaps);
  }
  const DecodeCounters& counters = decoder.counters();
  WARMFORK_REQUIRE(counters.frames == frames && counters.messages + ends == records);
  WARMFORK_REQUIRE(ends <= counters.ends_of_session && ends <= counters.sessions);
  WARMFORK_REQUIRE(decoder.first_malformed().empty() == (counters.malformed == 0));
  std::uint64_t by_type = 0;
  for (const std::uint64_t count : counters.by_type) by_type += count;
  WARMFORK_REQUIRE(by_type == counters.messages);
  return 0;
}
