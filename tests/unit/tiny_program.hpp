// A small program as the loader would plan it, for tests that need an address space and no processor.
//
//   0x400000 code, one page | 0x402000 read-only, 5000 bytes | 0x405800 data, 16 bytes in the file and 0x2000 in memory
#pragma once

#include "loader/elf_loader.hpp"
#include "machine/address_space.hpp"
#include "machine/guest_storage.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace warmfork::test {

struct TinyProgram {
  TinyProgram() {
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 251 + 1);
    const std::span<const std::byte> file(bytes);
    plan.segments = {{Gva{0x400000}, kPage, file.first(kPage), false, true},
                     {Gva{0x402000}, 5000, file.first(5000), false, false},
                     {Gva{0x405800}, 0x2000, file.first(16), true, false}};
    plan.entry = Gva{0x400010};
    plan.end = Gva{0x408000};
    plan.program_headers = Gva{0x402040};
    plan.program_header_count = 3;
  }

  /// An address space over fresh memory, with the program in it. The memory lives as long as the TinyProgram.
  [[nodiscard]] std::unique_ptr<AddressSpace> build(const LayoutSizes& sizes, unsigned physical_bits = 40) {
    const auto layout = GuestLayout::plan(plan, sizes, physical_bits);
    EXPECT_TRUE(layout) << layout.error().message;
    auto memory = GuestStorage::allocate(**layout);
    EXPECT_TRUE(memory) << memory.error().message;
    storage.push_back(std::move(*memory));
    auto space = AddressSpace::build(*layout, storage.back().regions);
    EXPECT_TRUE(space) << space.error().message;
    if (space) EXPECT_TRUE((*space)->load(plan));
    return space ? std::move(*space) : nullptr;
  }

  std::vector<std::byte> bytes = std::vector<std::byte>(8192);
  LoadPlan plan;
  std::vector<GuestStorage> storage;
};

}  // namespace warmfork::test
