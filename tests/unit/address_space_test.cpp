#include "machine/address_space.hpp"

#include "tiny_program.hpp"
#include "warmfork/abi/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kTop = ~std::uint64_t{0};
constexpr LayoutSizes kSizes{.heap = 9 * kPage - 1, .stack = 4 * kPage, .call_area = kPage + 1};

class AddressSpaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    space_ = program_.build(kSizes);
    ASSERT_NE(space_, nullptr);
  }
  [[nodiscard]] Status read(std::uint64_t address, std::size_t size) const {
    std::vector<std::byte> out(size);
    return space_->read(Gva{address}, out);
  }
  [[nodiscard]] Status write(std::uint64_t address, std::size_t size) {
    const std::vector<std::byte> in(size, std::byte{0x77});
    return space_->write(Gva{address}, in);
  }
  [[nodiscard]] std::uint64_t exception_stack() const { return space_->layout().exception_stack().begin.value; }

  test::TinyProgram program_;
  std::unique_ptr<AddressSpace> space_;
};

TEST_F(AddressSpaceTest, WindowFollowsTheProgramWithGuardsAroundTheStacks) {
  EXPECT_EQ(space_->heap().begin, program_.plan.end);
  EXPECT_EQ(space_->heap().size, 9 * kPage);
  EXPECT_EQ(space_->stack().begin, space_->heap().end() + kPage);
  EXPECT_EQ(space_->stack().size, 4 * kPage);
  EXPECT_EQ(space_->call_area().begin, space_->stack().end() + kPage);
  EXPECT_EQ(space_->call_area().size, 2 * kPage);
  const AddressRange ring = space_->layout().call_ring();
  EXPECT_EQ(ring.begin, space_->call_area().end() + kPage);
  EXPECT_EQ(ring.end().value + kPage, exception_stack());
  for (const Gva guard : {space_->heap().end(), space_->stack().end(), space_->call_area().end(), ring.end()}) {
    EXPECT_FALSE(space_->translate(guard));
    EXPECT_FALSE(space_->translate(guard + (kPage - 1)));
  }
  EXPECT_FALSE(space_->translate(Gva{exception_stack() + kPage}));
}

TEST_F(AddressSpaceTest, ProgramBytesArriveAndTheRestIsZero) {
  std::vector<std::byte> code(kPage);
  ASSERT_TRUE(space_->read(Gva{0x400000}, code));
  EXPECT_TRUE(std::ranges::equal(code, std::span(program_.bytes).first(kPage)));
  std::vector<std::byte> constants(5000);
  ASSERT_TRUE(space_->read(Gva{0x402000}, constants));  // over a page border
  EXPECT_TRUE(std::ranges::equal(constants, std::span(program_.bytes).first(5000)));
  std::vector<std::byte> data(0x3000);
  ASSERT_TRUE(space_->read(Gva{0x405000}, data));
  for (std::size_t i = 0; i < data.size(); ++i) {
    const bool from_file = i >= 0x800 && i < 0x810;
    ASSERT_EQ(data[i], from_file ? program_.bytes[i - 0x800] : std::byte{0}) << i;
  }
}

TEST_F(AddressSpaceTest, EveryPageAllowsWhatItsPartAllows) {
  struct Case {
    std::uint64_t address;
    x86::Access access;
  };
  constexpr std::uint64_t kSystem = WARMFORK_SYSTEM_BASE;
  for (const Case& c :
       {Case{kSystem + WARMFORK_GDT_OFFSET, {false, false, false}},
        Case{kSystem + WARMFORK_IDT_OFFSET, {false, false, false}},
        Case{kSystem + WARMFORK_EXCEPTION_STUBS_OFFSET, {false, false, true}},
        Case{kSystem + WARMFORK_USER_STUBS_OFFSET, {true, false, true}}, Case{WARMFORK_FORK_PAGE, {true, false, false}},
        Case{0x400000, {true, false, true}}, Case{0x403000, {true, false, false}}, Case{0x405000, {true, true, false}},
        Case{0x407fff, {true, true, false}}, Case{space_->heap().begin.value, {true, true, false}},
        Case{space_->stack().end().value - 1, {true, true, false}},
        Case{space_->call_area().begin.value, {true, true, false}}, Case{exception_stack(), {false, true, false}}}) {
    const auto where = space_->translate(Gva{c.address});
    ASSERT_TRUE(where) << std::hex << c.address;
    EXPECT_EQ(where->access, c.access) << std::hex << c.address;
  }
}

