// Assembler source: it is refused with diagnostics that can be shown, or gives a valid program that the disassembler
// turns into source of the same words.
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/listing.hpp"
#include "require.hpp"

#include <cstdint>
#include <string_view>

using namespace warmfork::lc3;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // SAFETY: bytes viewed as characters.
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const Assembly assembly = assemble_with_diagnostics(source, "input.asm");
  for (const Diagnostic& diagnostic : assembly.diagnostics) {
    WARMFORK_REQUIRE(diagnostic.line >= 1 && diagnostic.column >= 1);
    WARMFORK_REQUIRE(diagnostic.column <= diagnostic.source_line.size() + 1);
    WARMFORK_REQUIRE(format_diagnostic(diagnostic).back() == '^');
  }
  if (!assembly.diagnostics.empty()) return 0;
  WARMFORK_REQUIRE(check_layout(assembly.program));
  if (assembly.program.word_count() <= 2000) {
    const auto again = assemble(disassemble(assembly.program), "listing.asm");
    WARMFORK_REQUIRE(again && again->segments == assembly.program.segments);
  }
  return 0;
}
