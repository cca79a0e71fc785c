// The code region: machine code that the host writes and guests execute, none of which can write it. Every rule for a
// master, a `vm` fork and a `space` fork.
#include "machine/code_region.hpp"

#include "base/resident_pages.hpp"
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "fork/snapshot_file.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
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

constexpr std::uint64_t kRegionBytes = std::uint64_t{4} << 20;

// mov eax, `value`; ret
void write_function(const CodeRegion& region, std::uint64_t offset, std::uint32_t value) {
  std::array<std::uint8_t, 6> code{0xb8, 0, 0, 0, 0, 0xc3};
  std::memcpy(&code[1], &value, sizeof value);
  std::memcpy(region.bytes.subspan(offset, code.size()).data(), code.data(), code.size());
}

class CodeRegionTest : public test::MachineTest {
 protected:
  /// A fork with all it needs to live.
  struct Living {
    std::unique_ptr<ForkSource> source;
    std::unique_ptr<Fork> fork;
  };

  void make_master(std::uint64_t code_bytes = kRegionBytes) {
    MachineConfig config;
    config.memory_bytes = 8 << 20;
    config.code_bytes = code_bytes;
    auto io = std::make_unique<BufferIo>("some input that must not get there");
    config.io = io.get();
    inputs_.push_back(std::move(io));
    master_ = make_ready("probe_code_region", std::move(config));
    ASSERT_NE(master_, nullptr);
    region_ = master_->code_region();
  }
  std::shared_ptr<const Snapshot> take(Machine& master) {
    auto taken = Snapshot::take(system(), master);
    EXPECT_TRUE(taken) << taken.error().message;
    return taken ? *taken : nullptr;
  }
  Living fork_of(const std::shared_ptr<const Snapshot>& snapshot, ForkKind kind) {
    Living living;
    inputs_.push_back(std::make_unique<BufferIo>("some input that must not get there"));
    auto source = make_fork_source(system(), snapshot, {.kind = kind, .io = inputs_.back().get()}, 2);
    EXPECT_TRUE(source) << source.error().message;
    if (!source) return living;
    living.source = std::move(*source);
    auto cpu = living.source->make_cpu();
    auto made = living.source->make();
    EXPECT_TRUE(cpu && made);
    if (!made) return living;
    living.fork = std::move(*made);
    if (*cpu != nullptr) EXPECT_TRUE(living.fork->bind(**cpu));
    return living;
  }
  /// The master and a fork of each kind.
  void make_family(std::uint64_t code_bytes = kRegionBytes) {
    make_master(code_bytes);
    ASSERT_NE(master_, nullptr);
    snapshot_ = take(*master_);
    ASSERT_NE(snapshot_, nullptr);
    for (const ForkKind kind : kForkKinds) {
      forks_.push_back(fork_of(snapshot_, kind));
      ASSERT_NE(forks_.back().fork, nullptr);
    }
    family_ = {{"master", master_.get()}, {"vm fork", forks_[0].fork.get()}, {"space fork", forks_[1].fork.get()}};
  }

  static Result<std::uint64_t> try_call(Guest& guest, const char* name,
                                        std::initializer_list<std::uint64_t> arguments = {}) {
    const auto function = guest.find_vmcall(name);
    EXPECT_TRUE(function) << function.error().message;
    return guest.call(*function, std::vector<std::uint64_t>(arguments), {.timeout_ns = kTimeout});
  }
  static std::uint64_t call(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments = {}) {
    const auto result = try_call(guest, name, arguments);
    EXPECT_TRUE(result) << name << ": " << result.error().message;
    return result.value_or(0);
  }
  static std::int64_t system_call(Guest& guest, std::uint64_t number, std::initializer_list<std::uint64_t> arguments) {
    std::vector<std::uint64_t> all{number};
    all.insert(all.end(), arguments);
    const auto result = guest.call(*guest.find_vmcall("system_call"), all, {.timeout_ns = kTimeout});
    EXPECT_TRUE(result) << number << ": " << result.error().message;
    return static_cast<std::int64_t>(result.value_or(0));
  }
  static void expect_write_fault(Guest& guest, std::uint64_t address) {
    const auto written = try_call(guest, "poke", {address, 0x1122334455667788});
    ASSERT_FALSE(written) << "it was allowed";
    EXPECT_EQ(written.error().kind, ErrorKind::kGuestFault);
    EXPECT_THAT(written.error().message,
                HasSubstr(fmt::format("page fault: write to {:#x} (the code region)", address)));
  }
  [[nodiscard]] static std::size_t resident_pages(const CodeRegion& region) {
    std::size_t pages = 0;
    EXPECT_TRUE(for_each_private_page(region.bytes, [&](std::size_t) { ++pages; }));
    return pages;
  }

