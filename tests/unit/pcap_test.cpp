// Capture files built byte by byte: all kinds that are read, and everything that can be wrong with one.
#include "feed/pcap.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::feed {
namespace {

using ::testing::HasSubstr;

// A file's bytes, in either byte order.
class Bytes {
 public:
  explicit Bytes(bool big = false) : big_(big) {}
  Bytes& u16(std::uint64_t value) { return number(value, 2); }
  Bytes& u32(std::uint64_t value) { return number(value, 4); }
  Bytes& text(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  [[nodiscard]] const std::string& str() const { return bytes_; }

 private:
  Bytes& number(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) {
      bytes_ += static_cast<char>(value >> (8 * (big_ ? bytes - 1 - i : i)) & 0xff);
    }
    return *this;
  }
  bool big_;
  std::string bytes_;
};

constexpr std::uint32_t kMicro = 0xa1b2c3d4, kNano = 0xa1b23c4d;

Bytes pcap_header(std::uint32_t magic = kNano, bool big = false, std::uint32_t link = 1) {
  return Bytes(big).u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(link);
}
void pcap_packet(Bytes& file, std::uint32_t seconds, std::uint32_t fraction, std::string_view frame,
                 std::optional<std::uint32_t> captured = {}, std::optional<std::uint32_t> wire = {}) {
  const auto size = static_cast<std::uint32_t>(frame.size());
  file.u32(seconds).u32(fraction).u32(captured.value_or(size)).u32(wire.value_or(size)).text(frame);
}

Result<Recording> read(const std::string& bytes, const PcapLimits& limits = {}) {
  std::string copy = bytes;
  std::FILE* const stream = ::fmemopen(copy.data(), copy.size(), "rb");
  return read_pcap(stream, copy.size(), "test.pcap", limits);
}

std::string text_of(const Packet& packet) {
  // SAFETY: bytes viewed as characters.
  return {reinterpret_cast<const char*>(packet.payload().data()), packet.bytes};
}

void expect_two_packets(const Result<Recording>& recording, std::uint64_t second_ns) {
  ASSERT_TRUE(recording) << recording.error().message;
  EXPECT_FALSE(recording->truncated);
  const std::vector<Packet> packets(recording->tape.begin(), recording->tape.end());
  ASSERT_EQ(packets.size(), 2u);
  auto at = recording->tape.begin();
  EXPECT_EQ(at->time_ns, 0u);
  EXPECT_EQ(text_of(*at), "first frame!");
  EXPECT_EQ(at->wire_bytes, 12u);
  ++at;
  EXPECT_EQ(at->time_ns, second_ns);
  EXPECT_EQ(text_of(*at), "2nd");
  EXPECT_EQ(at->wire_bytes, 1000u) << "cut when it was captured";
  EXPECT_EQ(recording->tape.totals(), (TapeTotals{2, 1012, 15, wire_bits(12) + wire_bits(1000)}));
  EXPECT_EQ(recording->tape.duration_ns(), second_ns);
  EXPECT_EQ(recording->tape.longest(), 12u);
}

TEST(PcapTest, ReadsAllFourKinds) {
  for (const bool big : {false, true}) {
    for (const bool nano : {false, true}) {
      SCOPED_TRACE(testing::Message() << "big " << big << ", nano " << nano);
      Bytes file = pcap_header(nano ? kNano : kMicro, big);
      pcap_packet(file, 1000, 999'999, "first frame!");
      pcap_packet(file, 1001, 1'000, "2nd", {}, 1000);
      expect_two_packets(read(file.str()), nano ? 1'000'000'000 - 998'999 : 1'000'000 + 1'000);
    }
  }
}

Bytes pcapng(bool big, bool nano) {
  Bytes file(big);
  file.u32(0x0a0d0d0a).u32(28).u32(0x1a2b3c4d).u16(1).u16(0).u32(0xffffffff).u32(0xffffffff).u32(28);
  // The interface: Ethernet; its option if_tsresol says nanoseconds.
  const std::uint32_t length = nano ? 32 : 20;
  file.u32(1).u32(length).u16(1).u16(0).u32(65535);
  if (nano) file.u16(9).u16(1).text(std::string("\x09\0\0\0", 4)).u16(0).u16(0);
  return file.u32(length);
}
void enhanced_packet(Bytes& file, std::uint64_t time, std::string frame, std::uint32_t wire) {
  const auto size = static_cast<std::uint32_t>(frame.size());
  frame.resize((frame.size() + 3) / 4 * 4);
  const auto length = static_cast<std::uint32_t>(32 + frame.size());
  file.u32(6).u32(length).u32(0).u32(time >> 32).u32(time & 0xffffffff).u32(size).u32(wire).text(frame).u32(length);
}

TEST(PcapTest, ReadsPcapng) {
  for (const bool big : {false, true}) {
    for (const bool nano : {false, true}) {
      SCOPED_TRACE(testing::Message() << "big " << big << ", nano " << nano);
      const std::uint64_t start = std::uint64_t{1'700'000'000} * (nano ? 1'000'000'000 : 1'000'000);
      Bytes file = pcapng(big, nano);
      enhanced_packet(file, start, "first frame!", 12);
      enhanced_packet(file, start + 777, "2nd", 1000);
      expect_two_packets(read(file.str()), nano ? 777 : 777'000);
    }
  }
}

struct Corruption {
  const char* what;
  std::string file;
  std::vector<const char*> says;
};

std::vector<Corruption> corruptions() {
  const auto two = [](auto&& second) {
    Bytes file = pcap_header();
    pcap_packet(file, 1000, 500, "first");
    second(file);
    return file.str();
  };
  Bytes ng = pcapng(false, true);
  enhanced_packet(ng, 1'000'000, "first", 5);
  enhanced_packet(ng, 999'000, "second", 6);
  return {
      {"bad magic", Bytes().u32(0x12345678).text(std::string(40, 'x')).str(), {"test.pcap: ", "unknown file format"}},
      {"header cut off", pcap_header().str().substr(0, 10), {"test.pcap: ", "truncated"}},
      {"no packets", pcap_header().str(), {"test.pcap: no packets"}},
      {"other link", pcap_header(kNano, false, 101).str(), {"test.pcap: ", "link type", "(RAW)", "Ethernet (1)"}},
      {"backwards",
       two([](Bytes& file) { pcap_packet(file, 1000, 499, "second"); }),
       {"test.pcap: packet 2: ", "1 ns before"}},
      {"seconds backwards",
       two([](Bytes& file) { pcap_packet(file, 999, 500, "second"); }),
       {"test.pcap: packet 2: ", "1000000000 ns before"}},
      {"pcapng backwards", ng.str(), {"test.pcap: packet 2: ", "1000 ns before"}},
      {"zero length", two([](Bytes& file) { pcap_packet(file, 1000, 500, ""); }), {"test.pcap: packet 2: 0 bytes"}},
      {"absurd length",
       two([](Bytes& file) { pcap_packet(file, 1000, 500, "second", 0x7fffffff, 0x7fffffff); }),
       {"test.pcap: packet 2: ", "2147483647"}},
      {"absurd length on the wire",
       two([](Bytes& file) { pcap_packet(file, 1000, 500, "second", 6, 70'000); }),
       {"test.pcap: packet 2: 6 bytes long (70000 on the wire), the limit is 65535"}},
      {"more than there was",
       two([](Bytes& file) { pcap_packet(file, 1000, 500, "second", 6, 5); }),
       {"test.pcap: packet 2: 6 bytes captured of a frame of 5"}},
      {"fraction of a second",
       two([](Bytes& file) { pcap_packet(file, 1000, 1'000'000'000, "second"); }),
       {"test.pcap: packet 2: its fraction of a second is 1000000000 ns", "less than 1000000000"}},
      {"first packet cut off", pcap_header().text("abc").str(), {"test.pcap: packet 1: truncated"}},
  };
}

TEST(PcapTest, NamesWhatIsWrong) {
  for (const Corruption& corruption : corruptions()) {
    SCOPED_TRACE(corruption.what);
    const auto recording = read(corruption.file);
    ASSERT_FALSE(recording);
    EXPECT_EQ(recording.error().kind, ErrorKind::kInput);
    for (const char* part : corruption.says) EXPECT_THAT(recording.error().message, HasSubstr(part));
  }
}

TEST(PcapTest, ALastPacketThatIsCutOffIsReported) {
  Bytes file = pcap_header();
  pcap_packet(file, 1000, 0, "first frame!");
  const std::size_t whole = file.str().size();
  pcap_packet(file, 1000, 5, "second frame");
  for (std::size_t size = whole + 1; size < file.str().size(); ++size) {
    SCOPED_TRACE(size);
    const auto recording = read(file.str().substr(0, size));
    ASSERT_TRUE(recording) << recording.error().message;
    EXPECT_EQ(recording->tape.totals().packets, 1u);
    ASSERT_TRUE(recording->truncated);
    EXPECT_THAT(*recording->truncated, HasSubstr("test.pcap: packet 2: truncated"));
  }
  EXPECT_FALSE(read(file.str().substr(0, whole))->truncated);
}

TEST(PcapTest, LimitsAreKept) {
  Bytes file = pcap_header();
  for (std::uint32_t i = 0; i < 300; ++i) pcap_packet(file, 1000, i, "a frame of 24 bytes.....");
  EXPECT_TRUE(read(file.str()));
  // Pages: whatever is asked for, 4096 bytes hold 85 such packets of 48.
  const auto small = read(file.str(), {.memory_bytes = 4096});
  ASSERT_FALSE(small);
  EXPECT_THAT(small.error().message, HasSubstr("test.pcap: packet 86: no room"));
  EXPECT_THAT(small.error().message, HasSubstr("the limit is 4096"));
  const auto short_frames = read(file.str(), {.frame_bytes = 23});
  ASSERT_FALSE(short_frames);
  EXPECT_THAT(short_frames.error().message, HasSubstr("packet 1: 24 bytes long (24 on the wire), the limit is 23"));
}

TEST(PcapTest, PathsThatAreNoFilesAreRefused) {
  for (const char* path : {"/nonexistent.pcap", "/dev/zero", "/tmp"}) {
    const auto recording = read_pcap(path);
    ASSERT_FALSE(recording);
    EXPECT_EQ(recording.error().kind, ErrorKind::kInput);
    EXPECT_THAT(recording.error().message, testing::StartsWith(path));
  }
}

TEST(PcapWriterTest, WhatIsWrittenIsReadAgain) {
  const std::string path = testing::TempDir() + "/warmfork-writer-" + std::to_string(::getpid()) + ".pcap";
  const std::string frame(100, 'f');
  {
    auto writer = PcapWriter::create(path);
    ASSERT_TRUE(writer) << writer.error().message;
    const auto bytes = std::as_bytes(std::span(frame));
    EXPECT_TRUE(writer->write(1'700'000'000'123'456'789, bytes, 100));
    EXPECT_TRUE(writer->write(1'700'000'000'123'456'790, bytes.first(7), 90));
    EXPECT_EQ(writer->write(0, bytes.first(0), 0).error().kind, ErrorKind::kUsage);
    EXPECT_EQ(writer->write(0, bytes, 99).error().kind, ErrorKind::kUsage) << "more than was on the wire";
    EXPECT_EQ(writer->write(std::uint64_t{1} << 62, bytes, 100).error().kind, ErrorKind::kUsage);
    ASSERT_TRUE(writer->finish());
  }
  std::ifstream in(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  Bytes expected = pcap_header(kNano);
  pcap_packet(expected, 1'700'000'000, 123'456'789, frame);
  pcap_packet(expected, 1'700'000'000, 123'456'790, frame.substr(0, 7), {}, 90);
  EXPECT_EQ(content, expected.str());
  const auto recording = read_pcap(path);
  ASSERT_TRUE(recording) << recording.error().message;
  EXPECT_EQ(recording->tape.duration_ns(), 1u);
  std::filesystem::remove(path);
}

TEST(PcapWriterTest, AFileThatIsNotFinishedIsGone) {
  const std::string path = testing::TempDir() + "/warmfork-unfinished-" + std::to_string(::getpid()) + ".pcap";
  {
    ASSERT_TRUE(PcapWriter::create(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THAT(PcapWriter::create("/nonexistent/x.pcap").error().message, HasSubstr("/nonexistent/x.pcap"));
  auto full = PcapWriter::create("/dev/full");
  ASSERT_TRUE(full);
  EXPECT_THAT(full->finish().error().message, HasSubstr("/dev/full"));
}

TEST(PcapWriterTest, APipeIsWrittenIfSomebodyReadsIt) {
  const std::string path = testing::TempDir() + "/warmfork-pipe-" + std::to_string(::getpid()) + ".pcap";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(PcapWriter::create(path).error().message, HasSubstr("a pipe that nobody reads"));
  {
    const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    auto writer = PcapWriter::create(path);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->write(0, std::as_bytes(std::span("frame")), 60));
    ASSERT_TRUE(writer->finish());
    std::array<std::byte, 1024> bytes;
    EXPECT_EQ(::read(reader.get(), bytes.data(), bytes.size()), 24 + 16 + 6) << "file header, packet header, packet";
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace warmfork::feed