TEST_F(AddressSpaceTest, WritablePagesAreInTheWindowOthersInTheImageAndNoneInTheTables) {
  std::map<std::uint64_t, std::uint64_t> seen;  // guest-physical page -> the one virtual page that leads there
  std::uint64_t window_pages = 0;
  std::uint64_t image_pages = 0;
  for (std::uint64_t va = 0; va < exception_stack() + 16 * kPage; va += kPage) {
    const auto where = space_->translate(Gva{va});
    if (!where) continue;
    EXPECT_TRUE(seen.emplace(where->physical, va).second) << std::hex << va;
    // The fork page is the host's to write, and no guest's.
    const bool in_window = where->access.write || va == WARMFORK_FORK_PAGE;
    EXPECT_EQ(where->physical >= 0x1'0000'0000, in_window) << std::hex << va;
    if (!in_window) EXPECT_LT(where->physical, space_->root()) << std::hex << va;
    ++(in_window ? window_pages : image_pages);
  }
  EXPECT_EQ(window_pages * kPage, space_->layout().window_bytes());
  EXPECT_EQ(image_pages * kPage, space_->layout().image_bytes());
}

TEST_F(AddressSpaceTest, CopiesHaveTheGuestsOwnRights) {
  EXPECT_TRUE(read(WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET, kPage));
  EXPECT_TRUE(write(space_->heap().begin.value - kPage, 2 * kPage));  // data and heap are neighbours
  for (const std::uint64_t address :
       {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{WARMFORK_SYSTEM_BASE},
        std::uint64_t{WARMFORK_SYSTEM_BASE + 0x2000}, exception_stack(), exception_stack() + kPage - 8,
        space_->stack().end().value, std::uint64_t{1} << 47, kTop - 7, kTop}) {
    SCOPED_TRACE(address);
    const Status got = read(address, 1);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, ErrorKind::kGuestFault);
    EXPECT_THAT(got.error().message, HasSubstr("cannot be read"));
    EXPECT_FALSE(write(address, 1));
    EXPECT_FALSE(space_->read_string(Gva{address}, 10));
    EXPECT_FALSE(space_->read_value<std::uint64_t>(Gva{address}));
  }
  for (const std::uint64_t address :
       {std::uint64_t{0x400000}, std::uint64_t{0x402000}, std::uint64_t{WARMFORK_SYSTEM_BASE + 0x3000},
        std::uint64_t{WARMFORK_FORK_PAGE}}) {
    EXPECT_TRUE(read(address, 8));
    const Status put = write(address, 1);
    ASSERT_FALSE(put);
    EXPECT_THAT(put.error().message, HasSubstr("cannot be written"));
  }
}

TEST_F(AddressSpaceTest, CopiesStopAtTheFirstBadPageAndNameIt) {
  const std::uint64_t end = space_->stack().end().value;
  EXPECT_TRUE(read(end - 8, 8));
  const Status got = read(end - 8, 9);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().message,
            fmt::format("guest address {:#x} cannot be read (the guard page above the stack)", end));
  EXPECT_FALSE(write(0x404ff8, 16));  // from a gap into data
  EXPECT_FALSE(read(kTop - 3, 8));    // over the end of the address space
}

TEST_F(AddressSpaceTest, ReadsStringsUpToTheirEndOrTheLimit) {
  const auto put = [&](std::uint64_t address, std::string_view text) {
    ASSERT_TRUE(space_->write(Gva{address}, std::as_bytes(std::span(text))));
  };
  const std::uint64_t heap = space_->heap().begin.value;
  put(heap + kPage - 3, std::string_view("abcdef\0", 7));  // over a page border
  EXPECT_EQ(*space_->read_string(Gva{heap + kPage - 3}, 100), "abcdef");
  EXPECT_EQ(*space_->read_string(Gva{heap + kPage - 3}, 7), "abcdef");
  const auto too_long = space_->read_string(Gva{heap + kPage - 3}, 6);
  ASSERT_FALSE(too_long);
  EXPECT_THAT(too_long.error().message, HasSubstr("longer than 6 bytes"));
  EXPECT_EQ(*space_->read_string(Gva{heap + kPage + 3}, 100), "");
  const std::uint64_t end = space_->stack().end().value;
  put(end - 4, std::string_view("xyz\0", 4));
  EXPECT_EQ(*space_->read_string(Gva{end - 4}, 4096), "xyz");
  put(end - 1, "!");
  EXPECT_FALSE(space_->read_string(Gva{end - 4}, 4096));
}

