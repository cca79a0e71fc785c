#include "lc3/lockstep/bytes.hpp"

#include <algorithm>
#include <map>

namespace warmfork::lc3 {
namespace {

constexpr std::uint32_t kConfigBits = 0x3f;
constexpr std::uint8_t kInterrupts = 0x40, kSupervisor = 0x80;
constexpr std::size_t kMostWords = 2048;
constexpr std::uint64_t kBudget = 3000;
constexpr std::uint64_t kInputStep = 4;

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint16_t word() {
    const unsigned low = byte();
    return static_cast<std::uint16_t>(low | unsigned{byte()} << 8);
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

std::uint16_t origin_of(unsigned place, std::size_t count) {
  switch (place & 3) {
    case 0: return 0x3000;
    case 1: return static_cast<std::uint16_t>(kDeviceBase - count);
    case 2: return 0;
    default: return 0x0200;
  }
}

void put(std::vector<std::uint8_t>& bytes, std::uint16_t word) {
  bytes.push_back(static_cast<std::uint8_t>(word & 0xff));
  bytes.push_back(static_cast<std::uint8_t>(word >> 8));
}

}  // namespace

LockstepCase case_from_bytes(std::span<const std::uint8_t> bytes) {
  Reader reader(bytes);
  LockstepCase one;
  one.name = "bytes";
  const unsigned flags = reader.byte(), place = reader.byte(), slices = reader.byte(), input = reader.byte();
  one.config = flags & kConfigBits;
  one.kbsr = (flags & kInterrupts) != 0 ? kKbsrInterruptEnable : 0;
  one.psr = static_cast<std::uint16_t>(((flags & kSupervisor) != 0 ? 0 : kPsrUser) | kPsrZ);
  one.longest_slice = slices;
  one.slice_seed = bytes.size();
  one.budget = slices == 0 ? kBudget : std::min<std::uint64_t>(kBudget, std::uint64_t{slices} * 16);
  for (std::uint16_t& value : one.registers) value = reader.word();
  std::uint64_t at = 0;
  for (unsigned i = 0; i < input && !reader.empty(); ++i) {
    at += reader.byte() * kInputStep;
    one.input.push_back({at, std::string(1, static_cast<char>(reader.byte()))});
  }
  std::vector<std::uint16_t> words;
  while (!reader.empty() && words.size() < kMostWords) words.push_back(reader.word());
  const std::uint16_t origin = origin_of(place, words.size());
  one.pc = static_cast<std::uint16_t>(origin + (place >> 2));
  // Whatever goes through a vector comes back to the program, unless the program has vectors of its own.
  if (origin >= 0x200) {
    for (std::uint16_t vector = 0; vector < 0x200; ++vector) {
      one.words.push_back({vector, static_cast<std::uint16_t>(origin + vector % 32)});
    }
  }
  one.add(origin, words);
  return one;
}

std::vector<std::uint8_t> case_to_bytes(const LockstepCase& one) {
  std::vector<std::uint8_t> bytes;
  std::map<std::uint16_t, std::uint16_t> memory;
  for (const LockstepCase::Word& word : one.words) memory[word.address] = word.word;
  const bool high = one.pc >= 0xfc00 && one.pc < kDeviceBase;  // up to device space, from wherever words begin
  const auto first_high = memory.lower_bound(0xfc00);
  std::uint16_t origin = one.pc < 0x200 ? 0 : one.pc < 0x3000 ? 0x200 : 0x3000;
  if (high) origin = first_high == memory.end() ? one.pc : first_high->first;
  std::vector<std::uint16_t> words;
  for (auto at = memory.lower_bound(origin); at != memory.end() && at->first - origin < 512; ++at) {
    words.resize(at->first - origin);
    words.push_back(at->second);
  }
  if (high) words.resize(static_cast<std::size_t>(kDeviceBase - origin));
  const unsigned place = high ? 1 : origin == 0x3000 ? 0 : origin == 0 ? 2 : 3;
  const unsigned skip = std::min<unsigned>(63, static_cast<std::uint16_t>(one.pc - origin));
  bytes.push_back(static_cast<std::uint8_t>((one.config & kConfigBits) | (one.kbsr != 0 ? kInterrupts : 0U) |
                                            ((one.psr & kPsrUser) != 0 ? 0U : kSupervisor)));
  bytes.push_back(static_cast<std::uint8_t>(place | skip << 2));
  bytes.push_back(static_cast<std::uint8_t>(std::min<std::uint64_t>(one.longest_slice, 255)));
  std::vector<std::uint8_t> input;
  std::uint64_t at = 0;
  for (const LockstepCase::Input& typed : one.input) {
    for (const char c : typed.text) {
      if (input.size() >= 510) break;
      input.push_back(static_cast<std::uint8_t>(std::min<std::uint64_t>((typed.at - at) / kInputStep, 255)));
      input.push_back(static_cast<std::uint8_t>(c));
      at = typed.at;
    }
  }
  bytes.push_back(static_cast<std::uint8_t>(input.size() / 2));
  for (const std::uint16_t value : one.registers) put(bytes, value);
  bytes.insert(bytes.end(), input.begin(), input.end());
  for (const std::uint16_t word : words) put(bytes, word);
  return bytes;
}

}  // namespace warmfork::lc3
