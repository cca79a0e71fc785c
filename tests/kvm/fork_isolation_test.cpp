// Two `space` forks share a VM; nothing else. One keeps a secret, the other is hostile.
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "machine/physical_map.hpp"
#include "machine_test.hpp"
#include "scribble.hpp"

#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <set>
#include <vector>

namespace warmfork::test {
namespace {

constexpr std::uint64_t kSecret = 0x5ec2'e75e'c2e7'5ec3;

class ForkIsolation : public MachineTest {
 protected:
  void open(const char* guest, std::size_t cpus = 1) {
    MachineConfig config;
    config.memory_bytes = 512 << 10;
    config.stack_bytes = 64 << 10;
    config.code_bytes = x86::kLargePageSize;  // shared, as the image is
    config.process.seed = 1;
    master_ = make_ready(guest, std::move(config));
    ASSERT_NE(master_, nullptr);
    auto snapshot = Snapshot::take(system(), *master_);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    snapshot_ = *snapshot;
    auto source = make_fork_source(system(), snapshot_, {.kind = ForkKind::kSpace, .seed = 1}, 4);
    ASSERT_TRUE(source) << source.error().message;
    source_ = std::move(*source);
    for (std::size_t i = 0; i < cpus; ++i) {
      const auto cpu = source_->make_cpu();
      ASSERT_TRUE(cpu) << cpu.error().message;
      cpus_.push_back(*cpu);
    }
  }
  std::unique_ptr<Fork> fork(std::size_t cpu = 0) {
    auto made = source_->make();
    EXPECT_TRUE(made) << made.error().message;
    if (!made) return nullptr;
    EXPECT_TRUE((*made)->bind(*cpus_[cpu]));
    return std::move(*made);
  }
  Result<std::uint64_t> call(Fork& fork, const char* name, std::vector<std::uint64_t> arguments = {},
                             std::size_t cpu = 0) {
    EXPECT_TRUE(fork.bind(*cpus_[cpu]));
    if (!fork.ready()) EXPECT_TRUE(fork.reset());
    const auto function = fork.find_vmcall(name);
    EXPECT_TRUE(function) << name;
    return fork.call(*function, arguments, {.timeout_ns = kTimeout});
  }

