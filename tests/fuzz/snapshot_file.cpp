// Snapshot files: whatever is accepted gives a guest no more than a program file could, whoever made its checksums.
//
// Input: 1 byte: bit 0 it is a layer; bit 1 its checksums are right; bit 2 what follows is a whole file. Else there
// follow metadata and index, each 2 bytes of length and that many bytes, and 1 byte each for the pages of image and
// window. The target fills pages up and makes the header, because nobody guesses a checksum.
#include "fork/snapshot_file.hpp"

#include "require.hpp"
#include "tiny_snapshot.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace warmfork;
using namespace warmfork::snapshot_format;

class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : rest_(bytes) {}
  std::size_t byte() {
    const auto front = take(1);
    return front.empty() ? 0 : std::to_integer<std::size_t>(front[0]);
  }
  std::span<const std::byte> take(std::size_t size) {
    const auto front = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(front.size());
    return front;
  }

 private:
  std::span<const std::byte> rest_;
};

std::vector<std::byte> make_file(Input input, const Checksum& base, bool right) {
  std::vector<std::byte> file(sizeof(Header));
  std::array<SectionSummary, kSections> sections{};
  for (std::size_t i = 0; i < kSections; ++i) {
    const std::size_t begin = file.size();
    if (i == kMetadata || i == kIndex) {
      const std::size_t low = input.byte();
      const auto content = input.take(low | input.byte() << 8);
      file.insert(file.end(), content.begin(), content.end());
      file.resize(page_ceil(file.size()));
    } else {
      file.resize(file.size() + input.byte() * kPage, std::byte{0x90});
    }
    const auto section = std::span(file).subspan(begin);
    sections[i] = {section.size(), right ? checksum_of(section) : Checksum{1, 1}};
  }
  const Header header = make_header(sections, base);
  std::memcpy(file.data(), &header, sizeof header);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const x86::CpuModel cpu = test::every_processor();
  static const std::shared_ptr<const Snapshot> base = test::tiny_snapshot(cpu);
  static const x86::UserFeatures offered = x86::user_features(cpu);
  static const Checksum base_id = *snapshot_id(*base);
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  const bool layer = (data[0] & 1) != 0;
  const bool right = (data[0] & 2) != 0;
  std::vector<std::byte> file;
  if ((data[0] & 4) != 0) {
    file.assign(input.begin(), input.end());
    if (right) test::reseal(file);
  } else {
    file = make_file(Input(input), layer ? base_id : Checksum{}, right);
  }
  const UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC));
  WARMFORK_REQUIRE(fd && ::write(fd.get(), file.data(), file.size()) == static_cast<ssize_t>(file.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());

  (void)inspect_snapshot(path);
  const auto loaded =
      load_snapshot(cpu, offered, path,
                    {.base = layer ? base : nullptr, .base_files = {}, .verify = right, .memory_limit = 16 << 20});
  if (!loaded) {
    WARMFORK_REQUIRE(loaded.error().kind != ErrorKind::kHost);
    WARMFORK_REQUIRE(loaded.error().message.starts_with(path));
    WARMFORK_REQUIRE(loaded.error().message.find('\n') == std::string::npos);
    return 0;
  }
  WARMFORK_REQUIRE(test::is_canonical(file));
  const char* const broken = test::broken_promise(**loaded);
  if (broken != nullptr) std::fprintf(stderr, "broken promise: %s\n", broken);
  WARMFORK_REQUIRE(broken == nullptr);
  return 0;
}
