#include "lc3_report.hpp"

#include "lc3/core/instruction.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

namespace warmfork::cli {
namespace {

constexpr std::size_t kHottest = 10;
constexpr std::array<const char*, 16> kOpcodeNames{"BR",  "ADD", "LD",  "ST",  "JSR", "AND",      "LDR", "STR",
                                                   "RTI", "NOT", "LDI", "STI", "JMP", "reserved", "LEA", "TRAP"};

// The JSON library checks every string that it writes; there is no other way to ask it.
bool is_utf8(std::string_view bytes) {
  try {
    return !nlohmann::json(bytes).dump().empty();
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

std::uint64_t sum(std::span<const std::uint64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "-" : fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace

const lc3::Program* Lc3Places::owner(std::uint16_t address, const lc3::Segment** segment) const {
  for (const lc3::Program* program : {&program_, os_}) {
    if (program == nullptr) continue;
    for (const lc3::Segment& one : program->segments) {
      if (address < one.origin || address >= one.end()) continue;
      *segment = &one;
      return program;
    }
  }
  return nullptr;
}

std::string Lc3Places::label(std::uint16_t address) const {
  const lc3::Segment* segment = nullptr;
  const lc3::Program* program = owner(address, &segment);
  if (program == nullptr) return {};
  const lc3::Symbol* best = nullptr;
  for (const lc3::Symbol& symbol : program->symbols) {
    if (symbol.address > address || symbol.address < segment->origin) continue;
    if (best == nullptr || symbol.address > best->address) best = &symbol;
  }
  if (best == nullptr) return {};
  if (best->address == address) return best->name;
  return fmt::format("{}+{}", best->name, address - best->address);
}

const lc3::SourceLine* Lc3Places::source(std::uint16_t address) const {
  for (const lc3::SourceLine& line : program_.lines) {
    if (address >= line.address && address < line.address + line.word_count) return &line;
  }
  return nullptr;
}

std::string Lc3Places::describe(std::uint16_t address) const {
  std::string text = label(address);
  if (const lc3::Segment* segment = nullptr; owner(address, &segment) == os_ && os_ != nullptr) {
    text = text.empty() ? "the OS" : fmt::format("{} of the OS", text);
  }
  if (const lc3::SourceLine* line = source(address); line != nullptr && line->line != 0) {
    const std::string file = std::filesystem::path(program_.files[line->file]).filename().string();
    text += fmt::format("{}{}:{}", text.empty() ? "" : ", ", file, line->line);
  }
  return text.empty() ? fmt::format("x{:04X}", address) : fmt::format("x{:04X} ({})", address, text);
}

std::string Lc3Places::instruction(std::uint16_t word, std::uint16_t address) const {
  const lc3::DisassemblyText buffer = lc3::disassemble(word, address);
  const std::string_view text = buffer.view();
  const std::size_t comment = text.find(" ; x");
  if (comment == std::string_view::npos) return std::string(text);
  const auto target = static_cast<std::uint16_t>(address + 1 + lc3::decode(word).immediate);
  const std::string name = label(target);
  if (name.empty()) return std::string(text);
  return fmt::format("{}{}", text.substr(0, text.rfind('#', comment)), name);
}

std::string describe_psr(std::uint16_t psr) {
  return fmt::format("{}, priority {}, {}", (psr & lc3::kPsrUser) != 0 ? "user" : "supervisor",
                     (psr & lc3::kPsrPriority) >> 8,
                     (psr & lc3::kPsrN) != 0   ? "N"
                     : (psr & lc3::kPsrZ) != 0 ? "Z"
                                               : "P");
}

std::string registers_text(const lc3::Registers& registers) {
  std::string text;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint16_t value = registers.general[i];
    text += fmt::format("  R{} x{:04X} {:<6}{}", i, value, static_cast<std::int16_t>(value), i % 4 == 3 ? "\n" : " ");
  }
  text +=
      fmt::format("  PC x{:04X}  PSR x{:04X} ({})  saved SSP x{:04X}  saved USP x{:04X}  MCR x{:04X}\n", registers.pc,
                  registers.psr, describe_psr(registers.psr), registers.saved_ssp, registers.saved_usp, registers.mcr);
  return text;
}

Result<Lc3Statistics> collect_statistics(lc3::Lc3Vm& vm) {
  WARMFORK_TRY_ASSIGN(const auto counts, vm.statistics());
  WARMFORK_TRY_ASSIGN(const auto memory, vm.read_memory(0, lc3::kMemoryWords));
  Lc3Statistics statistics;
  std::copy(std::begin(counts->opcodes), std::end(counts->opcodes), statistics.opcodes.begin());
  std::copy(std::begin(counts->register_reads), std::end(counts->register_reads), statistics.register_reads.begin());
  std::copy(std::begin(counts->register_writes), std::end(counts->register_writes), statistics.register_writes.begin());
  statistics.instructions = std::accumulate(statistics.opcodes.begin(), statistics.opcodes.end(), std::uint64_t{0});
  statistics.branches_taken = sum(counts->branches_taken);
  statistics.branches_not_taken = sum(counts->branches_not_taken);
  statistics.memory_reads = sum(counts->memory_reads);
  statistics.memory_writes = sum(counts->memory_writes);
  std::vector<Lc3Statistics::Hot> hot;
  for (std::uint32_t i = 0; i < lc3::kMemoryWords; ++i) {
    if (counts->executions[i] == 0) continue;
    hot.push_back({static_cast<std::uint16_t>(i), memory[i], counts->executions[i]});
  }
  const std::size_t kept = std::min(hot.size(), kHottest);
  std::partial_sort(
      hot.begin(), hot.begin() + static_cast<std::ptrdiff_t>(kept), hot.end(),
      [](const auto& a, const auto& b) { return a.count != b.count ? a.count > b.count : a.address < b.address; });
  hot.resize(kept);
  statistics.hottest = std::move(hot);
  return statistics;
}

std::string statistics_text(const Lc3Statistics& s, const Lc3Places& places) {
  std::string text = "  opcodes\n";
  std::array<std::size_t, 16> order{};
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return std::pair(s.opcodes[b], a) < std::pair(s.opcodes[a], b); });
  for (const std::size_t i : order) {
    if (s.opcodes[i] == 0) break;
    text +=
        fmt::format("    {:<9} {:>14} {:>8}\n", kOpcodeNames[i], s.opcodes[i], percent(s.opcodes[i], s.instructions));
  }
  const std::uint64_t branches = s.branches_taken + s.branches_not_taken;
  text += fmt::format("  branches      taken {}, not taken {} ({} taken)\n", s.branches_taken, s.branches_not_taken,
                      percent(s.branches_taken, branches));
  text += fmt::format("  memory        reads {}, writes {}\n", s.memory_reads, s.memory_writes);
  text += "  registers        reads         writes\n";
  for (std::size_t i = 0; i < 8; ++i) {
    text += fmt::format("    R{} {:>16} {:>14}\n", i, s.register_reads[i], s.register_writes[i]);
  }
  text += "  hottest addresses\n";
  for (const auto& hot : s.hottest) {
    text += fmt::format("    {:>14} {:>8}  {}  {}\n", hot.count, percent(hot.count, s.instructions),
                        places.describe(hot.address), places.instruction(hot.word, hot.address));
  }
  return text;
}

nlohmann::ordered_json statistics_json(const Lc3Statistics& s, const Lc3Places& places) {
  nlohmann::ordered_json json;
  json["instructions"] = s.instructions;
  for (std::size_t i = 0; i < 16; ++i) json["opcodes"][kOpcodeNames[i]] = s.opcodes[i];
  json["branches"] = {{"taken", s.branches_taken}, {"not_taken", s.branches_not_taken}};
  json["memory"] = {{"reads", s.memory_reads}, {"writes", s.memory_writes}};
  json["register_reads"] = s.register_reads;
  json["register_writes"] = s.register_writes;
  json["hottest"] = nlohmann::ordered_json::array();
  for (const auto& hot : s.hottest) {
    nlohmann::ordered_json one{{"address", hot.address}, {"count", hot.count}};
    if (const std::string label = places.label(hot.address); !label.empty()) one["label"] = label;
    one["instruction"] = places.instruction(hot.word, hot.address);
    json["hottest"].push_back(std::move(one));
  }
  return json;
}

nlohmann::ordered_json registers_json(const lc3::Registers& registers) {
  nlohmann::ordered_json json;
  for (std::size_t i = 0; i < 8; ++i) json[fmt::format("r{}", i)] = registers.general[i];
  json["pc"] = registers.pc;
  json["psr"] = registers.psr;
  json["saved_ssp"] = registers.saved_ssp;
  json["saved_usp"] = registers.saved_usp;
  json["mcr"] = registers.mcr;
  return json;
}

nlohmann::ordered_json code_json(const lc3::jit::CacheCounters& code, lc3::Engine engine) {
  return {{"engine", lc3::kEngineNames[static_cast<std::size_t>(engine)]},
          {"versions", code.versions},
          {"instructions", code.instructions},
          {"code_bytes", code.code_bytes},
          {"compile_ns", code.compile_ns},
          {"optimised", code.optimised},
          {"optimise_ns", code.optimise_ns},
          {"failures", code.failures},
          {"disk_hits", code.disk_hits},
          {"disk_misses", code.disk_misses},
          {"disk_refused", code.disk_refused},
          {"disk_written", code.disk_written},
          {"disk_failures", code.disk_failures},
          {"disk_trimmed", code.disk_trimmed}};
}

JsonText json_text(std::string_view bytes) {
  if (is_utf8(bytes)) return {std::string(bytes), "utf-8"};
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto value = static_cast<unsigned char>(c);
    if (value < 0x80) {
      text += c;
    } else {
      text += static_cast<char>(0xC0 | (value >> 6));
      text += static_cast<char>(0x80 | (value & 0x3F));
    }
  }
  return {text, "latin-1"};
}

std::string rate_text(double per_second) {
  if (per_second >= 1e9) return fmt::format("{:.2f} G/s", per_second / 1e9);
  if (per_second >= 1e6) return fmt::format("{:.1f} M/s", per_second / 1e6);
  if (per_second >= 1e3) return fmt::format("{:.1f} k/s", per_second / 1e3);
  return fmt::format("{:.0f} /s", per_second);
}

std::string time_text(double ns) {
  if (ns >= 1e9) return fmt::format("{:.2f} s", ns / 1e9);
  if (ns >= 1e6) return fmt::format("{:.2f} ms", ns / 1e6);
  if (ns >= 1e3) return fmt::format("{:.2f} us", ns / 1e3);
  return fmt::format("{:.0f} ns", ns);
}

}  // namespace warmfork::cli
