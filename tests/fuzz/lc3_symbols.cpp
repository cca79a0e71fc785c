// Symbol files: whatever is accepted is written and read back unchanged.
#include "lc3/asm/symbol_file.hpp"
#include "require.hpp"

#include <cstdint>
#include <string_view>

using namespace warmfork::lc3;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // SAFETY: bytes viewed as characters.
  const auto symbols = read_symbols(std::string_view(reinterpret_cast<const char*>(data), size), "input.sym");
  if (!symbols) {
    WARMFORK_REQUIRE(!symbols.error().message.empty());
    WARMFORK_REQUIRE(symbols.error().message.find('\n') == std::string::npos);
    return 0;
  }
  const auto again = read_symbols(write_symbols(*symbols), "again.sym");
  WARMFORK_REQUIRE(again && *again == *symbols);
  return 0;
}
