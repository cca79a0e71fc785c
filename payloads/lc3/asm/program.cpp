#include "lc3/asm/program.hpp"

#include "lc3/asm/text.hpp"

#include <algorithm>
#include <utility>

namespace warmfork::lc3 {

const Symbol* Program::find_symbol(std::string_view name) const {
  for (const Symbol& symbol : symbols) {
    if (equal_ignoring_case(symbol.name, name)) return &symbol;
  }
  return nullptr;
}

std::size_t Program::word_count() const {
  std::size_t count = 0;
  for (const Segment& segment : segments) count += segment.words.size();
  return count;
}

Status check_layout(const Program& program) {
  if (program.segments.empty()) return fail(ErrorKind::kInput, "a program without any words");
  std::vector<const Segment*> sorted;
  for (const Segment& segment : program.segments) {
    if (segment.words.empty()) {
      return fail(ErrorKind::kInput, "{}: the segment at x{:04X} has no words", program.files[segment.file],
                  segment.origin);
    }
    if (segment.words.size() > kAddressSpaceWords - segment.origin) {
      return fail(ErrorKind::kInput, "{}: {} words from x{:04X} reach past xFFFF: at most {} fit",
                  program.files[segment.file], segment.words.size(), segment.origin,
                  kAddressSpaceWords - segment.origin);
    }
    sorted.push_back(&segment);
  }
  // Equal origins stay in the order of the source.
  std::sort(sorted.begin(), sorted.end(),
            [](const Segment* a, const Segment* b) { return std::pair(a->origin, a) < std::pair(b->origin, b); });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const Segment& low = *sorted[i - 1];
    const Segment& high = *sorted[i];
    if (low.end() <= high.origin) continue;
    return fail(ErrorKind::kInput, "segments overlap at x{:04X}: x{:04X}-x{:04X} of {} and x{:04X}-x{:04X} of {}",
                high.origin, low.origin, low.end() - 1, program.files[low.file], high.origin, high.end() - 1,
                program.files[high.file]);
  }
  return {};
}

Status merge(Program& program, Program other) {
  const auto base = static_cast<std::uint32_t>(program.files.size());
  std::move(other.files.begin(), other.files.end(), std::back_inserter(program.files));
  for (Segment& segment : other.segments) {
    segment.file += base;
    program.segments.push_back(std::move(segment));
  }
  for (Symbol& symbol : other.symbols) {
    symbol.file += base;
    program.symbols.push_back(std::move(symbol));
  }
  for (SourceLine& line : other.lines) {
    line.file += base;
    program.lines.push_back(std::move(line));
  }
  return check_layout(program);
}

}  // namespace warmfork::lc3
