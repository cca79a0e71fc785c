// Shared regions: memory that guests and the host share, each guest with the rights its hardware enforces. Every rule
// for a master, a `vm` fork and a `space` fork.
#include "machine/shared_region.hpp"

#include "fork/fork.hpp"
#include "fork/pool.hpp"
#include "fork/snapshot.hpp"
#include "fork/snapshot_file.hpp"
#include "machine/physical_map.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

namespace warmfork {
namespace {

using ::testing::HasSubstr;
using Shared = std::shared_ptr<SharedMemory>;

constexpr std::uint64_t kSmall = 3 * kPage;
constexpr std::uint64_t kLarge = x86::kLargePageSize + 2 * kPage;  // a 2 MiB page, and a tail of small ones
// The regions of every guest here.
enum : std::size_t { kOut, kIn, kBigOut, kBigIn, kNever, kRegions };

std::vector<SharedRegionSpec> specs() {
  return {{.name = "out", .bytes = kSmall, .access = SharedAccess::kReadWrite},
          {.name = "in", .bytes = kSmall, .access = SharedAccess::kReadOnly},
          {.name = "big-out", .bytes = kLarge, .access = SharedAccess::kReadWrite},
          {.name = "big-in", .bytes = kLarge, .access = SharedAccess::kReadOnly},
          {.name = "never", .bytes = kPage, .access = SharedAccess::kReadWrite}};
}

Shared memory_of(std::uint64_t bytes) {
  auto made = SharedMemory::create(bytes);
  EXPECT_TRUE(made) << made.error().message;
  return made ? *made : nullptr;
}

std::atomic_ref<std::uint64_t> word_of(const Shared& memory, std::uint64_t offset = 0) {
  return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(memory->bytes().subspan(offset).data()));
}

class SharedRegionTest : public test::MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    for (const std::uint64_t bytes : {kSmall, kSmall, kLarge, kLarge}) mine_.push_back(memory_of(bytes));
  }
  MachineConfig config() {
    MachineConfig config;
    config.memory_bytes = 512 << 10;
    config.stack_bytes = 64 << 10;
    config.shared_regions = specs();
    inputs_.push_back(std::make_unique<BufferIo>("some input"));
    config.io = inputs_.back().get();
    return config;
  }
  void make_master(const SharedBindings& shared) {
    MachineConfig with = config();
    with.shared = shared;
    master_ = make_ready("probe_shared_region", std::move(with));
    ASSERT_NE(master_, nullptr);
    auto taken = Snapshot::take(system(), *master_);
    ASSERT_TRUE(taken) << taken.error().message;
    snapshot_ = *taken;
  }
  std::unique_ptr<ForkSource> source_of(ForkKind kind, const SharedBindings& shared, std::size_t capacity = 4) {
    auto source = make_fork_source(system(), snapshot_, {.kind = kind, .shared = shared}, capacity);
    EXPECT_TRUE(source) << source.error().message;
    return source ? std::move(*source) : nullptr;
  }
  /// The master, a fork of each kind: all with the same memory.
  void make_family(const SharedBindings& shared) {
    make_master(shared);
    ASSERT_NE(snapshot_, nullptr);
    for (const ForkKind kind : kForkKinds) {
      sources_.push_back(source_of(kind, shared));
      ASSERT_NE(sources_.back(), nullptr);
      auto made = sources_.back()->make();
      ASSERT_TRUE(made) << made.error().message;
      auto cpu = sources_.back()->make_cpu();
      ASSERT_TRUE(cpu) << cpu.error().message;
      if (*cpu != nullptr) ASSERT_TRUE((*made)->bind(**cpu));
      cpus_.push_back(*cpu);
      forks_.push_back(std::move(*made));
    }
    family_ = {{"master", master_.get()}, {"vm fork", forks_[0].get()}, {"space fork", forks_[1].get()}};
  }
  std::unique_ptr<Fork> fork_of(std::size_t kind, const SharedBindings& shared) {
    auto made = sources_[kind]->make_with(shared);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) return nullptr;
    if (cpus_[kind] != nullptr) EXPECT_TRUE((*made)->bind(*cpus_[kind]));
    return std::move(*made);
  }

  /// A `space` fork on the family's vCPU; a fork as new if the last call has ended it.
  Result<std::uint64_t> call(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments) {
    if (&guest != master_.get()) {
      auto& fork = static_cast<Fork&>(guest);
      const bool of_family = fork.snapshot() == snapshot_ && !cpus_.empty();
      if (of_family && fork.options().kind == ForkKind::kSpace) EXPECT_TRUE(fork.bind(*cpus_[1]));
      if (!fork.ready()) EXPECT_TRUE(fork.reset());
    }
    const auto function = guest.find_vmcall(name);
    EXPECT_TRUE(function) << name;
    return guest.call(*function, std::vector<std::uint64_t>(arguments), {.timeout_ns = kTimeout});
  }
  std::uint64_t value(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments) {
    const auto result = call(guest, name, arguments);
    EXPECT_TRUE(result) << name << ": " << result.error().message;
    return result.value_or(~std::uint64_t{0});
  }
  /// The call ends the guest, with this in the report.
  void expect_fault(Guest& guest, const char* name, std::uint64_t address, const std::string& what,
                    const std::string& where) {
    const auto result = call(guest, name, {address, 0x1122334455667788});
    ASSERT_FALSE(result) << name << " at " << where << " was allowed";
    EXPECT_EQ(result.error().kind, ErrorKind::kGuestFault);
    EXPECT_THAT(result.error().message, HasSubstr(fmt::format("page fault: {} {:#x} ({})", what, address, where)));
  }
  static std::uint64_t at(const Guest& guest, std::size_t region) { return guest.shared_region(region)->begin.value; }

  // Inputs outlive the guests, sources the forks.
  std::vector<std::unique_ptr<BufferIo>> inputs_;
  SharedBindings mine_;  // nothing is ever bound to kNever
  std::unique_ptr<Machine> master_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::vector<std::unique_ptr<ForkSource>> sources_;
  std::vector<GuestCpu*> cpus_;
  std::vector<std::unique_ptr<Fork>> forks_;
  std::vector<std::pair<const char*, Guest*>> family_;
};