TEST_F(AddressSpaceTest, ZeroesPagesOfTheHeapAndNothingElse) {
  const AddressRange heap = space_->heap();
  ASSERT_TRUE(write(heap.begin.value - kPage, heap.size + kPage));
  ASSERT_TRUE(space_->zero_heap(heap.begin, kPage));
  ASSERT_TRUE(space_->zero_heap(heap.end(), 0));
  EXPECT_EQ(*space_->read_value<std::uint8_t>(Gva{heap.begin.value - 1}), 0x77);
  EXPECT_EQ(*space_->read_value<std::uint8_t>(heap.begin), 0);
  EXPECT_EQ(*space_->read_value<std::uint8_t>(heap.begin + (kPage - 1)), 0);
  EXPECT_EQ(*space_->read_value<std::uint8_t>(heap.begin + kPage), 0x77);
  struct Range {
    std::uint64_t address, size;
  };
  for (const Range& r :
       {Range{heap.begin.value - kPage, kPage}, Range{heap.end().value, kPage},
        Range{heap.begin.value, heap.size + kPage}, Range{heap.begin.value + 8, kPage}, Range{heap.begin.value, 8},
        Range{heap.begin.value, kTop - kPage + 1}, Range{kTop - kPage + 1, kPage}, Range{0, kPage}}) {
    EXPECT_FALSE(space_->zero_heap(Gva{r.address}, r.size)) << std::hex << r.address << " + " << r.size;
  }
}

// A fork of a snapshot with protected pages: they are there, though it has changed nothing itself.
TEST_F(AddressSpaceTest, OverridesItWasBuiltWithAreNotForgotten) {
  const Gva page = space_->heap().begin + 2 * kPage;
  constexpr x86::Access kReadOnly{.user = true, .write = false, .execute = false};
  const std::vector<AddressSpace::Override> wanted{{{page, kPage}, kReadOnly}};
  ASSERT_TRUE(space_->rebuild_tables(wanted));
  EXPECT_FALSE(space_->tables_changed());
  EXPECT_EQ(space_->overrides(), wanted) << "a snapshot of that fork would lose them";
  ASSERT_TRUE(space_->restore_heap({page, kPage}));  // the guest has given it back
  EXPECT_TRUE(write(page.value, 1));
  EXPECT_TRUE(space_->tables_changed());
  ASSERT_TRUE(space_->rebuild_tables({}));
  EXPECT_TRUE(space_->overrides().empty());
}

TEST_F(AddressSpaceTest, WindowMemoryIsTheGuestsOwnWritableMemory) {
  const AddressRange heap = space_->heap();
  EXPECT_TRUE(space_->layout().is_protectable(Gva{0x405000}, 3 * kPage + heap.size));  // data and heap
  EXPECT_FALSE(space_->layout().is_protectable(Gva{0x405000}, 3 * kPage + heap.size + 1));
  EXPECT_FALSE(space_->layout().is_protectable(Gva{0x404000}, 2 * kPage));
  EXPECT_FALSE(space_->layout().is_protectable(Gva{0x400000}, kPage));
  EXPECT_FALSE(space_->layout().is_protectable(Gva{exception_stack()}, kPage));
  EXPECT_FALSE(space_->layout().is_protectable(heap.begin, kTop));
  EXPECT_FALSE(space_->layout().is_protectable(Gva{kTop}, 2));
  EXPECT_TRUE(space_->layout().is_protectable(space_->stack().begin, space_->stack().size));
  EXPECT_FALSE(space_->layout().is_protectable(space_->layout().call_ring().begin, kPage));
  EXPECT_FALSE(space_->layout().is_protectable(Gva{WARMFORK_FORK_PAGE}, kPage));
}

