// What plan_elf promises for any bytes whatever. Shared by the fuzz target and the unit tests.
#pragma once

#include "loader/elf_loader.hpp"

#include <algorithm>
#include <string>

namespace warmfork::test {

/// The name of a promise that `plan` breaks, or nullptr.
inline const char* broken_promise(const LoadPlan& plan, std::span<const std::byte> elf, const ElfLimits& limits) {
  if (plan.segments.empty()) return "there is a segment";
  std::uint64_t previous_end = 0;
  std::uint64_t pages = 0;
  bool entry_executable = false;
  bool headers_loaded = plan.program_headers.value == 0;
  for (const LoadSegment& segment : plan.segments) {
    const std::uint64_t begin = segment.address.value;
    const std::uint64_t end = begin + segment.memory_size;
    if (segment.memory_size == 0 || end < begin) return "segments are not empty and do not wrap";
    if (begin < limits.lowest_address || end > limits.highest_address) return "segments lie inside the limits";
    if (page_floor(begin) < previous_end) return "segments are sorted and share no page";
    if (segment.write && segment.execute) return "no segment is writable and executable";
    if (segment.file_bytes.size() > segment.memory_size) return "file bytes fit into the segment";
    if (!segment.file_bytes.empty() &&
        (segment.file_bytes.data() < elf.data() ||
         segment.file_bytes.data() + segment.file_bytes.size() > elf.data() + elf.size())) {
      return "file bytes lie inside the file";
    }
    previous_end = page_ceil(end);
    pages += previous_end - page_floor(begin);
    entry_executable |= segment.execute && plan.entry.value >= begin && plan.entry.value < end;
    headers_loaded |=
        plan.program_headers.value >= begin && plan.program_headers.value < begin + segment.file_bytes.size();
  }
  if (!entry_executable) return "the entry point is executable";
  if (!headers_loaded) return "the program headers' address holds bytes of the file";
  if (pages > limits.memory_bytes) return "segments fit into the memory limit";
  if (plan.end.value != previous_end) return "end is the page boundary past the last segment";
  if (plan.symbols.size() > limits.symbols) return "there are no more symbols than allowed";
  if (!std::ranges::is_sorted(plan.symbols, {}, &ElfSymbol::address)) return "symbols are sorted";
  for (const ElfSymbol& symbol : plan.symbols) {
    if (symbol.name.size() > 512) return "symbol names are short";
    const std::string text = plan.symbolize(symbol.address);
    if (std::ranges::any_of(text, [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }))
      return "symbols are printable";
  }
  for (const std::uint64_t address : {std::uint64_t{0}, plan.entry.value, previous_end, ~std::uint64_t{0}}) {
    (void)plan.symbolize(address);
  }
  return nullptr;
}

/// Plans `elf`, and the name of a broken promise, or nullptr.
inline const char* broken_promise(std::span<const std::byte> elf, const ElfLimits& limits) {
  const auto plan = plan_elf(elf, "input.elf", limits);
  if (plan) return broken_promise(*plan, elf, limits);
  const bool blames_input = plan.error().kind == ErrorKind::kInput || plan.error().kind == ErrorKind::kLimit;
  if (!blames_input) return "refusals blame the input, or a limit it passes";
  if (!plan.error().message.starts_with("input.elf: ")) return "refusals begin with the file's name";
  if (plan.error().message.find('\n') != std::string::npos) return "refusals are one line";
  return nullptr;
}

}  // namespace warmfork::test