TEST_F(SharedRegionTest, HostAndGuestsSeeWhatTheOtherHasWritten) {
  make_family(mine_);
  ASSERT_EQ(family_.size(), 3U);
  std::uint64_t number = 1;
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    for (std::size_t i = 0; i < kNever; ++i) {
      const auto region = guest->shared_region(specs()[i].name);
      ASSERT_TRUE(region) << region.error().message;
      EXPECT_EQ(region->begin.value, at(*guest, i));
      EXPECT_EQ(region->memory, mine_[i]);
      for (const std::uint64_t offset : {std::uint64_t{0}, kPage - 8, region->bytes / 2, region->bytes - 8}) {
        word_of(mine_[i], offset) = ++number;
        EXPECT_EQ(value(*guest, "peek", {region->begin.value + offset}), number);
        if (region->access == SharedAccess::kReadOnly) continue;
        EXPECT_EQ(value(*guest, "poke", {region->begin.value + offset, ++number}), 1U);
        EXPECT_EQ(word_of(mine_[i], offset), number);
      }
    }
  }
  EXPECT_FALSE(master_->shared_region(kRegions));
  EXPECT_FALSE(master_->shared_region("nobody"));
}

TEST_F(SharedRegionTest, AGuestThatRunsSeesWhatIsWrittenMeanwhile) {
  make_family(mine_);
  ASSERT_EQ(family_.size(), 3U);
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    const std::uint64_t old = word_of(mine_[kIn]).load();
    std::thread writer([&] { word_of(mine_[kIn]).fetch_add(1); });
    EXPECT_EQ(value(*guest, "await", {at(*guest, kIn), old}), old + 1);
    writer.join();
  }
}

