#include "lc3/jit/listing/code_listing.hpp"

#include <fmt/format.h>
#include <llvm-c/Disassembler.h>
#include <llvm-c/Target.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <string_view>

namespace warmfork::lc3::jit {
namespace {

struct DisposeDisassembler {
  void operator()(void* disassembler) const { LLVMDisasmDispose(disassembler); }
};

std::string in_one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c != '\t') {
      line += c;
    } else if (!line.empty()) {
      line += ' ';
    }
  }
  return line;
}

// A relative jump's displacement, which is all that the disassembler shows of its target, as the target's offset.
std::string with_target(std::string text, std::uint32_t next) {
  if (!text.starts_with('j') && !text.starts_with("call")) return text;
  const std::size_t space = text.find(' ');
  if (space == std::string::npos) return text;
  std::int64_t displacement = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + space + 1, end, displacement);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return text;
  return fmt::format("{} {:#x}", text.substr(0, space), static_cast<std::int64_t>(next) + displacement);
}

class Lister {
 public:
  Lister(std::span<const std::uint16_t, kMemoryWords> words, const MachineCode& code,
         const std::vector<MachineInstruction>& instructions, const std::function<std::string(std::uint16_t)>& name)
      : words_(words), code_(code), instructions_(instructions), name_(name) {}

  std::string list(const Block& block, std::uint32_t begin, std::uint32_t end) {
    text_ += fmt::format("{}x{:04X}  {} instruction{}, {} bytes\n", label(block.first), block.first, block.count,
                         block.count == 1 ? "" : "s", end - begin);
    auto at = std::ranges::lower_bound(instructions_, begin, {}, &MachineInstruction::offset);
    const auto machine_code_of = [&](std::uint32_t until) {
      std::vector<std::string> lines;
      for (; at != instructions_.end() && at->offset < std::min(until, end); ++at) lines.push_back(readable(*at));
      return lines;
    };
    // What comes before the first instruction's own mark is the block's: its budget.
    auto mark = std::ranges::lower_bound(code_.marks, begin, {}, &MachineCode::Mark::offset);
    if (mark != code_.marks.end()) ++mark;
    row("", "", machine_code_of(mark == code_.marks.end() ? end : mark->offset));
    std::size_t op = 0;
    for (std::uint32_t i = 0; i <= block.count; ++i) {
      const auto pc = static_cast<std::uint16_t>(block.first + i);
      const bool at_end = pc == block.end.pc;
      if (i == block.count && !at_end) break;
      std::string ir;
      for (; op < block.ops.size() && block.ops[op].pc == pc; ++op)
        ir += (ir.empty() ? "" : "; ") + to_string(block.ops[op]);
      if (at_end) ir += (ir.empty() ? "" : "; ") + to_string(block.end);
      std::vector<std::string> lines;
      while (mark != code_.marks.end() && mark->offset < end && mark->address == pc) {
        ++mark;
        const std::vector<std::string> more = machine_code_of(mark == code_.marks.end() ? end : mark->offset);
        lines.insert(lines.end(), more.begin(), more.end());
      }
      const bool own = i < block.count;  // else the end is not an instruction of this block
      row(own ? fmt::format("x{:04X} {:04X} {}", pc, words_[pc], disassemble(words_[pc], pc).view()) : "", ir, lines);
    }
    text_ += "\n";
    return std::move(text_);
  }

 private:
  std::string label(std::uint16_t address) const {
    const std::string name = name_(address);
    return name.empty() ? "" : name + "  ";
  }
  std::string readable(const MachineInstruction& instruction) const {
    const std::size_t hex = instruction.text.rfind(" 0x");
    if (!instruction.text.starts_with('j') || hex == std::string::npos) return instruction.text;
    std::uint32_t target = 0;
    const char* begin = instruction.text.data() + hex + 3;
    const char* end = instruction.text.data() + instruction.text.size();
    if (std::from_chars(begin, end, target, 16).ptr != end) return instruction.text;
    for (const MachineCode::Mark& entry : code_.entries) {
      if (entry.offset == target) return fmt::format("{} x{:04X}", instruction.text.substr(0, hex), entry.address);
    }
    return fmt::format("{} leave", instruction.text.substr(0, hex));
  }
  void row(const std::string& lc3, const std::string& ir, const std::vector<std::string>& machine) {
    for (std::size_t i = 0; i < std::max<std::size_t>(machine.size(), 1); ++i) {
      if (i == 0 && lc3.empty() && ir.empty() && machine.empty()) return;
      std::string line =
          fmt::format("  {:<34} {:<34} {}", i == 0 ? lc3 : "", i == 0 ? ir : "", i < machine.size() ? machine[i] : "");
      line.erase(line.find_last_not_of(' ') + 1);
      text_ += line + "\n";
    }
  }

  std::span<const std::uint16_t, kMemoryWords> words_;
  const MachineCode& code_;
  const std::vector<MachineInstruction>& instructions_;
  const std::function<std::string(std::uint16_t)>& name_;
  std::string text_;
};

}  // namespace

Result<std::vector<MachineInstruction>> disassemble_machine_code(std::span<const std::uint8_t> code) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86Disassembler();
  const std::unique_ptr<void, DisposeDisassembler> disassembler(
      LLVMCreateDisasm("x86_64-unknown-linux-gnu", nullptr, 0, nullptr, nullptr));
  if (disassembler == nullptr) return fail(ErrorKind::kUnsupported, "this LLVM has no disassembler for x86-64");
  constexpr std::uint64_t kIntelSyntax = LLVMDisassembler_Option_AsmPrinterVariant;
  LLVMSetDisasmOptions(disassembler.get(), kIntelSyntax);
  std::vector<MachineInstruction> instructions;
  std::vector<std::uint8_t> bytes(code.begin(), code.end());  // it wants them writable
  for (std::size_t offset = 0; offset < bytes.size();) {
    std::array<char, 128> text{};
    const std::size_t size = LLVMDisasmInstruction(disassembler.get(), bytes.data() + offset, bytes.size() - offset,
                                                   offset, text.data(), text.size());
    MachineInstruction instruction{.offset = static_cast<std::uint32_t>(offset),
                                   .size = static_cast<std::uint32_t>(std::max<std::size_t>(size, 1))};
    offset += instruction.size;
    instruction.text = size == 0 ? fmt::format(".byte {:#04x}", code[instruction.offset])
                                 : with_target(in_one_line(text.data()), static_cast<std::uint32_t>(offset));
    instructions.push_back(std::move(instruction));
  }
  return instructions;
}

Result<std::string> list_code(std::span<const std::uint16_t, kMemoryWords> words, const Unit& unit,
                              const MachineCode& code, const std::function<std::string(std::uint16_t)>& name) {
  WARMFORK_TRY_ASSIGN(const std::vector<MachineInstruction> instructions, disassemble_machine_code(code.bytes));
  std::string text;
  for (auto entry = code.entries.begin(); entry != code.entries.end(); ++entry) {
    const auto block = unit.blocks.find(entry->address);
    if (block == unit.blocks.end()) continue;
    const auto next = std::next(entry);
    const std::uint32_t end = next == code.entries.end() ? code.out_of_line : next->offset;
    text += Lister(words, code, instructions, name).list(block->second, entry->offset, end);
  }
  text += fmt::format("out of line: {} bytes, where code leaves to the interpreter\n",
                      code.bytes.size() - code.out_of_line);
  return text;
}

}  // namespace warmfork::lc3::jit