TEST_F(AddressSpaceTest, DescribesWhatLiesWhere) {
  const std::uint64_t stack_end = space_->stack().end().value;
  const std::map<std::uint64_t, std::string> expected{
      {0, "the null guard"},
      {0xffff, "the null guard"},
      {0x10000, "the descriptor tables"},
      {0x12000, "the exception stubs"},
      {0x13fff, "the user stubs"},
      {0x14fff, "the fork page"},
      {0x15000, "not mapped"},
      {0x400000, "program code"},
      {0x401000, "not mapped"},
      {0x402000, "read-only program data"},
      {0x405000, "program data"},
      {space_->heap().begin.value, "the heap"},
      {space_->stack().begin.value - 1, "the guard page below the stack"},
      {space_->stack().begin.value, "the stack"},
      {stack_end, "the guard page above the stack"},
      {stack_end + kPage, "the call area"},
      {space_->layout().call_ring().begin.value, "the call ring"},
      {exception_stack(), "the exception stack"},
      {exception_stack() + kPage, "not mapped"},
      {x86::kMaxVirtual - 1, "not mapped"},
      {x86::kMaxVirtual, "outside user space"},
      {kTop, "outside user space"}};
  for (const auto& [address, text] : expected) EXPECT_EQ(space_->describe(Gva{address}), text) << std::hex << address;
}

TEST_F(AddressSpaceTest, KnowsWhichPagesTheHostHasWritten) {
  EXPECT_TRUE(space_->dirty().empty()) << "loading the program is not a change";
  const Gva heap = space_->heap().begin;
  ASSERT_TRUE(write(heap.value + kPage - 1, 2));
  ASSERT_TRUE(write(space_->stack().begin.value, 1));
  const std::size_t first = *space_->layout().window_offset(heap) / kPage;
  EXPECT_EQ(space_->dirty().count(), 3U);
  EXPECT_TRUE(space_->dirty().contains(first) && space_->dirty().contains(first + 1));
  EXPECT_TRUE(space_->dirty().contains(*space_->layout().window_offset(space_->stack().begin) / kPage));
}

TEST_F(AddressSpaceTest, OverridesAreWhatProtectHasChangedAndRebuildBringsThemBack) {
  const Gva heap = space_->heap().begin;
  EXPECT_TRUE(space_->overrides().empty());
  ASSERT_TRUE(space_->protect(heap + kPage, 2 * kPage, x86::Access{true, false, false}));
  ASSERT_TRUE(space_->protect(heap + 3 * kPage, kPage, std::nullopt));
  ASSERT_TRUE(space_->protect(heap + 5 * kPage, kPage, std::nullopt));
  ASSERT_TRUE(space_->protect(heap + 5 * kPage, kPage, kUserData));
  const auto overrides = space_->overrides();
  ASSERT_EQ(overrides.size(), 2U);
  EXPECT_EQ(overrides[0].range, (AddressRange{heap + kPage, 2 * kPage}));
  EXPECT_EQ(overrides[0].access, (x86::Access{true, false, false}));
  EXPECT_EQ(overrides[1].range, (AddressRange{heap + 3 * kPage, kPage}));
  EXPECT_EQ(overrides[1].access, std::nullopt);
  ASSERT_TRUE(space_->rebuild_tables({}));
  EXPECT_TRUE(write(heap.value + kPage, 3 * kPage));
  ASSERT_TRUE(space_->rebuild_tables(overrides));
  EXPECT_FALSE(write(heap.value + kPage, 1));
  EXPECT_FALSE(read(heap.value + 3 * kPage, 1));
  EXPECT_TRUE(write(heap.value + 4 * kPage, 1));
}

TEST_F(AddressSpaceTest, ExceptionFrameLiesBelowTheTopOfItsStack) {
  const auto words = space_->exception_frame(6);
  ASSERT_TRUE(words);
  EXPECT_EQ(*words, std::vector<std::uint64_t>(6));
}