// What one writes another one reads, and nobody else: each kind of writer with each kind of reader.
TEST_F(SharedRegionTest, WhatOneGuestWritesAnotherReadsWhoCannotWriteIt) {
  make_family({});
  ASSERT_EQ(family_.size(), 3U);
  std::uint64_t number = 1000;
  for (std::size_t writer_kind = 0; writer_kind < 2; ++writer_kind) {
    for (std::size_t reader_kind = 0; reader_kind < 2; ++reader_kind) {
      SCOPED_TRACE(::testing::Message() << writer_kind << " to " << reader_kind);
      const Shared link = memory_of(kLarge);
      const auto writer = fork_of(writer_kind, {nullptr, nullptr, link});
      const auto reader = fork_of(reader_kind, {nullptr, nullptr, nullptr, link});
      ASSERT_TRUE(writer && reader);
      for (const std::uint64_t offset : {std::uint64_t{0}, x86::kLargePageSize, kLarge - 8}) {
        EXPECT_EQ(value(*writer, "poke", {at(*writer, kBigOut) + offset, ++number}), 1U);
        EXPECT_EQ(value(*reader, "peek", {at(*reader, kBigIn) + offset}), number);
        EXPECT_EQ(value(*writer, "peek", {at(*writer, kBigOut) + offset}), number);
        expect_fault(*reader, "poke", at(*reader, kBigIn) + offset, "write to", "the shared region big-in");
        EXPECT_EQ(word_of(link, offset), number);
      }
      // The same memory is not where it is not bound.
      expect_fault(*writer, "peek", at(*writer, kBigIn), "read of", "the shared region big-in, without memory");
      expect_fault(*reader, "peek", at(*reader, kBigOut), "read of", "the shared region big-out, without memory");
    }
  }
  // One guest may have it in both ways, and the read-only one stays that.
  const Shared both = memory_of(kSmall);
  for (std::size_t kind = 0; kind < 2; ++kind) {
    const auto fork = fork_of(kind, {both, both});
    ASSERT_NE(fork, nullptr);
    EXPECT_EQ(value(*fork, "poke", {at(*fork, kOut), ++number}), 1U);
    EXPECT_EQ(value(*fork, "peek", {at(*fork, kIn)}), number);
    expect_fault(*fork, "poke", at(*fork, kIn), "write to", "the shared region in");
  }
}

TEST_F(SharedRegionTest, WhatIsForbiddenEndsTheGuestWithAReportThatNamesIt) {
  // A master that has ended stays so: it gets one case at a time.
  struct Case {
    const char* call;
    std::size_t region;
    std::uint64_t offset;
    const char* what;
    const char* where;
  };
  const std::uint64_t before = std::uint64_t{0} - 8;
  const std::vector<Case> cases{
      {"poke", kIn, 0, "write to", "the shared region in"},
      {"poke", kIn, kSmall - 8, "write to", "the shared region in"},
      {"poke", kBigIn, kPage, "write to", "the shared region big-in"},
      {"poke", kBigIn, kLarge - 8, "write to", "the shared region big-in"},
      {"run", kOut, 0, "execution of", "the shared region out"},
      {"run", kIn, 0, "execution of", "the shared region in"},
      {"run", kBigOut, 0, "execution of", "the shared region big-out"},
      {"run", kBigIn, x86::kLargePageSize, "execution of", "the shared region big-in"},
      {"peek", kNever, 0, "read of", "the shared region never, without memory"},
      {"poke", kNever, kPage - 8, "write to", "the shared region never, without memory"},
      {"peek", kOut, kSmall, "read of", "the guard page behind the shared region out"},
      {"poke", kOut, before, "write to", "the guard page before the shared region out"},
      {"poke", kIn, kSmall, "write to", "the guard page behind the shared region in"},
      {"peek", kBigOut, before, "read of", "the guard page before the shared region big-out"},
      {"poke", kBigOut, kLarge, "write to", "the guard page behind the shared region big-out"},
      {"poke", kNever, kPage, "write to", "the guard page behind the shared region never"}};
  make_family(mine_);
  ASSERT_EQ(family_.size(), 3U);
  for (const Shared& memory : mine_) std::ranges::fill(memory->bytes(), std::byte{0xc3});  // ret
  const auto unchanged = [&] {
    return std::ranges::all_of(mine_, [](const Shared& memory) {
      return std::ranges::all_of(memory->bytes(), [](std::byte byte) { return byte == std::byte{0xc3}; });
    });
  };
  for (const auto& fork : forks_) {
    SCOPED_TRACE(name_of(fork->options().kind));
    for (const Case& c : cases) expect_fault(*fork, c.call, at(*fork, c.region) + c.offset, c.what, c.where);
  }
  EXPECT_TRUE(unchanged());
  for (const Case& c : cases) {
    if (std::string_view(c.call) == "peek") continue;
    MachineConfig with = config();
    with.shared = mine_;
    master_ = make_ready("probe_shared_region", std::move(with));
    ASSERT_NE(master_, nullptr);
    expect_fault(*master_, c.call, at(*master_, c.region) + c.offset, c.what, c.where);
  }
  EXPECT_TRUE(unchanged());
}

