// Capture files: whatever the bytes are, what is read from them keeps a tape's promises, and the rest is named.
#include "feed/pcap.hpp"

#include "require.hpp"

#include <cstdint>
#include <cstdio>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace warmfork;
  using namespace warmfork::feed;
  if (size == 0) return 0;
  std::vector<std::uint8_t> bytes(data, data + size);
  std::FILE* const stream = ::fmemopen(bytes.data(), bytes.size(), "rb");
  WARMFORK_REQUIRE(stream != nullptr);
  constexpr PcapLimits kLimits{.memory_bytes = 1 << 20, .frame_bytes = 2000};
  const auto recording = read_pcap(stream, size, "fuzz.pcap", kLimits);
  if (!recording) {
    WARMFORK_REQUIRE(recording.error().kind == ErrorKind::kInput);
    WARMFORK_REQUIRE(recording.error().message.starts_with("fuzz.pcap: "));
    WARMFORK_REQUIRE(recording.error().message.find('\n') == std::string::npos);
    return 0;
  }
  const Tape& tape = recording->tape;
  WARMFORK_REQUIRE(!tape.empty() && tape.size() <= kLimits.memory_bytes);
  TapeTotals totals;
  std::uint64_t time = 0;
  for (const Packet& packet : tape) {
    WARMFORK_REQUIRE(packet.bytes > 0 && packet.bytes <= packet.wire_bytes);
    WARMFORK_REQUIRE(packet.wire_bytes <= kLimits.frame_bytes && packet.bytes <= tape.longest());
    WARMFORK_REQUIRE(packet.time_ns >= time && (totals.packets != 0 || packet.time_ns == 0));
    time = packet.time_ns;
    totals.add(packet);
  }
  WARMFORK_REQUIRE(totals == tape.totals() && time == tape.duration_ns());
  return 0;
}
