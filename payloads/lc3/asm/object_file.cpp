#include "lc3/asm/object_file.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace warmfork::lc3 {
namespace {

constexpr std::array<unsigned char, 5> kMagic = {0x1C, 0x30, 0x15, 0xC0, 0x01};
constexpr std::array<unsigned char, 2> kVersion = {0x01, 0x01};
constexpr std::size_t kHeaderSize = kMagic.size() + kVersion.size();
constexpr std::size_t kRecordSize = 7;  // without its text

unsigned byte_at(std::span<const std::byte> bytes, std::size_t index) {
  return std::to_integer<unsigned>(bytes[index]);
}

void put(std::vector<std::byte>& out, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i) & 0xFF));
}

Result<Program> read_classic(std::span<const std::byte> bytes, const std::string& filename) {
  if (bytes.size() % 2 != 0) {
    return fail(ErrorKind::kInput, "{}: {} bytes, an odd number: an object file consists of 16-bit words", filename,
                bytes.size());
  }
  const auto word = [&](std::size_t i) {
    return static_cast<std::uint16_t>(byte_at(bytes, 2 * i) << 8 | byte_at(bytes, 2 * i + 1));
  };
  const std::size_t count = bytes.size() / 2 - 1;
  const std::uint16_t origin = word(0);
  if (count == 0) return fail(ErrorKind::kInput, "{}: the origin x{:04X} and no words after it", filename, origin);
  if (count > kAddressSpaceWords - origin) {
    return fail(ErrorKind::kInput, "{}: {} words from x{:04X} reach past xFFFF: at most {} fit", filename, count,
                origin, kAddressSpaceWords - origin);
  }
  Program program;
  program.files = {filename};
  Segment segment{origin, {}, 0};
  segment.words.reserve(count);
  for (std::size_t i = 1; i <= count; ++i) segment.words.push_back(word(i));
  program.segments.push_back(std::move(segment));
  return program;
}

Result<Program> read_lc3tools(std::span<const std::byte> bytes, const std::string& filename) {
  if (bytes.size() < kHeaderSize) {
    return fail(ErrorKind::kInput, "{}: {} bytes, shorter than the {} of an lc3tools header", filename, bytes.size(),
                kHeaderSize);
  }
  const unsigned major = byte_at(bytes, kMagic.size());
  const unsigned minor = byte_at(bytes, kMagic.size() + 1);
  if (major != kVersion[0] || minor != kVersion[1]) {
    return fail(ErrorKind::kInput, "{}: lc3tools object format {}.{}: only {}.{} is supported", filename, major, minor,
                kVersion[0], kVersion[1]);
  }
  Program program;
  program.files = {filename};
  for (std::size_t at = kHeaderSize; at < bytes.size();) {
    const std::size_t left = bytes.size() - at;
    if (left < kRecordSize) {
      return fail(ErrorKind::kInput, "{}: truncated at byte {}: a record has {} bytes, {} are left", filename, at,
                  kRecordSize, left);
    }
    const auto value = static_cast<std::uint16_t>(byte_at(bytes, at) | byte_at(bytes, at + 1) << 8);
    const unsigned is_origin = byte_at(bytes, at + 2);
    const std::size_t length = byte_at(bytes, at + 3) | byte_at(bytes, at + 4) << 8 | byte_at(bytes, at + 5) << 16 |
                               static_cast<std::size_t>(byte_at(bytes, at + 6)) << 24;
    if (length > left - kRecordSize) {
      return fail(ErrorKind::kInput, "{}: truncated at byte {}: source text of {} bytes, {} are left", filename,
                  at + kRecordSize, length, left - kRecordSize);
    }
    if (is_origin > 1) {
      return fail(ErrorKind::kInput, "{}: byte {}: origin mark {}, neither 0 nor 1", filename, at + 2, is_origin);
    }
    if (is_origin == 1) {
      // An .ORIG without words leaves nothing to load.
      if (!program.segments.empty() && program.segments.back().words.empty()) program.segments.pop_back();
      program.segments.push_back({value, {}, 0});
    } else {
      if (program.segments.empty()) {
        return fail(ErrorKind::kInput, "{}: byte {}: a word before any origin", filename, at);
      }
      Segment& segment = program.segments.back();
      if (segment.end() == kAddressSpaceWords) {
        return fail(ErrorKind::kInput, "{}: byte {}: words from x{:04X} reach past xFFFF: at most {} fit", filename, at,
                    segment.origin, kAddressSpaceWords - segment.origin);
      }
      const auto address = static_cast<std::uint16_t>(segment.end());
      segment.words.push_back(value);
      if (length != 0) {
        // SAFETY: bytes of a span, read as characters; the length was checked above.
        std::string text(reinterpret_cast<const char*>(bytes.data()) + at + kRecordSize, length);
        program.lines.push_back({address, 1, 0, 0, std::move(text)});
      }
    }
    at += kRecordSize + length;
  }
  if (!program.segments.empty() && program.segments.back().words.empty()) program.segments.pop_back();
  if (program.segments.empty()) return fail(ErrorKind::kInput, "{}: no words to load", filename);
  WARMFORK_TRY(check_layout(program));
  return program;
}

}  // namespace

bool is_lc3tools_object(std::span<const std::byte> bytes) {
  if (bytes.size() < kMagic.size()) return false;
  for (std::size_t i = 0; i < kMagic.size(); ++i) {
    if (byte_at(bytes, i) != kMagic[i]) return false;
  }
  return true;
}

Result<Program> read_object(std::span<const std::byte> bytes, const std::string& filename) {
  if (bytes.empty()) return fail(ErrorKind::kInput, "{}: empty: an object file starts with its origin", filename);
  return is_lc3tools_object(bytes) ? read_lc3tools(bytes, filename) : read_classic(bytes, filename);
}

std::vector<std::byte> write_classic_object(const Segment& segment) {
  std::vector<std::byte> out;
  out.reserve(2 * segment.words.size() + 2);
  const auto put_big = [&](std::uint16_t word) {
    out.push_back(static_cast<std::byte>(word >> 8));
    out.push_back(static_cast<std::byte>(word & 0xFF));
  };
  put_big(segment.origin);
  for (const std::uint16_t word : segment.words) put_big(word);
  return out;
}

std::vector<std::byte> write_lc3tools_object(const Program& program) {
  std::vector<std::byte> out;
  out.reserve(kHeaderSize + kRecordSize * (program.word_count() + program.segments.size()));
  for (const unsigned char c : kMagic) out.push_back(static_cast<std::byte>(c));
  for (const unsigned char c : kVersion) out.push_back(static_cast<std::byte>(c));
  // The text of a line goes with its first word; segments do not overlap, so an address has one line.
  std::unordered_map<std::uint16_t, std::string_view> text_at;
  for (const SourceLine& line : program.lines) text_at.emplace(line.address, line.text);
  for (const Segment& segment : program.segments) {
    put(out, segment.origin, 2);
    put(out, 1, 1);
    put(out, 0, 4);
    for (std::size_t i = 0; i < segment.words.size(); ++i) {
      const auto found = text_at.find(static_cast<std::uint16_t>(segment.origin + i));
      const std::string_view text = found == text_at.end() ? std::string_view{} : found->second;
      put(out, segment.words[i], 2);
      put(out, 0, 1);
      put(out, static_cast<std::uint32_t>(text.size()), 4);
      for (const char c : text) out.push_back(static_cast<std::byte>(c));
    }
  }
  return out;
}

}  // namespace warmfork::lc3