// A `space` fork shares its VM with one that has memory it must not see. It touches every page of all regions and far
// around them, and the host finds what its page tables lead to.
TEST_F(SharedRegionTest, ASpaceForkDoesNotReachWhatOnlyAnotherHas) {
  make_family({});
  ASSERT_EQ(family_.size(), 3U);
  constexpr std::uint64_t kSecret = 0x5ec2'e75e'c2e7'5ec3;
  const Shared secret = memory_of(kSmall);
  const Shared large = memory_of(kLarge);
  auto keeper = fork_of(1, {secret, nullptr, large});
  const auto other = fork_of(1, {mine_[0]});
  ASSERT_TRUE(keeper && other);
  for (std::uint64_t offset = 0; offset < kSmall; offset += 8) word_of(secret, offset) = kSecret;
  for (std::uint64_t offset = 0; offset < kLarge; offset += kPage) word_of(large, offset) = kSecret;
  EXPECT_EQ(value(*keeper, "peek", {at(*keeper, kOut)}), kSecret);
  EXPECT_EQ(value(*keeper, "peek", {at(*keeper, kBigOut)}), kSecret);

  const GuestLayout& layout = other->memory().layout();
  const std::uint64_t first = at(*other, kOut) - 16 * kPage;
  const std::uint64_t last = layout.shared_regions().back().range.end().value + 16 * kPage;
  std::size_t reached = 0;
  for (std::uint64_t address = first; address < last; address += kPage) {
    const bool own = layout.shared_regions()[kOut].range.contains(Gva{address});
    const auto where = other->memory().translate(Gva{address});
    EXPECT_EQ(where.has_value(), own || layout.exception_stack().contains(Gva{address}) ||
                                     layout.call_ring().contains(Gva{address}) ||
                                     layout.call_area().contains(Gva{address}))
        << std::hex << address;
    // By the guest itself: all pages of small regions, and every 64th of the large ones, whose pages are alike.
    const bool small = address < at(*other, kBigOut) || address >= at(*other, kNever) - kPage;
    if (!small && address / kPage % 64 != 0) continue;
    const auto seen = call(*other, "peek", {address});
    EXPECT_EQ(seen.has_value(), where && where->access.user) << std::hex << address;
    if (seen) {
      ++reached;
      EXPECT_NE(*seen, kSecret) << std::hex << address;
    }
    if (own || (where && where->access.user)) continue;
    EXPECT_FALSE(call(*other, "poke", {address, 1})) << std::hex << address;
    EXPECT_EQ(static_cast<std::int64_t>(value(*other, "let_host_write", {address, 8})), -1) << std::hex << address;
    EXPECT_EQ(static_cast<std::int64_t>(value(*other, "let_host_read", {address, 8})), -1) << std::hex << address;
  }
  EXPECT_GE(reached, kSmall / kPage);
  // The guest-physical places of the secrets are no addresses of the guest's either.
  for (const BoundRegion& bound : keeper->memory().regions().shared) {
    if (bound.memory == nullptr) continue;
    EXPECT_FALSE(call(*other, "peek", {bound.gpa.value}));
  }
  EXPECT_TRUE(std::ranges::all_of(secret->bytes(), [](std::byte byte) { return byte != std::byte{0}; }));

  // The next fork at the keeper's place, on the same vCPU, has not got what the keeper had, though another fork still
  // does and its place in the VM stays.
  const auto witness = fork_of(1, {nullptr, secret});
  ASSERT_NE(witness, nullptr);
  const std::uint64_t tables = keeper->memory().root();
  keeper.reset();
  const auto heir = fork_of(1, {nullptr, mine_[1]});
  ASSERT_NE(heir, nullptr);
  EXPECT_EQ(heir->memory().root(), tables) << "it has the keeper's page tables";
  for (const std::size_t region : {std::size_t{kOut}, std::size_t{kBigOut}}) {
    EXPECT_FALSE(call(*heir, "peek", {at(*heir, region)}));
    EXPECT_FALSE(call(*heir, "peek", {at(*heir, region) + kPage}));
  }
  EXPECT_EQ(value(*heir, "peek", {at(*heir, kIn)}), 0U);
  EXPECT_EQ(value(*witness, "peek", {at(*witness, kIn)}), kSecret);
}