TEST(AddressSpace, LargeHeapsUseLargePagesAndKeepTheirAddresses) {
  test::TinyProgram program;
  const auto space = program.build({.heap = 64 << 20, .stack = 8 << 20, .call_area = kPage});
  ASSERT_NE(space, nullptr);
  std::uint64_t large = 0;
  const AddressRange heap = space->heap();
  const std::uint64_t first = space->translate(heap.begin)->physical;
  for (std::uint64_t offset = 0; offset < heap.size; offset += kPage) {
    const auto where = space->translate(heap.begin + offset);
    ASSERT_TRUE(where);
    ASSERT_EQ(where->physical, first + offset);
    large += where->leaf_size == x86::kLargePageSize ? 1 : 0;
    // One word a page, read back below: two pages that lead to one place would show.
    ASSERT_TRUE(space->write(heap.begin + offset, std::as_bytes(std::span(&offset, 1))));
  }
  EXPECT_EQ(large * kPage / x86::kLargePageSize, 31U) << "all of the heap but its unaligned ends";
  for (std::uint64_t offset = 0; offset < heap.size; offset += kPage) {
    ASSERT_EQ(*space->read_value<std::uint64_t>(heap.begin + offset), offset);
  }
  ASSERT_TRUE(space->zero_heap(heap.begin + kPage, heap.size - 2 * kPage));
  EXPECT_EQ(*space->read_value<std::uint64_t>(heap.begin + (heap.size - kPage)), heap.size - kPage);
  EXPECT_EQ(*space->read_value<std::uint64_t>(heap.begin + (heap.size - 2 * kPage)), 0U);
}

TEST(AddressSpace, ACodeRegionLiesBehindEverythingAndMovesNothing) {
  test::TinyProgram program;
  for (const std::uint64_t heap : {std::uint64_t{9} * kPage, std::uint64_t{64} << 20}) {
    LayoutSizes sizes{.heap = heap, .stack = 4 * kPage, .call_area = kPage};
    const auto without = program.build(sizes);
    sizes.code = (std::uint64_t{6} << 20) - 1;
    const auto with = program.build(sizes);
    ASSERT_TRUE(without && with);
    const GuestLayout& layout = with->layout();
    const AddressRange code = layout.code();
    EXPECT_EQ(without->layout().code(), AddressRange{});
    EXPECT_EQ(code.size, std::uint64_t{6} << 20);
    EXPECT_GT(code.begin, layout.exception_stack().end()) << "with a guard between";
    EXPECT_EQ(layout.pieces().back().range, code);
    ASSERT_EQ(layout.pieces().size(), without->layout().pieces().size() + 1);
    for (std::size_t i = 0; i < without->layout().pieces().size(); ++i) {
      EXPECT_EQ(layout.pieces()[i].range, without->layout().pieces()[i].range);
      EXPECT_EQ(layout.pieces()[i].offset, without->layout().pieces()[i].offset);
    }
    EXPECT_EQ(layout.window_bytes(), without->layout().window_bytes());
    EXPECT_EQ(layout.image_bytes(), without->layout().image_bytes());
    EXPECT_EQ(layout.tables_bytes(), without->layout().tables_bytes());
    EXPECT_EQ(with->tables_used(), without->tables_used());

    const std::span<std::byte> bytes = program.storage.back().code.bytes;
    ASSERT_EQ(bytes.size(), code.size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % x86::kLargePageSize, 0U);
    for (std::uint64_t offset = 0; offset < code.size; offset += kPage) {
      const auto where = with->translate(code.begin + offset);
      ASSERT_TRUE(where);
      EXPECT_EQ(where->physical, layout.code_gpa().value + offset);
      EXPECT_EQ(where->leaf_size, x86::kLargePageSize);
      EXPECT_EQ(where->access, (x86::Access{.user = true, .write = false, .execute = true}));
    }
    EXPECT_GE(layout.code_gpa(), kImageGpa + layout.image_bytes());
    EXPECT_FALSE(with->translate(code.end()));
    EXPECT_FALSE(with->translate(Gva{code.begin.value - 1}));
    EXPECT_EQ(with->describe(code.begin), "the code region");
    EXPECT_EQ(with->describe(code.end()), "not mapped");
    EXPECT_FALSE(layout.is_protectable(code.begin, kPage));
    EXPECT_FALSE(layout.window_offset(code.begin));

    bytes[code.size - 1] = std::byte{0xc3};
    EXPECT_EQ(*with->read_value<std::uint8_t>(Gva{code.end().value - 1}), 0xc3);
    const auto put = with->write(code.begin, std::array<std::byte, 1>{});
    ASSERT_FALSE(put);
    EXPECT_EQ(put.error().message,
              fmt::format("guest address {:#x} cannot be written (the code region)", code.begin.value));
    EXPECT_TRUE(with->dirty().empty());
  }
}

