#include "lc3/asm/listing.hpp"

#include "lc3/asm/text.hpp"
#include "lc3/core/instruction.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace warmfork::lc3 {
namespace {

// The target of a PC-relative instruction that the disassembler writes as one; nothing for all other words.
std::optional<std::uint16_t> target_of(std::uint16_t word, std::uint16_t address, std::string_view text) {
  if (text.starts_with('.') || text.find('#') == std::string_view::npos) return std::nullopt;
  const Instruction instruction = decode(word);
  const auto& operands = instruction.info().operands;
  const bool relative = std::any_of(operands.begin(), operands.end(), [](OperandKind kind) {
    return kind == OperandKind::kPcOffset9 || kind == OperandKind::kPcOffset11;
  });
  if (!relative) return std::nullopt;
  return static_cast<std::uint16_t>(address + 1 + instruction.immediate);
}

class Lister {
 public:
  explicit Lister(const Program& program) : program_(program) {
    for (const Segment& segment : program.segments) {
      if (!segment.words.empty()) by_origin_.emplace(segment.origin, &segment);
    }
    name_symbols();
    name_targets();
  }

  std::string run() {
    for (const Segment& segment : program_.segments) list(segment);
    return std::move(out_);
  }

 private:
  bool contains(std::uint16_t address) const {
    const auto after = by_origin_.upper_bound(address);
    if (after == by_origin_.begin()) return false;
    return address < std::prev(after)->second->end();
  }

  void name_symbols() {
    for (const Symbol& symbol : program_.symbols) {
      if (!contains(symbol.address) || !why_not_a_label(symbol.name).empty()) continue;
      if (names_.insert(upper(symbol.name)).second) labels_[symbol.address].push_back(symbol.name);
    }
  }

  void name_targets() {
    for (const Segment& segment : program_.segments) {
      for (std::size_t i = 0; i < segment.words.size(); ++i) {
        const auto address = static_cast<std::uint16_t>(segment.origin + i);
        const DisassemblyText text = disassemble(segment.words[i], address);
        const auto target = target_of(segment.words[i], address, text.view());
        if (!target || !contains(*target) || !labels_[*target].empty()) continue;
        std::string name = fmt::format("L_{:04X}", *target);
        while (!names_.insert(name).second) name += '_';  // a symbol of that name exists
        labels_[*target].push_back(std::move(name));
      }
    }
  }

  const std::vector<std::string>* labels_at(std::uint16_t address) const {
    const auto found = labels_.find(address);
    return found == labels_.end() || found->second.empty() ? nullptr : &found->second;
  }

  void list(const Segment& segment) {
    if (segment.words.empty()) return;
    out_ += fmt::format("        .ORIG x{:04X}\n", segment.origin);
    for (std::size_t i = 0; i < segment.words.size(); ++i) {
      const auto address = static_cast<std::uint16_t>(segment.origin + i);
      if (const auto* labels = labels_at(address)) {
        for (const std::string& label : *labels) out_ += label + "\n";
      }
      const DisassemblyText buffer = disassemble(segment.words[i], address);
      std::string_view text = buffer.view();
      text = text.substr(0, text.find(" ;"));
      std::string statement(text);
      if (const auto target = target_of(segment.words[i], address, text)) {
        if (const auto* labels = labels_at(*target)) statement = statement.substr(0, text.rfind('#')) + labels->front();
      }
      out_ += fmt::format("        {:<28}; x{:04X} x{:04X}\n", statement, address, segment.words[i]);
    }
    out_ += "        .END\n";
  }

  const Program& program_;
  std::map<std::uint16_t, const Segment*> by_origin_;
  std::map<std::uint16_t, std::vector<std::string>> labels_;
  std::set<std::string> names_;  // upper case
  std::string out_;
};

}  // namespace

std::string disassemble(const Program& program) { return Lister(program).run(); }

}  // namespace warmfork::lc3
