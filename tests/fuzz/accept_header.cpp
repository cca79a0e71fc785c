// The Accept header of whoever asks the metrics server: anything is a format, and nothing is read beyond its end.
#include "exposition/formats.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // SAFETY: bytes viewed as characters.
  const std::string_view header(reinterpret_cast<const char*>(data), size);
  const auto format = warmfork::exposition::choose_format(header);
  if (warmfork::exposition::content_type(format) == nullptr) __builtin_trap();
  return 0;
}