TEST(AddressSpace, SharedRegionsLieBehindEverythingWithGuardsBetween) {
  test::TinyProgram program;
  for (const std::uint64_t code : {std::uint64_t{0}, std::uint64_t{1}}) {
    LayoutSizes sizes{.heap = 9 * kPage, .stack = 4 * kPage, .call_area = kPage, .code = code};
    const auto without = GuestLayout::plan(program.plan, sizes, 40);
    const std::uint64_t mixed = x86::kLargePageSize + kPage;
    sizes.shared = {{.name = "a", .bytes = kPage, .access = SharedAccess::kReadWrite},
                    {.name = "b", .bytes = 2 * kPage},
                    {.name = "c", .bytes = mixed},
                    {.name = "d", .bytes = x86::kLargePageSize, .access = SharedAccess::kReadWrite},
                    {.name = "e", .bytes = kPage}};
    const auto with = GuestLayout::plan(program.plan, sizes, 40);
    ASSERT_TRUE(without && with);
    const GuestLayout& layout = **with;
    ASSERT_EQ(layout.pieces().size(), (*without)->pieces().size());
    for (std::size_t i = 0; i < layout.pieces().size(); ++i) {
      EXPECT_EQ(layout.pieces()[i].range, (*without)->pieces()[i].range);
    }
    EXPECT_EQ(layout.window_bytes(), (*without)->window_bytes());
    EXPECT_EQ(layout.code_gpa(), (*without)->code_gpa());
    EXPECT_EQ(layout.shared_specs(), sizes.shared);
    Gva last = layout.pieces().back().range.end();
    Gpa last_gpa = kWindowGpa + layout.window_skew() + layout.window_bytes();
    for (const GuestLayout::SharedRegion& region : layout.shared_regions()) {
      EXPECT_GE(region.range.begin, last + kPage) << region.name << ": a guard";
      EXPECT_GE(region.gpa, last_gpa);
      EXPECT_EQ(region.gpa.value % x86::kLargePageSize, region.range.begin.value % x86::kLargePageSize);
      if (region.large()) EXPECT_EQ(region.gpa.value % x86::kLargePageSize, 0U);
      EXPECT_EQ(layout.find(region.range.begin), nullptr) << "neither image nor window";
      EXPECT_FALSE(layout.is_protectable(region.range.begin, kPage));
      last = region.range.end();
      last_gpa = region.gpa + region.range.size;
    }
    EXPECT_EQ(layout.shared_regions()[1].range.begin, layout.shared_regions()[0].range.end() + kPage);

    // All bound use all of the tables, none bound the tables of a layout without regions.
    auto storage = GuestStorage::allocate(layout);
    ASSERT_TRUE(storage);
    const auto none = AddressSpace::build(*with, storage->regions);
    ASSERT_TRUE(none) << none.error().message;
    EXPECT_LT((*none)->tables_used() * kPage, layout.tables_bytes());
    for (const GuestLayout::SharedRegion& region : layout.shared_regions()) {
      EXPECT_FALSE((*none)->translate(region.range.begin));
      EXPECT_EQ((*none)->describe(region.range.begin), "the shared region " + region.name + ", without memory");
    }
    std::ranges::fill(storage->tables.bytes(), std::byte{0});
    SharedBindings bindings;
    for (const SharedRegionSpec& spec : sizes.shared) bindings.push_back(*SharedMemory::create(spec.bytes));
    storage->regions.shared = place_bindings(layout, bindings);
    const auto all = AddressSpace::build(*with, storage->regions);
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_EQ((*all)->tables_used() * kPage, layout.tables_bytes());
    for (const GuestLayout::SharedRegion& region : layout.shared_regions()) {
      for (std::uint64_t offset = 0; offset < region.range.size; offset += kPage) {
        const auto where = (*all)->translate(region.range.begin + offset);
        ASSERT_TRUE(where);
        EXPECT_EQ(where->physical, region.gpa.value + offset);
        EXPECT_EQ(where->access,
                  (x86::Access{.user = true, .write = region.access == SharedAccess::kReadWrite, .execute = false}));
        EXPECT_EQ(where->leaf_size,
                  offset < region.range.size / x86::kLargePageSize * x86::kLargePageSize ? x86::kLargePageSize : kPage);
      }
      EXPECT_FALSE((*all)->translate(region.range.end()));
      EXPECT_FALSE((*all)->translate(Gva{region.range.begin.value - 1}));
      EXPECT_EQ((*all)->describe(region.range.begin), "the shared region " + region.name);
    }
    ASSERT_TRUE((*all)->rebuild_tables({}));
    EXPECT_TRUE((*all)->translate(layout.shared_regions()[2].range.begin));
    // Bytes go to the memory and not to the window.
    const Gva a = layout.shared_regions()[0].range.begin;
    ASSERT_TRUE((*all)->write(a + 8, std::array{std::byte{5}}));
    EXPECT_EQ(bindings[0]->bytes()[8], std::byte{5});
    EXPECT_TRUE((*all)->dirty().empty());
    bindings[1]->bytes()[kPage] = std::byte{6};
    const Gva b = layout.shared_regions()[1].range.begin;
    EXPECT_EQ(*(*all)->read_value<std::uint8_t>(b + kPage), 6);
    EXPECT_FALSE((*all)->write(b, std::array{std::byte{5}}));
    EXPECT_FALSE((*all)->read_value<std::uint64_t>(a + (kPage - 4)));
    EXPECT_FALSE(AddressSpace::build(*without, storage->regions)) << "of another layout";
  }
}