  // Inputs outlive the guests, sources the forks.
  std::vector<std::unique_ptr<BufferIo>> inputs_;
  std::unique_ptr<Machine> master_;
  CodeRegion region_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::vector<Living> forks_;
  std::vector<std::pair<const char*, Guest*>> family_;
};

TEST_F(CodeRegionTest, GuestsRunWhatTheHostHasWrittenLast) {
  make_family();
  ASSERT_EQ(family_.size(), 3U);
  const std::array<std::uint64_t, 4> offsets{0, kPage - 3, kRegionBytes / 2 - 2, kRegionBytes - 6};
  std::uint32_t value = 42;
  for (int round = 0; round < 3; ++round) {
    for (const std::uint64_t offset : offsets)
      write_function(region_, offset, value + static_cast<std::uint32_t>(offset));
    for (const auto& [name, guest] : family_) {
      SCOPED_TRACE(name);
      for (const std::uint64_t offset : offsets) {
        const Gva function = region_.begin + offset;
        EXPECT_EQ(call(*guest, "run", {function.value}), value + offset);
        const auto direct = guest->call(function, {}, {.timeout_ns = kTimeout});
        ASSERT_TRUE(direct) << direct.error().message;
        EXPECT_EQ(*direct, value + offset);
      }
      // Between two calls of one guest, too.
      write_function(region_, 64, ++value);
      EXPECT_EQ(call(*guest, "run", {region_.begin.value + 64}), value);
      write_function(region_, 64, ++value);
      EXPECT_EQ(call(*guest, "run", {region_.begin.value + 64}), value);
      value -= 2;
    }
    for (const Living& living : forks_) ASSERT_TRUE(living.fork->reset());
    for (const Living& living : forks_) {
      EXPECT_EQ(call(*living.fork, "run", {region_.begin.value}), value) << "no reset takes it back";
    }
    value += 1000;
  }
}

TEST_F(CodeRegionTest, AGuestThatRunsSeesWhatIsWrittenMeanwhile) {
  make_family();
  ASSERT_EQ(family_.size(), 3U);
  auto& flag = *reinterpret_cast<std::uint64_t*>(region_.bytes.data());
  std::uint64_t page = 1;
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    for (std::uint64_t round = 0; round < test::scaled(20); ++round, ++page) {
      const std::uint64_t offset = page * kPage % kRegionBytes;
      const std::uint64_t old = std::atomic_ref(flag).load();
      std::atomic<bool> started = false;
      Result<std::uint64_t> result = std::uint64_t{0};
      std::thread runner([&] {
        started = true;
        result = try_call(*guest, "run_after", {region_.begin.value, old, region_.begin.value + offset});
      });
      while (!started) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(round % 2));
      write_function(region_, offset, static_cast<std::uint32_t>(page));
      std::atomic_ref(flag).fetch_add(1);
      runner.join();
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(*result, page);
    }
  }
}

