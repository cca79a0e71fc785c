#include "lc3/lockstep/case.hpp"

#include "lc3/asm/listing.hpp"
#include "lc3/core/machine.hpp"
#include "lc3/os/os_image.hpp"

#include <fmt/format.h>

#include <map>

namespace warmfork::lc3 {

void LockstepCase::add(std::uint16_t origin, std::span<const std::uint16_t> some) {
  words.reserve(words.size() + some.size());
  for (std::size_t i = 0; i < some.size(); ++i) {
    words.push_back({static_cast<std::uint16_t>(origin + i), some[i]});
  }
}

void prepare(State& state, const LockstepCase& one) {
  initialise(state, one.config);
  if (one.fill != 0) randomise(state, one.fill);
  for (const LockstepCase::Word& word : one.words) {
    if (word.address < kDeviceBase) state.memory[word.address] = word.word;
  }
  capture_trap_vectors(state);
  for (std::size_t r = 0; r < one.registers.size(); ++r) state.registers[r] = one.registers[r];
  state.pc = one.pc;
  set_psr(state, one.psr);
  state.kbsr = one.kbsr & kKbsrInterruptEnable;
}

LockstepCase case_of(const Program& program, std::uint32_t config) {
  LockstepCase one;
  one.config = config;
  const Program& os = os_image((config & kSecondEdition) != 0 ? Edition::kSecond : Edition::kThird);
  for (const Segment& segment : os.segments) one.add(segment.origin, segment.words);
  for (const Segment& segment : program.segments) one.add(segment.origin, segment.words);
  one.pc = program.entry();
  return one;
}

std::string to_source(const LockstepCase& one) {
  std::string text = fmt::format("; {}\n", one.name.empty() ? "a program" : one.name);
  text += fmt::format("; config x{:X}, {} edition, PC x{:04X}, PSR x{:04X}, KBSR x{:04X}, budget {}", one.config,
                      (one.config & kSecondEdition) != 0 ? "2nd" : "3rd", one.pc, one.psr, one.kbsr, one.budget);
  if (one.longest_slice != 0) text += fmt::format(", slices up to {} (seed {})", one.longest_slice, one.slice_seed);
  if (one.fill != 0) text += fmt::format(", memory from seed {}", one.fill);
  text += "\n;";
  for (std::size_t r = 0; r < one.registers.size(); ++r) text += fmt::format(" R{} x{:04X}", r, one.registers[r]);
  text += "\n";
  for (const LockstepCase::Input& input : one.input) {
    text += fmt::format("; input at {}:", input.at);
    for (const char c : input.text) text += fmt::format(" x{:02X}", static_cast<unsigned char>(c));
    text += "\n";
  }
  std::map<std::uint16_t, std::uint16_t> memory;
  for (const LockstepCase::Word& word : one.words) {
    if (word.address < kDeviceBase) memory[word.address] = word.word;
  }
  // Small gaps are zeros, so that the source is in few pieces; a zero that stands alone says nothing.
  constexpr std::uint32_t kGap = 4;
  if (one.fill == 0) std::erase_if(memory, [](const auto& entry) { return entry.second == 0; });
  Program program;
  program.files = {"lockstep.asm"};
  for (const auto& [address, word] : memory) {
    const bool joins = !program.segments.empty() && address >= program.segments.back().end() &&
                       address - program.segments.back().end() <= (one.fill == 0 ? kGap : 0);
    if (!joins) program.segments.push_back({.origin = address, .words = {}});
    Segment& segment = program.segments.back();
    while (segment.end() < address) segment.words.push_back(0);
    segment.words.push_back(word);
  }
  if (program.segments.empty()) return text + "; no words: memory is empty\n";
  return text + disassemble(program);
}

}  // namespace warmfork::lc3