TEST(AddressSpace, SharedRegionsHaveToFitIntoBothAddressSpaces) {
  test::TinyProgram program;
  LayoutSizes sizes{.heap = kPage};
  for (int i = 0; i < 40; ++i) sizes.shared.push_back({.name = fmt::format("r{}", i), .bytes = kMaxSharedBytes});
  EXPECT_TRUE(GuestLayout::plan(program.plan, sizes, 40));
  const auto refused = GuestLayout::plan(program.plan, sizes, 35);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
  EXPECT_THAT(refused.error().message, HasSubstr("40 shared regions up to"));
  EXPECT_THAT(refused.error().message, HasSubstr("the processor's 35-bit address space"));
}

TEST(AddressSpace, ACodeRegionHasToFitBehindTheImage) {
  test::TinyProgram program;
  const std::uint64_t most = kTablesGpa.value - (2 << 20);  // the image takes less than 2 MiB
  EXPECT_TRUE(GuestLayout::plan(program.plan, {.code = most}, 40));
  for (const std::uint64_t size : {most + 1, x86::kMaxVirtual, kTop, kTop - kPage + 1}) {
    const auto refused = GuestLayout::plan(program.plan, {.code = size}, 52);
    ASSERT_FALSE(refused) << size;
    EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
  }
}

TEST(AddressSpace, MayHaveNoHeapNoStackAndNoCallArea) {
  test::TinyProgram program;
  const auto space = program.build({});
  ASSERT_NE(space, nullptr);
  EXPECT_EQ(space->heap().size, 0U);
  EXPECT_FALSE(space->zero_heap(space->heap().begin, kPage));
  std::vector<std::byte> code(16);
  EXPECT_TRUE(space->read(Gva{0x400000}, code));
}

TEST(AddressSpace, RefusesMoreThanTheProcessorCanAddress) {
  test::TinyProgram program;
  const auto refused =
      GuestLayout::plan(program.plan, {.heap = std::uint64_t{60} << 30, .stack = kPage, .call_area = kPage}, 36);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
  EXPECT_THAT(refused.error().message, HasSubstr("36-bit address space"));
}

TEST(AddressSpace, RefusesMoreThanUserSpaceHolds) {
  test::TinyProgram program;
  for (const std::uint64_t size :
       {x86::kMaxVirtual, x86::kMaxVirtual + 1, kTop, kTop - kPage + 1, std::uint64_t{1} << 63}) {
    for (const LayoutSizes& sizes : {LayoutSizes{.heap = size}, LayoutSizes{.stack = size},
                                     LayoutSizes{.call_area = size}, LayoutSizes{.heap = size, .stack = size}}) {
      const auto refused = GuestLayout::plan(program.plan, sizes, 52);
      ASSERT_FALSE(refused) << size;
      EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
    }
  }
}

}  // namespace
}  // namespace warmfork
