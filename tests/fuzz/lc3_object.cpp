// Object files: whatever is accepted is a valid program, and both writers and the disassembler carry it unchanged.
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/listing.hpp"
#include "lc3/asm/object_file.hpp"
#include "require.hpp"

#include <cstdint>
#include <span>

using namespace warmfork::lc3;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto program = read_object(std::as_bytes(std::span(data, size)), "input.obj");
  if (!program) {
    WARMFORK_REQUIRE(!program.error().message.empty());
    WARMFORK_REQUIRE(program.error().message.find('\n') == std::string::npos);
    return 0;
  }
  WARMFORK_REQUIRE(check_layout(*program));
  const auto again = read_object(write_lc3tools_object(*program), "again.obj");
  WARMFORK_REQUIRE(again && again->segments == program->segments && again->lines == program->lines);
  const auto classic = write_classic_object(program->segments[0]);
  if (!is_lc3tools_object(classic)) {  // a classic file whose words spell the magic cannot be told apart
    const auto first = read_object(classic, "first.obj");
    WARMFORK_REQUIRE(first &&
                     first->segments[0] == Segment({program->segments[0].origin, program->segments[0].words, 0}));
  }
  if (program->word_count() <= 2000) {
    const auto assembled = assemble(disassemble(*program), "listing.asm");
    WARMFORK_REQUIRE(assembled && assembled->segments == program->segments);
  }
  return 0;
}
