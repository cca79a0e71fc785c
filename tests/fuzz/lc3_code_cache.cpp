// Files of compiled LC-3 code: what is accepted has entries for blocks of the unit only, inside of its code, and is the
// file that this code would be written as.
//
// Input: 1 byte, bit 0: the target makes magic, format, key and checksum right, which nobody guesses; then the file.
#include "lc3/jit/disk_cache.hpp"
#include "lc3/jit/frontend.hpp"
#include "require.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace warmfork;
using namespace warmfork::lc3;
using namespace warmfork::lc3::jit;

Unit make_unit(std::span<std::uint16_t, kMemoryWords> words) {
  constexpr std::uint16_t kRoots[] = {0x3000};
  words[0x3000] = 0x1021;  // ADD R0, R0, #1
  words[0x3001] = 0x03fe;  // BRp x3000
  words[0x3002] = 0x1261;  // ADD R1, R1, #1
  words[0x3003] = 0xf025;
  const WordSet none;
  return translate({words, none, false}, kRoots);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static std::vector<std::uint16_t> words(kMemoryWords);
  static const Unit unit = make_unit(std::span<std::uint16_t, kMemoryWords>(words));
  static const CodeKey key = key_of(unit, std::span<const std::uint16_t, kMemoryWords>(words), "fuzz");
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  std::vector<std::byte> file(input.begin(), input.end());
  if ((data[0] & 1) != 0 && file.size() >= sizeof(CodeFileHeader)) {
    CodeFileHeader header;
    std::memcpy(&header, file.data(), sizeof header);
    header.magic = kCodeFileMagic;
    header.format = kCodeFileFormat;
    header.key = key;
    std::memcpy(file.data(), &header, sizeof header);
    seal_code_file(file);
  }
  const auto code = decode_code(file, key, unit);
  if (!code) {
    WARMFORK_REQUIRE(code.error().kind == ErrorKind::kInput);
    WARMFORK_REQUIRE(!code.error().message.empty());
    WARMFORK_REQUIRE(code.error().message.find('\n') == std::string::npos);
    return 0;
  }
  WARMFORK_REQUIRE(code->out_of_line <= code->bytes.size());
  for (const MachineCode::Mark& entry : code->entries) {
    WARMFORK_REQUIRE(entry.offset < code->bytes.size());
    WARMFORK_REQUIRE(unit.blocks.contains(entry.address));
  }
  const auto again = encode_code(*code, key);
  WARMFORK_REQUIRE(again && std::ranges::equal(*again, file));
  return 0;
}