TEST_F(CodeRegionTest, NoGuestCanWriteIt) {
  make_family();
  ASSERT_EQ(family_.size(), 3U);
  write_function(region_, 0, 42);
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    ASSERT_EQ(call(*guest, "run", {region_.begin.value}), 42U) << "the page is there for the guest";
    expect_write_fault(*guest, region_.begin.value);
  }
  for (const Living& living : forks_) {
    for (const std::uint64_t offset : {kPage, kRegionBytes / 2, kRegionBytes - 8}) {
      ASSERT_TRUE(living.fork->reset());
      expect_write_fault(*living.fork, region_.begin.value + offset);  // pages nobody has touched
    }
    ASSERT_TRUE(living.fork->reset());
    EXPECT_EQ(call(*living.fork, "run", {region_.begin.value}), 42U);
    EXPECT_EQ(try_call(*living.fork, "peek", {region_.begin.value + kRegionBytes}).error().kind,
              ErrorKind::kGuestFault);
  }
  EXPECT_TRUE(std::ranges::all_of(region_.bytes.subspan(6), [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_F(CodeRegionTest, NoSystemCallWritesItOrChangesItsAccess) {
  make_family();
  ASSERT_EQ(family_.size(), 3U);
  write_function(region_, 0, 42);
  const std::vector<std::byte> before(region_.bytes.begin(), region_.bytes.end());
  const std::uint64_t begin = region_.begin.value;
  constexpr std::uint64_t kLarge = x86::kLargePageSize;
  for (const auto& [name, guest] : family_) {
    SCOPED_TRACE(name);
    for (const std::uint64_t address : {begin, begin + kPage, begin + kLarge, begin - kPage}) {
      for (const std::uint64_t size : {kPage, 2 * kPage, kLarge, kRegionBytes}) {
        for (const int access : {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
                                 PROT_READ | PROT_WRITE | PROT_EXEC}) {
          EXPECT_LT(system_call(*guest, SYS_mprotect, {address, size, static_cast<std::uint64_t>(access)}), 0);
        }
        EXPECT_LT(system_call(*guest, SYS_munmap, {address, size}), 0);
        EXPECT_LT(system_call(*guest, SYS_madvise, {address, size, MADV_DONTNEED}), 0);
        EXPECT_LT(system_call(*guest, SYS_mmap,
                              {address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED}),
                  0);
        // A hint is taken for one.
        const std::int64_t hinted =
            system_call(*guest, SYS_mmap, {address, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS});
        EXPECT_LT(hinted, static_cast<std::int64_t>(begin)) << "it is in the heap";
        if (hinted > 0) EXPECT_EQ(system_call(*guest, SYS_munmap, {static_cast<std::uint64_t>(hinted), kPage}), 0);
      }
    }
    EXPECT_LT(system_call(*guest, SYS_brk, {begin}), static_cast<std::int64_t>(begin));
    for (const std::uint64_t address : {begin, begin + kRegionBytes - 8}) {
      EXPECT_EQ(system_call(*guest, SYS_read, {0, address, 8}), -EFAULT);
      EXPECT_EQ(system_call(*guest, SYS_getrandom, {address, 8, 0}), -EFAULT);
      EXPECT_EQ(system_call(*guest, SYS_uname, {address}), -EFAULT);
      EXPECT_EQ(system_call(*guest, SYS_write, {1, address, 8}), 8) << "it can read it";
      EXPECT_FALSE(guest->memory().write(Gva{address}, std::array<std::byte, 8>{}));
    }
    EXPECT_FALSE(guest->memory().layout().is_protectable(region_.begin, kPage));
    EXPECT_TRUE(guest->memory().overrides().empty());
    EXPECT_EQ(call(*guest, "run", {begin}), 42U);
    EXPECT_TRUE(std::ranges::equal(region_.bytes, before));
    expect_write_fault(*guest, begin);
    EXPECT_TRUE(std::ranges::equal(region_.bytes, before));
  }
}

TEST_F(CodeRegionTest, WhatNobodyTouchesCostsNoMemory) {
  constexpr std::uint64_t kHuge = std::uint64_t{64} << 20;
  make_family(kHuge);
  ASSERT_EQ(family_.size(), 3U);
  EXPECT_EQ(region_.bytes.size(), kHuge);
  for (const auto& [name, guest] : family_) EXPECT_GE(system_call(*guest, SYS_getpid, {}), 1) << name;
  EXPECT_EQ(resident_pages(region_), 0U);
  write_function(region_, 0, 42);
  for (const auto& [name, guest] : family_) EXPECT_EQ(call(*guest, "run", {region_.begin.value}), 42U) << name;
  EXPECT_LE(resident_pages(region_), x86::kLargePageSize / kPage) << "the page that was written, or its 2 MiB";

  // Nor do its page tables: the same as without a region.
  make_master(0);
  ASSERT_NE(master_, nullptr);
  const AddressSpace& without = master_->memory();
  for (const Living& living : forks_) {
    EXPECT_EQ(living.fork->memory().tables_used(), without.tables_used());
    EXPECT_EQ(living.fork->memory().window().size(), without.window().size());
    const auto where = living.fork->memory().translate(region_.begin + kHuge / 2);
    ASSERT_TRUE(where);
    EXPECT_EQ(where->leaf_size, x86::kLargePageSize);
  }
}

TEST_F(CodeRegionTest, WithoutOneNothingIsThere) {
  make_family(0);
  ASSERT_EQ(family_.size(), 3U);
  EXPECT_TRUE(region_.bytes.empty());
  EXPECT_EQ(region_.memory, nullptr);
  EXPECT_TRUE(snapshot_->code_region().bytes.empty());
  for (const auto& [name, guest] : family_) {
    EXPECT_EQ(guest->memory().layout().code().size, 0U);
    EXPECT_FALSE(guest->memory().layout().code().contains(Gva{0}));
    EXPECT_GE(system_call(*guest, SYS_getpid, {}), 1) << name;
  }
}

TEST_F(CodeRegionTest, SizesAreRoundedUpAndLimited) {
  make_master(1);
  ASSERT_NE(master_, nullptr);
  EXPECT_EQ(region_.bytes.size(), x86::kLargePageSize);
  EXPECT_EQ(region_.begin.value % x86::kLargePageSize, 0U);
  const auto elf = read_file(test::test_data("probe_code_region.elf"), std::size_t{1} << 28);
  ASSERT_TRUE(elf);
  for (const std::uint64_t size : {std::uint64_t{1} << 31, std::uint64_t{1} << 47, ~std::uint64_t{0}}) {
    const auto refused = Machine::create(system(), *elf, "too_much", {.code_bytes = size});
    ASSERT_FALSE(refused) << size;
    EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
    EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(size)));
  }
}

TEST_F(CodeRegionTest, LayersShareItAndItOutlivesThemAll) {
  make_family();
  ASSERT_EQ(family_.size(), 3U);
  const auto layer = Snapshot::take(system(), *forks_[0].fork);
  ASSERT_TRUE(layer) << layer.error().message;
  EXPECT_EQ((*layer)->code_region().bytes.data(), region_.bytes.data());
  EXPECT_EQ((*layer)->code_region().begin, region_.begin);
  for (const ForkKind kind : kForkKinds) {
    const Living living = fork_of(*layer, kind);
    ASSERT_NE(living.fork, nullptr);
    write_function(snapshot_->code_region(), 128, 77);
    EXPECT_EQ(call(*living.fork, "run", {region_.begin.value + 128}), 77U);
    EXPECT_EQ(call(*master_, "run", {region_.begin.value + 128}), 77U);
    expect_write_fault(*living.fork, region_.begin.value);
  }
  const CodeRegion kept = region_;
  region_ = {};
  family_.clear();
  forks_.clear();
  snapshot_.reset();
  master_.reset();
  write_function(kept, 0, 1);
  EXPECT_EQ(kept.bytes[0], std::byte{0xb8});
}

TEST_F(CodeRegionTest, AFileHasItsSizeAndWhatIsLoadedAnEmptyOne) {
  make_family();
  ASSERT_EQ(family_.size(), 3U);
  std::ranges::fill(region_.bytes, std::byte{0xcc});
  write_function(region_, 0, 42);
  std::string directory = ::testing::TempDir() + "/warmfork-code-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string file = directory + "/base";
  const std::string layer_file = directory + "/layer";
  ASSERT_TRUE(save_snapshot(*snapshot_, file));
  EXPECT_LT(std::filesystem::file_size(file), kRegionBytes / 2);
  const auto layer = Snapshot::take(system(), *forks_[0].fork);
  ASSERT_TRUE(layer && save_snapshot(**layer, layer_file));
  const auto info = inspect_snapshot(file);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->code_bytes, kRegionBytes);

  const auto base = load_snapshot(system(), file);
  const auto top = load_snapshot(system(), layer_file, {.base = nullptr, .base_files = {file}});
  const auto over_base = load_snapshot(system(), layer_file, {.base = *base, .base_files = {}});
  ASSERT_TRUE(base && top && over_base);
  EXPECT_EQ((*over_base)->code_region().bytes.data(), (*base)->code_region().bytes.data());
  EXPECT_NE((*top)->code_region().bytes.data(), (*base)->code_region().bytes.data());
  std::uint32_t value = 100;
  for (const auto& loaded : {*base, *top, *over_base}) {
    const CodeRegion& own = loaded->code_region();
    EXPECT_EQ(own.begin, region_.begin);
    ASSERT_EQ(own.bytes.size(), region_.bytes.size());
    EXPECT_NE(own.bytes.data(), region_.bytes.data());
    if (loaded != *over_base) EXPECT_EQ(resident_pages(own), 0U) << "it is empty";
    for (const ForkKind kind : kForkKinds) {
      const Living living = fork_of(loaded, kind);
      ASSERT_NE(living.fork, nullptr);
      EXPECT_EQ(call(*living.fork, "peek", {own.begin.value + kPage}), 0U);
      write_function(own, 0, ++value);
      EXPECT_EQ(call(*living.fork, "run", {own.begin.value}), value);
      expect_write_fault(*living.fork, own.begin.value);
    }
  }
  EXPECT_EQ(call(*master_, "run", {region_.begin.value}), 42U) << "the master's is another";
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
}

}  // namespace
}  // namespace warmfork
