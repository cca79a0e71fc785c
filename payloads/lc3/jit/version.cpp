#include "lc3/jit/version.hpp"

#include <cstring>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

struct Run {
  std::uint16_t first;
  std::uint16_t count;
};

// The words that blocks were made from, neighbours joined.
std::vector<Run> runs_of(const Unit& unit) {
  std::vector<Run> runs;
  for (const auto& [first, block] : unit.blocks) {
    if (!runs.empty() && runs.back().first + runs.back().count == first) {
      runs.back().count = static_cast<std::uint16_t>(runs.back().count + block.count);
    } else {
      runs.push_back({first, block.count});
    }
  }
  return runs;
}

std::size_t aligned(std::size_t offset) { return (offset + 63) & ~std::size_t{63}; }

}  // namespace

std::size_t version_bytes(const Unit& unit, const MachineCode& code) {
  std::size_t words = 0;
  for (const auto& [first, block] : unit.blocks) words += block.count;
  return aligned(aligned(kCodeText + code.bytes.size()) + unit.blocks.size() * sizeof(CodeRange) + words * 2);
}

Status write_version(const Unit& unit, const MachineCode& code, const Source& source, std::uint64_t id,
                     std::span<std::byte> out) {
  const std::size_t bytes = version_bytes(unit, code);
  if (bytes > out.size())
    return fail(ErrorKind::kLimit, "compiled code of {} bytes, there is room for {}", bytes, out.size());
  const auto put = [&](std::size_t offset, const void* from, std::size_t size) {
    std::memcpy(out.data() + offset, from, size);
  };
  put(kCodeText, code.bytes.data(), code.bytes.size());
  for (const MachineCode::Mark& entry : code.entries) {
    const std::uint32_t offset = kCodeText + entry.offset;
    put(kCodeEntries + sizeof offset * entry.address, &offset, sizeof offset);
  }
  std::memset(out.data() + kCodeGuarded + kDeviceBase, 1, kMemoryWords - kDeviceBase);

  const std::vector<Run> runs = runs_of(unit);
  const std::size_t ranges = aligned(kCodeText + code.bytes.size());
  std::size_t words = ranges + runs.size() * sizeof(CodeRange);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const CodeRange range{runs[i].first, runs[i].count, static_cast<std::uint32_t>(words)};
    put(ranges + i * sizeof range, &range, sizeof range);
    put(words, &source.words[range.first], range.count * sizeof(std::uint16_t));
    words += range.count * sizeof(std::uint16_t);
    std::memset(out.data() + kCodeGuarded + range.first, 1, range.count);
  }
  const CodeVersion header{.magic = kCodeMagic,
                           .id = id,
                           .successor = 0,
                           .bytes = static_cast<std::uint32_t>(bytes),
                           .range_count = static_cast<std::uint32_t>(runs.size()),
                           .ranges = static_cast<std::uint32_t>(ranges),
                           .lea_sets_cc = unit.lea_sets_cc ? 1U : 0U,
                           .counters = code.counters};
  put(0, &header, sizeof header);
  return {};
}

}  // namespace warmfork::lc3::jit