TEST_F(SharedRegionTest, AResetRestoresTheWindowAndNotWhatIsShared) {
  make_family(mine_);
  ASSERT_EQ(family_.size(), 3U);
  for (const auto& fork : forks_) {
    SCOPED_TRACE(name_of(fork->options().kind));
    word_of(mine_[kOut]) = 0;
    for (std::uint64_t life = 1; life <= 3; ++life) {
      EXPECT_EQ(value(*fork, "count", {at(*fork, kOut)}), 1U) << "its own word is as it was";
      EXPECT_EQ(value(*fork, "count", {at(*fork, kOut)}), 2U);
      EXPECT_EQ(word_of(mine_[kOut]), 2 * life);
      // With page tables that have to be built again, now and then.
      if (life == 2) {
        const std::uint64_t stack = fork->memory().stack().begin.value;
        EXPECT_EQ(value(*fork, "system_call", {SYS_mprotect, stack, kPage, PROT_READ}), 0U);
        EXPECT_TRUE(fork->memory().tables_changed());
      }
      ASSERT_TRUE(fork->reset());
      EXPECT_EQ(word_of(mine_[kOut]), 2 * life);
    }
    const auto layer = Snapshot::take(system(), *fork);
    ASSERT_TRUE(layer) << layer.error().message;
    const auto source = make_fork_source(system(), *layer, {.kind = ForkKind::kVm}, 1);
    ASSERT_TRUE(source) << source.error().message;
    const auto bare = (*source)->make();
    ASSERT_TRUE(bare) << bare.error().message;
    expect_fault(**bare, "peek", at(**bare, kOut), "read of", "the shared region out, without memory");
  }
}

