#include "ivshmem/host/peer_program.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace warmfork::ivshmem {
namespace {

TEST(IvshmemPeerProgram, AnInitramfsHoldsTheWholeProgramAsInit) {
  const auto program = peer_elf();
  ASSERT_GT(program.size(), 4U);
  EXPECT_EQ(std::memcmp(program.data(),
                        "\x7f"
                        "ELF",
                        4),
            0);
  const auto archive = make_initramfs(program);
  // Entry by entry, as the kernel reads it: 13 numbers behind the magic, the name, the content, each filled up to four.
  std::string names;
  std::size_t at = 0;
  while (at + 110 <= archive.size()) {
    const auto text = [&](std::size_t from, std::size_t count) {
      return std::string(reinterpret_cast<const char*>(archive.data()) + from, count);
    };
    ASSERT_EQ(text(at, 6), "070701") << at;
    const auto field = [&](std::size_t index) { return std::stoul(text(at + 6 + 8 * index, 8), nullptr, 16); };
    const std::string name = text(at + 110, field(11) - 1);
    names += name + " ";
    const std::size_t content = (at + 110 + field(11) + 3) / 4 * 4;
    if (name == "init") {
      ASSERT_EQ(field(6), program.size());
      EXPECT_EQ(std::memcmp(archive.data() + content, program.data(), program.size()), 0);
      EXPECT_EQ(field(1), 0100755U);
    }
    at = (content + field(6) + 3) / 4 * 4;
  }
  EXPECT_EQ(at, archive.size());
  EXPECT_EQ(names, "dev dev/console sys init TRAILER!!! ");
}

}  // namespace
}  // namespace warmfork::ivshmem