  std::unique_ptr<Machine> master_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::unique_ptr<ForkSource> source_;
  std::vector<GuestCpu*> cpus_;
};

struct Leaf {
  std::uint64_t address;
  std::uint64_t physical;
  std::uint64_t size;
  bool user;
  bool write;
};

// Everything a fork's page tables lead to, entry by entry; `own` collects the tables themselves.
void walk(const Fork& fork, std::uint64_t table, unsigned level, std::uint64_t address, std::vector<Leaf>& leaves,
          std::set<std::uint64_t>& own) {
  const GuestRegions& regions = fork.memory().regions();
  ASSERT_GE(table, regions.tables_gpa.value);
  ASSERT_LE(table + kPage, regions.tables_gpa.value + regions.tables.size()) << "a table that is not its own";
  own.insert(table);
  for (std::uint64_t i = 0; i < 512; ++i) {
    std::uint64_t entry = 0;
    std::memcpy(&entry, &regions.tables[table - regions.tables_gpa.value + i * 8], 8);
    if ((entry & 1) == 0) continue;
    const std::uint64_t target = entry & 0x000f'ffff'ffff'f000;
    const unsigned shift = 12 + 9 * level;
    const std::uint64_t at = address | i << shift;
    if (level == 0 || (entry & 0x80) != 0) {
      leaves.push_back({at, target & ~((std::uint64_t{1} << shift) - 1), std::uint64_t{1} << shift, (entry & 4) != 0,
                        (entry & 2) != 0});
    } else {
      walk(fork, target, level - 1, at, leaves, own);
    }
  }
}

// The whole 48-bit space, by its tables: no address of one fork leads to memory or tables of another, none to any page
// table, and none writable to what both share.
TEST_F(ForkIsolation, NoAddressLeadsToAnotherForksMemory) {
  open("probe_isolation");
  const auto a = fork();
  const auto b = fork();
  const auto c = fork();
  ASSERT_TRUE(a && b && c);
  std::set<std::uint64_t> all_tables;
  std::set<std::uint64_t> all_pages;
  std::size_t tables = 0;
  std::size_t pages = 0;
  for (const Fork* one : {a.get(), b.get(), c.get()}) {
    const GuestRegions& regions = one->memory().regions();
    std::vector<Leaf> leaves;
    std::set<std::uint64_t> own;
    walk(*one, one->memory().root(), 3, 0, leaves, own);
    for (const Leaf& leaf : leaves) {
      SCOPED_TRACE(fmt::format("{:#x} -> {:#x}", leaf.address, leaf.physical));
      const auto within = [&](Gpa begin, std::uint64_t size) {
        return leaf.physical >= begin.value && leaf.physical + leaf.size <= begin.value + size;
      };
      const bool image =
          within(kImageGpa, regions.image.size()) || within(one->memory().layout().code_gpa(), regions.code.size());
      const bool window = leaf.physical >= regions.window_gpa.value &&
                          leaf.physical + leaf.size <= regions.window_gpa.value + regions.window.size();
      EXPECT_TRUE(image || window);
      EXPECT_FALSE(image && leaf.write);
      if (window) {
        all_pages.insert(leaf.physical);
        ++pages;
      }
    }
    all_tables.insert(own.begin(), own.end());
    tables += own.size();
  }
  EXPECT_EQ(all_tables.size(), tables) << "two forks share a table";
  EXPECT_EQ(all_pages.size(), pages) << "two forks share a page of a window";
}

// The guest tries: around all it has, at guest-physical and host addresses taken for virtual ones, in the kernel's
// half.
TEST_F(ForkIsolation, TheHostileForkNeverFindsTheSecret) {
  open("probe_isolation");
  const auto keeper = fork();
  const auto hostile = fork();
  ASSERT_TRUE(keeper && hostile);
  ASSERT_TRUE(call(*keeper, "keep", {kSecret}));
  const std::vector<std::byte> before(keeper->memory().window().begin(), keeper->memory().window().end());
  ASSERT_NE(std::ranges::search(before, std::as_bytes(std::span(&kSecret, 1))).begin(), before.end());

  // All it can read.
  for (const GuestLayout::Piece& piece : snapshot_->layout()->pieces()) {
    if (!piece.access.user) continue;
    const auto found = call(*hostile, "search", {piece.range.begin.value, piece.range.size, kSecret});
    ASSERT_TRUE(found) << piece.what << ": " << found.error().message;
    EXPECT_EQ(*found, 0U) << piece.what;
  }

  std::set<std::uint64_t> places;
  for (const Fork* one : {keeper.get(), hostile.get()}) {
    const GuestRegions& regions = one->memory().regions();
    const auto host_window = reinterpret_cast<std::uint64_t>(regions.window.data());
    const auto host_tables = reinterpret_cast<std::uint64_t>(regions.tables.data());
    for (const std::uint64_t base : {regions.window_gpa.value, regions.tables_gpa.value, kImageGpa.value, host_window,
                                     host_tables, one->memory().root()}) {
      for (std::uint64_t page = 0; page < 4; ++page) places.insert(base + page * kPage);
    }
  }
  for (const GuestLayout::Piece& piece : snapshot_->layout()->pieces()) {
    places.insert(piece.range.begin.value - kPage);
    places.insert(piece.range.begin.value);
    places.insert(piece.range.end().value);
    // Where the neighbour would be if windows followed each other in virtual addresses as well.
    places.insert(piece.range.begin.value + snapshot_->layout()->window_bytes());
  }
  for (unsigned slot = 0; slot < 512; slot += 7) {  // under every seventh entry of the root; the upper half extended
    const std::uint64_t address = std::uint64_t{slot} << 39;
    places.insert(slot < 256 ? address : address | 0xffff'0000'0000'0000);
  }
  for (const std::uint64_t address :
       std::initializer_list<std::uint64_t>{0xffff'8000'0000'0000, 0xffff'ffff'8000'0000, 0xffff'ffff'ff60'0000,
                                            0x0000'7fff'ffff'f000, 0x8000'0000'0000'0000}) {
    places.insert(address);
  }
  std::size_t refused = 0;
  for (const std::uint64_t address : places) {
    SCOPED_TRACE(fmt::format("{:#x}", address));
    const auto read = call(*hostile, "peek", {address});
    if (read) {
      EXPECT_NE(*read, kSecret);
    } else {
      ++refused;
    }
    const auto seen = static_cast<std::int64_t>(call(*hostile, "let_host_read", {address}).value_or(0));
    EXPECT_EQ(seen, read ? 8 : -1) << "the host reads for the guest what the guest may read itself";
    (void)call(*hostile, "let_host_write", {address});
    (void)call(*hostile, "poke", {address, kSecret + 2});
  }
  EXPECT_GT(refused, 80U);
  EXPECT_EQ(io().output().find(std::string(reinterpret_cast<const char*>(&kSecret), 8)), std::string::npos);

  // Segments of the descriptor tables, whichever are in force: no base reaches where paging does not.
  const std::uint64_t own = snapshot_->layout()->heap().begin.value;
  for (std::uint64_t selector = 0; selector < 32 * 8; selector += 4) {
    for (const std::uint64_t address : {own, keeper->memory().regions().window_gpa.value}) {
      const auto read = call(*hostile, "peek_through", {selector | 3, address});
      if (read) EXPECT_NE(*read, kSecret) << "selector " << selector;
    }
  }
  EXPECT_EQ(std::memcmp(before.data(), keeper->memory().window().data(), before.size()), 0)
      << "it has written into the other fork";
}

// What one fork leaves in the registers of a vCPU is not there for the next, be that new or in the middle of its life.
TEST_F(ForkIsolation, RegistersOfOneForkAreNotSeenByTheNext) {
  open("probe_scribble", 2);
  const auto keeper = fork();
  const auto fresh = fork(1);
  ASSERT_TRUE(keeper && fresh);
  const std::uint64_t area = fresh->memory().call_area().begin.value;
  const auto report = [&](Fork& one, std::size_t cpu) {
    EXPECT_TRUE(call(one, "report_state", {area, 0, area, 0}, cpu));
    const auto read = one.memory().read_value<scribble::StateReport>(Gva{area});
    EXPECT_TRUE(read);
    scribble::StateReport found = read.value_or(scribble::StateReport{});
    found.xinuse = 0;
    std::memset(&found.xsave[512], 0, 8);            // XSTATE_BV
    std::memset(&found.x87_environment[12], 0, 16);  // QEMU never resets these
    found.below_stack = 0;                           // memory, its own
    return found;
  };
  const scribble::StateReport clean = report(*fresh, 1);  // where nothing else has run
  const auto living = fork(0);
  ASSERT_NE(living, nullptr);
  for (std::uint64_t seed = 1; seed <= scaled(200); ++seed) {
    SCOPED_TRACE(seed);
    const auto scribbled = call(*keeper, "scribble_registers", {seed, seed % 2 == 0 ? SCRIBBLE_PENDING : 0U}, 0);
    ASSERT_TRUE(scribbled) << scribbled.error().message;
    if (seed % 5 == 0)
      (void)call(*keeper, "crash", {seed / 5 % static_cast<std::uint64_t>(scribble::Crash::kInfiniteLoop)}, 0);
    const scribble::StateReport seen = report(*living, 0);
    // The first entry of a life and of a turn on the vCPU is the pristine one: RAX, RDX, R11 as there.
    EXPECT_EQ(std::memcmp(&seen, &clean, offsetof(scribble::StateReport, memory_hash)), 0);
    EXPECT_EQ(std::memcmp(seen.x87_environment, clean.x87_environment, sizeof seen.x87_environment), 0);
    EXPECT_EQ(std::memcmp(seen.fxsave, clean.fxsave, sizeof seen.fxsave), 0);
    EXPECT_EQ(std::memcmp(seen.xsave, clean.xsave, sizeof seen.xsave), 0);
    std::set<std::uint64_t> secrets;
    for (std::uint64_t i = 1; i <= 300; ++i) secrets.insert(scribble::pattern(seed, i) | 1);
    std::array<std::uint64_t, sizeof seen / 8> words{};
    std::memcpy(words.data(), &seen, sizeof seen);
    for (const std::uint64_t word : words) EXPECT_FALSE(word != 0 && secrets.contains(word | 1)) << std::hex << word;
  }
}

// What a crash has begun on a vCPU is finished before its memory is reset or its home is another's: KVM answers a
// string read from a port by writing into guest memory at the next KVM_RUN.
TEST_F(ForkIsolation, AnUnfinishedExitReachesNoOtherLife) {
  open("probe_scribble", 2);
  for (const auto which : {scribble::Crash::kOwnPortIn, scribble::Crash::kOwnPortInString}) {
    auto first = fork(0);
    ASSERT_NE(first, nullptr);
    ASSERT_FALSE(call(*first, "crash", {static_cast<std::uint64_t>(which)}, 0));
    ASSERT_TRUE(first->bind(*cpus_[1]));  // it moves on, and is reset there
    ASSERT_TRUE(first->reset());
    const std::vector<std::byte> reset(first->memory().window().begin(), first->memory().window().end());
    const auto second = fork(0);
    ASSERT_NE(second, nullptr);
    EXPECT_TRUE(call(*second, "random_scribble", {1, 0, second->memory().call_area().begin.value, 0, 0}, 0));
    EXPECT_EQ(std::memcmp(reset.data(), first->memory().window().data(), reset.size()), 0);
    // The same when it is destroyed, and its home goes to the next.
    ASSERT_FALSE(call(*first, "crash", {static_cast<std::uint64_t>(which)}, 0));
    first.reset();
    const auto third = fork(1);
    ASSERT_NE(third, nullptr);
    const std::vector<std::byte> made(third->memory().window().begin(), third->memory().window().end());
    EXPECT_TRUE(call(*second, "random_scribble", {1, 0, second->memory().call_area().begin.value, 0, 0}, 0));
    EXPECT_EQ(std::memcmp(made.data(), third->memory().window().data(), made.size()), 0);
  }
}

}  // namespace
}  // namespace warmfork::test