TEST_F(SharedRegionTest, SystemCallsCopyWithTheGuestsOwnRights) {
  make_family(mine_);
  ASSERT_EQ(family_.size(), 3U);
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    for (const Shared& memory : mine_) std::ranges::fill(memory->bytes(), std::byte{0x2e});
    for (const auto [out, in] : {std::pair{kOut, kIn}, std::pair{kBigOut, kBigIn}}) {
      const std::uint64_t size = guest->shared_region(out)->bytes;
      EXPECT_EQ(static_cast<std::int64_t>(value(*guest, "let_host_read", {at(*guest, in), size})),
                static_cast<std::int64_t>(size));
      EXPECT_EQ(static_cast<std::int64_t>(value(*guest, "let_host_write", {at(*guest, in), 8})), -1);
      EXPECT_EQ(word_of(mine_[in]), 0x2e2e'2e2e'2e2e'2e2eU);
      EXPECT_EQ(value(*guest, "let_host_write", {at(*guest, out) + kPage - 8, 16}), 16U) << "over a page's end";
      EXPECT_NE(word_of(mine_[out], kPage - 8), 0x2e2e'2e2e'2e2e'2e2eU);
      EXPECT_NE(word_of(mine_[out], kPage), 0x2e2e'2e2e'2e2e'2e2eU);
      EXPECT_EQ(word_of(mine_[out], kPage + 8), 0x2e2e'2e2e'2e2e'2e2eU);
      // Not past an end.
      EXPECT_EQ(static_cast<std::int64_t>(value(*guest, "let_host_read", {at(*guest, out) + size - 8, 16})), -1);
      for (const int access : {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC}) {
        EXPECT_NE(
            value(*guest, "system_call", {SYS_mprotect, at(*guest, in), kPage, static_cast<std::uint64_t>(access)}),
            0U);
      }
      EXPECT_NE(value(*guest, "system_call", {SYS_munmap, at(*guest, in), kPage, 0}), 0U);
    }
    EXPECT_EQ(static_cast<std::int64_t>(value(*guest, "let_host_read", {at(*guest, kNever), 8})), -1);
    EXPECT_TRUE(guest->memory().overrides().empty());
  }
  // The host's own way in is the same one.
  const Gva in = forks_[1]->shared_region(kIn)->begin;
  const auto refused = forks_[1]->memory().write(in, std::array<std::byte, 1>{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("cannot be written (the shared region in)"));
  const auto missing = forks_[1]->memory().read_value<char>(forks_[1]->shared_region(kNever)->begin);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("cannot be read (the shared region never, without memory)"));
  // What the host writes into shared memory is not the window's.
  auto& dirty = forks_[1]->memory().dirty();
  const std::size_t before = dirty.count();
  ASSERT_TRUE(forks_[1]->memory().write(forks_[1]->shared_region(kBigOut)->begin, std::array<std::byte, 64>{}));
  EXPECT_EQ(dirty.count(), before);
}

TEST_F(SharedRegionTest, AForkHoldsItsMemoryAsLongAsItLives) {
  make_family({});
  ASSERT_EQ(family_.size(), 3U);
  for (std::size_t kind = 0; kind < 2; ++kind) {
    SCOPED_TRACE(kind);
    Shared memory = memory_of(kSmall);
    const std::weak_ptr<SharedMemory> watch = memory;
    auto one = fork_of(kind, {memory});
    auto two = fork_of(kind, {nullptr, memory});
    ASSERT_TRUE(one && two);
    word_of(memory) = 7;
    memory.reset();
    EXPECT_EQ(value(*one, "peek", {at(*one, kOut)}), 7U);
    one.reset();
    EXPECT_FALSE(watch.expired());
    EXPECT_EQ(value(*two, "peek", {at(*two, kIn)}), 7U);
    EXPECT_TRUE(two->reset());
    EXPECT_EQ(value(*two, "peek", {at(*two, kIn)}), 7U) << "for all of its lives";
    two.reset();
    EXPECT_TRUE(watch.expired());
  }
}

// Slots and places are given back: as many forks as one likes, one after the other and at once, each with memory of its
// own.
TEST_F(SharedRegionTest, SlotsAndPlacesAreUsedAgain) {
  make_family({});
  ASSERT_EQ(family_.size(), 3U);
  std::vector<std::weak_ptr<SharedMemory>> watched;
  std::uint64_t lowest = ~std::uint64_t{0};
  std::uint64_t highest = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Shared own = memory_of(kSmall);
    watched.push_back(own);
    const auto fork = fork_of(1, {own, mine_[kIn]});
    const auto neighbour = fork_of(1, {mine_[kOut], own});
    ASSERT_TRUE(fork && neighbour);
    for (const BoundRegion& bound : fork->memory().regions().shared) {
      if (bound.memory == nullptr) continue;
      lowest = std::min(lowest, bound.gpa.value);
      highest = std::max(highest, bound.gpa.value);
    }
    if (i % 20 != 0) continue;
    EXPECT_EQ(value(*fork, "poke", {at(*fork, kOut), i + 1}), 1U);
    EXPECT_EQ(value(*neighbour, "peek", {at(*neighbour, kIn)}), i + 1);
  }
  EXPECT_TRUE(std::ranges::all_of(watched, [](const auto& memory) { return memory.expired(); }));
  EXPECT_LE(highest - lowest, 4 * x86::kLargePageSize) << "four memories are the most that were bound at once";
  for (int i = 0; i < 5; ++i) {
    const Shared own = memory_of(kSmall);
    watched.push_back(own);
    const auto fork = fork_of(0, {own});
    ASSERT_NE(fork, nullptr);
    EXPECT_EQ(value(*fork, "poke", {at(*fork, kOut), 5}), 1U);
    EXPECT_EQ(word_of(own), 5U);
  }
  EXPECT_TRUE(watched.back().expired());
}

TEST_F(SharedRegionTest, EveryForkOfAPoolHasThePoolsMemoryForLife) {
  make_master({});
  ASSERT_NE(snapshot_, nullptr);
  for (const ForkKind kind : kForkKinds) {
    PoolOptions options{.fork = {.kind = kind, .shared = {mine_[kOut]}}, .ready = 2, .most = 2};
    auto pool = Pool::create(system(), snapshot_, options);
    ASSERT_TRUE(pool) << pool.error().message;
    word_of(mine_[kOut]) = 0;
    const auto count = snapshot_->program()->find_vmcall("count");
    const auto poke = snapshot_->program()->find_vmcall("poke");
    ASSERT_TRUE(count && poke);
    for (std::uint64_t i = 1; i <= 6; ++i) {
      const auto lease = (*pool)->acquire();
      ASSERT_TRUE(lease) << lease.error().message;
      const std::uint64_t region = at(lease->fork(), kOut);
      EXPECT_EQ(lease->call(*count, std::array{region}), 1U);
      EXPECT_EQ(word_of(mine_[kOut]), i);
      // Also behind one that has ended.
      if (i == 3) EXPECT_FALSE(lease->call(*poke, std::array{at(lease->fork(), kNever), std::uint64_t{1}}));
    }
  }
}

TEST_F(SharedRegionTest, AFileHasTheRegionsAndNothingOfWhatIsBehindThem) {
  make_master(mine_);
  ASSERT_NE(snapshot_, nullptr);
  std::string directory = ::testing::TempDir() + "/warmfork-shared-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string file = directory + "/base";
  ASSERT_TRUE(save_snapshot(*snapshot_, file));
  const auto info = inspect_snapshot(file);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->shared_regions, specs());
  const auto loaded = load_snapshot(system(), file);
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto regions = snapshot_->layout()->shared_regions();
  for (const ForkKind kind : kForkKinds) {
    const auto source = make_fork_source(system(), *loaded, {.kind = kind}, 1);
    ASSERT_TRUE(source) << source.error().message;
    const auto cpu = (*source)->make_cpu();
    const auto fork = (*source)->make_with({nullptr, mine_[kIn]});
    ASSERT_TRUE(cpu && fork);
    if (*cpu != nullptr) ASSERT_TRUE((*fork)->bind(**cpu));
    EXPECT_EQ(at(**fork, kIn), regions[kIn].range.begin.value);
    word_of(mine_[kIn]) = 99;
    EXPECT_EQ(value(**fork, "peek", {at(**fork, kIn)}), 99U);
    expect_fault(**fork, "poke", at(**fork, kIn), "write to", "the shared region in");
    expect_fault(**fork, "peek", at(**fork, kOut), "read of", "the shared region out, without memory");
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
}

TEST_F(SharedRegionTest, WhatCannotBeIsRefusedByName) {
  const auto elf = read_file(test::test_data("probe_shared_region.elf"), std::size_t{1} << 28);
  ASSERT_TRUE(elf);
  const auto refused = [&](std::vector<SharedRegionSpec> regions, const SharedBindings& shared, ErrorKind kind,
                           const std::string& why) {
    MachineConfig with;
    with.shared_regions = std::move(regions);
    with.shared = shared;
    const auto made = Machine::create(system(), *elf, "bad", std::move(with));
    ASSERT_FALSE(made) << why;
    EXPECT_EQ(made.error().kind, kind) << made.error().message;
    EXPECT_THAT(made.error().message, HasSubstr(why));
  };
  using enum ErrorKind;
  refused({{.name = "none", .bytes = 0}}, {}, kUsage, "shared region none: 0 bytes are not whole pages");
  refused({{.name = "odd", .bytes = kPage + 1}}, {}, kUsage, "shared region odd: 4097 bytes are not whole pages");
  refused({{.name = "huge", .bytes = kMaxSharedBytes + kPage}}, {}, kLimit,
          "shared region huge: 1073745920 bytes, at most 1073741824");
  refused({{.name = "", .bytes = kPage}}, {}, kUsage, "shared region 0: a name is");
  refused({{.name = "a b", .bytes = kPage}}, {}, kUsage, "shared region 0: a name is");
  refused({{.name = "a", .bytes = kPage}, {.name = "a", .bytes = kPage}}, {}, kUsage,
          "shared region 1: there is another one named a");
  std::vector<SharedRegionSpec> many;
  for (std::size_t i = 0; i <= kMaxSharedRegions; ++i) many.push_back({fmt::format("r{}", i), kPage});
  refused(many, {}, kLimit, "65 shared regions, at most 64");
  many.pop_back();
  MachineConfig most;
  most.shared_regions = many;
  for (std::size_t i = 0; i < many.size(); ++i) most.shared.push_back(memory_of(kPage));
  EXPECT_TRUE(Machine::create(system(), *elf, "most", std::move(most)));

  const std::vector<SharedRegionSpec> one{{.name = "one", .bytes = kPage, .access = SharedAccess::kReadWrite}};
  refused(one, {memory_of(kSmall)}, kUsage, "shared region one: memory of 12288 bytes, it has 4096");
  refused(one, {memory_of(kPage), nullptr}, kUsage, "2 shared memories for a guest with 1 shared regions");
  refused({}, {memory_of(kPage)}, kUsage, "1 shared memories for a guest with 0 shared regions");
  const Shared writable = memory_of(kPage);
  const auto reading = SharedMemory::attach(UniqueFd(::dup(writable->fd())), kPage, {.writable = false});
  ASSERT_TRUE(reading) << reading.error().message;
  refused(one, {*reading}, kUsage, "shared region one: it is read-write, the memory was attached for reading only");

  make_family({});
  ASSERT_EQ(sources_.size(), 2U);
  for (const auto& source : sources_) {
    const auto wrong = source->make_with({memory_of(kPage)});
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().message, HasSubstr("shared region out: memory of 4096 bytes, it has 12288"));
    EXPECT_TRUE(source->make()) << "nothing of it is left";
  }
  for (const ForkKind kind : kForkKinds) {
    const auto source = make_fork_source(system(), snapshot_, {.kind = kind, .shared = {memory_of(kPage)}}, 1);
    ASSERT_FALSE(source);
    EXPECT_EQ(source.error().kind, kUsage);
  }
}

// Memory this process can only read is read by guests, through a mapping of the host's that nobody can write.
TEST_F(SharedRegionTest, MemoryForReadingOnlyIsReadByGuests) {
  const auto reading = SharedMemory::attach(UniqueFd(::dup(mine_[kIn]->fd())), kSmall, {.writable = false});
  ASSERT_TRUE(reading) << reading.error().message;
  make_family({nullptr, *reading});
  ASSERT_EQ(family_.size(), 3U);
  word_of(mine_[kIn]) = 31;
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    EXPECT_EQ(value(*guest, "peek", {at(*guest, kIn)}), 31U);
    EXPECT_EQ(static_cast<std::int64_t>(value(*guest, "let_host_write", {at(*guest, kIn), 8})), -1);
    expect_fault(*guest, "poke", at(*guest, kIn), "write to", "the shared region in");
  }
  EXPECT_EQ(word_of(mine_[kIn]), 31U);
}

}  // namespace
}  // namespace warmfork
