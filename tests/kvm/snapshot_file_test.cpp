// Snapshots as files, with guests: forks of what was loaded are forks of what was saved, here and in another process.
#include "fork/snapshot_file.hpp"

#include "fork/fork.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kBlock = 64;  // pages

class SnapshotFileKvm : public test::MachineTest {
 protected:
  SnapshotFileKvm() {
    std::string pattern = ::testing::TempDir() + "/warmfork-snapshot-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    directory_ = pattern;
  }
  ~SnapshotFileKvm() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::shared_ptr<const Snapshot> take(Machine& master) {
    auto taken = Snapshot::take(system(), master);
    EXPECT_TRUE(taken) << taken.error().message;
    return taken ? *taken : nullptr;
  }
  std::unique_ptr<Machine> warm_master(std::uint64_t pages = kBlock, std::uint64_t memory_bytes = 0) {
    MachineConfig config;
    config.memory_bytes = memory_bytes != 0 ? memory_bytes : (pages + 96) * kPage;
    config.stack_bytes = 8 * kPage;
    config.call_area_bytes = kPage;
    auto master = make("probe_forks", {std::to_string(pages)}, std::move(config));
    if (master == nullptr) return nullptr;
    const auto booted = master->boot({.timeout_ns = kTimeout});
    EXPECT_TRUE(booted && !booted->exit_code);
    return master;
  }
  std::string save(const Snapshot& snapshot, const std::string& name) {
    const Status saved = save_snapshot(snapshot, path(name));
    EXPECT_TRUE(saved) << saved.error().message;
    return path(name);
  }
  std::shared_ptr<const Snapshot> load(const std::string& file, const LoadOptions& options = {}) {
    auto loaded = load_snapshot(system(), file, options);
    EXPECT_TRUE(loaded) << loaded.error().message;
    return loaded ? *loaded : nullptr;
  }
  void expect_same(const Snapshot& a, const Snapshot& b) {
    ASSERT_EQ(a.window().size(), b.window().size());
    EXPECT_EQ(std::memcmp(a.window().data(), b.window().data(), a.window().size()), 0);
    ASSERT_EQ(a.image().size(), b.image().size());
    EXPECT_EQ(std::memcmp(a.image().data(), b.image().data(), a.image().size()), 0);
  }

  /// A fork with all it needs to live.
  struct Living {
    std::unique_ptr<ForkSource> source;
    std::unique_ptr<Fork> fork;
  };
  Living fork_of(const std::shared_ptr<const Snapshot>& snapshot, const ForkOptions& options) {
    Living living;
    auto source = make_fork_source(system(), snapshot, options, 2);
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
  Result<std::uint64_t> try_call(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments = {}) {
    const auto function = guest.find_vmcall(name);
    EXPECT_TRUE(function) << function.error().message;
    return guest.call(*function, std::vector<std::uint64_t>(arguments), {.timeout_ns = kTimeout});
  }
  std::uint64_t call(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments = {}) {
    const auto result = try_call(guest, name, arguments);
    EXPECT_TRUE(result) << name << ": " << result.error().message;
    return result.value_or(0);
  }

 private:
  std::string directory_;
};

TEST_F(SnapshotFileKvm, ForksOfWhatWasLoadedAreForksOfWhatWasSaved) {
  const auto master = warm_master();
  ASSERT_NE(master, nullptr);
  (void)call(*master, "count");
  EXPECT_NE(call(*master, "grow", {3}), 0U);
  EXPECT_EQ(call(*master, "freeze_block", {2}), 1U);
  const auto original = take(*master);
  const auto loaded = load(save(*original, "a"));
  ASSERT_NE(loaded, nullptr);
  expect_same(*original, *loaded);
  EXPECT_EQ(original->nonzero().count(), loaded->nonzero().count());
  EXPECT_EQ(original->overrides().size(), loaded->overrides().size());
  for (const ForkKind kind : kForkKinds) {
    for (const Population population : {Population::kCopy, Population::kCow}) {
      const ForkOptions options{.kind = kind, .population = population, .seed = 7};
      const Living one = fork_of(original, options);
      const Living two = fork_of(loaded, options);
      ASSERT_TRUE(one.fork && two.fork);
      for (int round = 0; round < 3; ++round) {
        for (const char* name : {"count", "sum_block", "system_random", "program_random"}) {
          EXPECT_EQ(call(*one.fork, name), call(*two.fork, name)) << name;
        }
        EXPECT_EQ(call(*one.fork, "touch", {7, 9, 3}), call(*two.fork, "touch", {7, 9, 3}));
        EXPECT_EQ(call(*one.fork, "sum_block"), call(*two.fork, "sum_block"));
        EXPECT_EQ(call(*one.fork, "grow", {4}), call(*two.fork, "grow", {4})) << "the heap's book is the same";
        for (Fork* each : {one.fork.get(), two.fork.get()}) {
          EXPECT_EQ(try_call(*each, "touch", {1, 1, 1}).error().kind, ErrorKind::kGuestFault) << "it is read-only";
          ASSERT_TRUE(each->reset());
        }
      }
      EXPECT_EQ(call(*two.fork, "count"), 1002U);
      EXPECT_EQ(try_call(*two.fork, "poke", {WARMFORK_FORK_PAGE, 1}).error().kind, ErrorKind::kGuestFault);
    }
  }
}

TEST_F(SnapshotFileKvm, LayersAreLoadedOverTheirBase) {
  const auto master = warm_master(512);
  ASSERT_NE(master, nullptr);
  const auto base = take(*master);
  const std::string base_file = save(*base, "base");
  std::shared_ptr<const Snapshot> top = base;
  std::vector<std::string> files{base_file};
  std::uint64_t sum = 0;
  for (std::uint64_t depth = 1; depth <= 3; ++depth) {
    const Living below = fork_of(top, {});
    EXPECT_EQ(call(*below.fork, "count"), 1000 + depth);
    (void)call(*below.fork, "touch", {depth * 10, 5, 40 + depth});
    sum = call(*below.fork, "sum_block");
    auto layer = Snapshot::take(system(), *below.fork);
    ASSERT_TRUE(layer) << layer.error().message;
    files.push_back(save(**layer, "layer" + std::to_string(depth)));
    EXPECT_LT(std::filesystem::file_size(files.back()), 24 * kPage);
    top = *layer;
  }
  const auto loaded = load(files.back(), {.base = nullptr, .base_files = files});
  ASSERT_NE(loaded, nullptr);
  expect_same(*top, *loaded);
  EXPECT_EQ(top->stored_bytes(), loaded->stored_bytes());
  for (const Population population : {Population::kCopy, Population::kCow}) {
    const Living living = fork_of(loaded, {.population = population});
    for (int round = 0; round < 3; ++round) {
      EXPECT_EQ(call(*living.fork, "count"), 1004U);
      EXPECT_EQ(call(*living.fork, "sum_block"), sum);
      (void)call(*living.fork, "touch", {0, 300, 5});
      ASSERT_TRUE(living.fork->reset());
    }
    const auto again = Snapshot::take(system(), *living.fork);
    ASSERT_TRUE(again);
    EXPECT_EQ(load(save(**again, "again"), {.base = loaded, .base_files = {}})->stored_bytes(),
              (*again)->stored_bytes());
  }
  const auto wrong = load_snapshot(system(), files[2], {.base = base, .base_files = {}});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("a layer over snapshot"));
}

// The test starts itself again, and what it finds in its environment tells it that it is the second process.
TEST_F(SnapshotFileKvm, AFreshProcessLoadsIt) {
  if (const char* const file = std::getenv("WARMFORK_TEST_SNAPSHOT"); file != nullptr) {
    const auto loaded = load(std::string(file) + ".layer", {.base = nullptr, .base_files = {file}});
    ASSERT_NE(loaded, nullptr);
    EXPECT_EQ(to_text(checksum_of(loaded->window())), std::getenv("WARMFORK_TEST_WINDOW"));
    const Living living = fork_of(loaded, {.kind = ForkKind::kSpace});
    EXPECT_EQ(call(*living.fork, "count"), 1002U);
    EXPECT_EQ(std::to_string(call(*living.fork, "sum_block")), std::getenv("WARMFORK_TEST_SUM"));
    return;
  }
  const auto master = warm_master();
  ASSERT_NE(master, nullptr);
  const auto base = take(*master);
  const std::string file = save(*base, "a");
  const Living living = fork_of(base, {});
  EXPECT_EQ(call(*living.fork, "count"), 1001U);
  (void)call(*living.fork, "touch", {3, 4, 99});
  const std::string sum = std::to_string(call(*living.fork, "sum_block"));
  const auto layer = Snapshot::take(system(), *living.fork);
  ASSERT_TRUE(layer);
  (void)save(**layer, "a.layer");
  const std::string log = path("log");  // not among the output that says which test has passed
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::setenv("WARMFORK_TEST_SNAPSHOT", file.c_str(), 1);
    ::setenv("WARMFORK_TEST_WINDOW", to_text(checksum_of((*layer)->window())).c_str(), 1);
    ::setenv("WARMFORK_TEST_SUM", sum.c_str(), 1);
    if (std::freopen(log.c_str(), "w", stdout) == nullptr) ::_exit(98);
    ::execl("/proc/self/exe", "kvm_tests", "--gtest_brief=1", "--gtest_filter=SnapshotFileKvm.AFreshProcessLoadsIt",
            nullptr);
    ::_exit(99);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status << ", it said:\n"
                                                             << std::ifstream(log).rdbuf();
}

TEST_F(SnapshotFileKvm, AFileThatChangesLaterDoesNotReachItsForks) {
  const auto master = warm_master();
  ASSERT_NE(master, nullptr);
  const std::string file = save(*take(*master), "a");
  const auto loaded = load(file);
  ASSERT_NE(loaded, nullptr);
  std::filesystem::resize_file(file, 100);
  const Living living = fork_of(loaded, {.population = Population::kCow});
  EXPECT_EQ(call(*living.fork, "count"), 1001U);
  EXPECT_NE(call(*living.fork, "sum_block"), 0U);
}

TEST_F(SnapshotFileKvm, EveryProgramThatWaitsForCallsCanBeSaved) {
  for (const char* name : {"probe_calls", "lc3_guest"}) {
    const auto master = make_ready(name);
    ASSERT_NE(master, nullptr);
    const auto snapshot = take(*master);
    const auto loaded = load(save(*snapshot, name));
    ASSERT_NE(loaded, nullptr);
    expect_same(*snapshot, *loaded);
    EXPECT_EQ(loaded->program()->vmcalls, snapshot->program()->vmcalls);
    EXPECT_EQ(loaded->program()->plan.symbols.size(), snapshot->program()->plan.symbols.size());
    EXPECT_NE(fork_of(loaded, {.kind = ForkKind::kVm}).fork, nullptr);
  }
}

TEST_F(SnapshotFileKvm, HugeWindowsAreSavedByWhatIsInThem) {
  const auto master = warm_master(256, std::uint64_t{256} << 20);
  ASSERT_NE(master, nullptr);
  const std::string file = save(*take(*master), "a");
  EXPECT_LT(std::filesystem::file_size(file), std::uint64_t{2} << 20);
  const auto loaded = load(file);
  ASSERT_NE(loaded, nullptr);
  for (const ForkKind kind : kForkKinds) {
    const Living living = fork_of(loaded, {.kind = kind});
    EXPECT_EQ(call(*living.fork, "count"), 1001U);
    EXPECT_NE(call(*living.fork, "grow", {2000}), 0U);
    ASSERT_TRUE(living.fork->reset());
    EXPECT_EQ(call(*living.fork, "count"), 1001U);
  }
}

}  // namespace
}  // namespace warmfork
