// Optimised code in files: what is written is found again, and what is not as it was written is refused by name of what
// is wrong, never by a crash.
#include "lc3/jit/disk_cache.hpp"

#include "lc3/jit/code_cache.hpp"
#include "lc3/jit/frontend.hpp"
#include "lc3/jit/optimiser.hpp"
#include "lc3/jit/passes.hpp"
#include "lc3/jit/xbyak_compiler.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::string_view kCompiler = "a compiler";

class DiskCacheTest : public ::testing::Test {
 protected:
  DiskCacheTest() : words_(kMemoryWords) {
    words_[0x3000] = 0x1021;  // ADD R0, R0, #1
    words_[0x3001] = 0x03fe;  // BRp x3000
    words_[0x3002] = 0x1261;  // ADD R1, R1, #1
    words_[0x3003] = 0xf025;
    unit_ = unit(0x3000);
    code_.bytes = {0x90, 0x91, 0x92, 0x93, 0x94};
    code_.out_of_line = 4;
    code_.entries = {{0, 0x3000}, {2, 0x3002}};
    std::string name = ::testing::TempDir() + "warmfork-cache-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~DiskCacheTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::span<const std::uint16_t, kMemoryWords> words() const {
    return std::span<const std::uint16_t, kMemoryWords>(words_);
  }
  [[nodiscard]] Unit unit(std::uint16_t root, const Passes& passes = {}, bool lea_sets_cc = false) const {
    const WordSet none;
    Unit made = translate({words(), none, lea_sets_cc}, std::vector<std::uint16_t>{root});
    run_passes(made, passes);
    return made;
  }
  [[nodiscard]] CodeKey key() const { return key_of(unit_, words(), kCompiler); }
  [[nodiscard]] std::vector<std::byte> file() const { return *encode_code(code_, key()); }
  [[nodiscard]] std::shared_ptr<DiskCache> open() const {
    auto opened = DiskCache::open(directory_, std::string(kCompiler));
    EXPECT_TRUE(opened) << opened.error().message;
    return *opened;
  }
  [[nodiscard]] std::string path() const { return directory_ + "/" + to_text(key()) + ".code"; }
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) names.push_back(entry.path());
    return names;
  }
  /// Why `file` is refused; empty if it is not.
  [[nodiscard]] std::string refusal(std::span<const std::byte> file) const {
    const auto code = decode_code(file, key(), unit_);
    if (code) return "";
    EXPECT_EQ(code.error().kind, ErrorKind::kInput);
    return code.error().message;
  }
  /// The file with one number changed, and a checksum that is right.
  template <class Value>
  [[nodiscard]] std::vector<std::byte> forged(std::size_t offset, Value value) const {
    std::vector<std::byte> bytes = file();
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    seal_code_file(bytes);
    return bytes;
  }
  /// What looking the code up in a new run says of it.
  void expect_refused(const std::string& why) const {
    const auto cache = open();
    EXPECT_FALSE(cache->find(unit_, words()));
    EXPECT_EQ(cache->counters().refused, 1U);
    EXPECT_EQ(cache->counters().misses, 0U);
    EXPECT_THAT(cache->complaint(), AllOf(HasSubstr(path()), HasSubstr(why)));
  }
  void write(std::span<const std::byte> bytes) const {
    std::ofstream(path(), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    EXPECT_EQ(::chmod(path().c_str(), 0600), 0);
  }

  std::string directory_;
  std::vector<std::uint16_t> words_;
  Unit unit_;
  MachineCode code_;
};

void expect_same(const MachineCode& is, const MachineCode& should) {
  EXPECT_EQ(is.bytes, should.bytes);
  EXPECT_EQ(is.out_of_line, should.out_of_line);
  ASSERT_EQ(is.entries.size(), should.entries.size());
  for (std::size_t i = 0; i < is.entries.size(); ++i) {
    EXPECT_EQ(is.entries[i].offset, should.entries[i].offset);
    EXPECT_EQ(is.entries[i].address, should.entries[i].address);
  }
}

TEST_F(DiskCacheTest, WhatIsKeptIsFoundByLaterRuns) {
  {
    const auto cache = open();
    EXPECT_FALSE(cache->find(unit_, words()));
    cache->keep(unit_, words(), code_);
    EXPECT_EQ(cache->counters().misses, 1U);
    EXPECT_EQ(cache->counters().written, 1U);
  }
  const auto cache = open();
  const auto found = cache->find(unit_, words());
  ASSERT_TRUE(found);
  expect_same(*found, code_);
  EXPECT_EQ(cache->counters().hits, 1U);
  EXPECT_THAT(cache->complaint(), IsEmpty());
  EXPECT_THAT(files(), ::testing::ElementsAre(path()));
  struct stat status{};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
}

TEST_F(DiskCacheTest, TheCodeOfRealCompilersComesBack) {
  const MachineCode code = *compile_with_xbyak(unit_);
  const auto again = decode_code(*encode_code(code, key()), key(), unit_);
  ASSERT_TRUE(again) << again.error().message;
  expect_same(*again, code);
}

TEST_F(DiskCacheTest, KeysDifferWithEverythingTheCodeDependsOn) {
  EXPECT_EQ(key_of(unit(0x3000), words(), kCompiler), key());
  EXPECT_NE(key_of(unit_, words(), "another"), key());
  EXPECT_NE(key_of(unit(0x3000, {}, true), words(), kCompiler), key()) << "edition";
  EXPECT_NE(key_of(unit(0x3002), words(), kCompiler), key()) << "blocks";
  words_[0x6000] = 0x5020;  // AND R0, R0, #0
  words_[0x6001] = 0x1021;  // ADD R0, R0, #1
  words_[0x6002] = 0xf025;
  EXPECT_NE(key_of(unit(0x6000), words(), kCompiler), key_of(unit(0x6000, {.constants = false}), words(), kCompiler))
      << "passes that change anything";
  const CodeKey before = key();
  words_[0x3002] = 0x1262;
  EXPECT_NE(key_of(unit(0x3000), words(), kCompiler), before) << "a word";
  EXPECT_NE(key(), before) << "a word alone";
  words_[0x3002] = 0x1261;
  words_[0x4000] = 1;
  EXPECT_EQ(key(), before) << "a word of no block";
}

TEST_F(DiskCacheTest, EveryByteCounts) {
  const std::vector<std::byte> whole = file();
  ASSERT_EQ(refusal(whole), "");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<std::byte> flipped = whole;
      flipped[i] ^= std::byte{1} << bit;
      EXPECT_NE(refusal(flipped), "") << "bit " << bit << " of byte " << i;
    }
    EXPECT_NE(refusal(std::span(whole).first(i)), "") << "cut off at " << i;
  }
  std::vector<std::byte> longer = whole;
  longer.push_back(std::byte{0});
  EXPECT_THAT(refusal(longer), HasSubstr("it has to be"));
}

TEST_F(DiskCacheTest, ForgedFilesAreRefusedByNameOfWhatIsWrong) {
  using Header = CodeFileHeader;
  constexpr std::size_t kFirst = sizeof(Header), kSecond = kFirst + 8;
  EXPECT_EQ(refusal(forged(kSecond, 1U)), "") << "an offset inside the code is one";
  EXPECT_THAT(refusal(forged(0, 'x')), HasSubstr("not a file of compiled LC-3 code"));
  EXPECT_THAT(refusal(forged(offsetof(Header, format), 2U)), HasSubstr("of format 2, this program reads 1"));
  EXPECT_THAT(refusal(forged(offsetof(Header, key), 1U)), HasSubstr("the code of another unit"));
  for (const std::uint32_t huge : {0U, 3U, 0x2000'0000U, 0xffff'ffffU}) {
    EXPECT_THAT(refusal(forged(offsetof(Header, entries), huge)), HasSubstr("it has to be")) << huge;
    EXPECT_THAT(refusal(forged(offsetof(Header, code_bytes), huge)), HasSubstr("it has to be")) << huge;
  }
  EXPECT_THAT(refusal(forged(offsetof(Header, out_of_line), 6U)), HasSubstr("blocks end at 6 of 5 bytes"));
  for (const std::uint32_t offset : {5U, 0x8000'0000U, 0xffff'ffffU}) {
    EXPECT_THAT(refusal(forged(kFirst, offset)), HasSubstr("of 5 bytes of code")) << offset;
  }
  EXPECT_THAT(refusal(forged(kSecond + 4, 0x3001U)), HasSubstr("for x3001, where no block begins"));
  EXPECT_THAT(refusal(forged(kSecond + 4, 0x13002U)), HasSubstr("for x13002, where no block begins"));
  EXPECT_THAT(refusal(forged(kSecond + 4, 0x3000U)), HasSubstr("for x3000 behind x3000"));
  std::vector<std::byte> damaged = file();
  damaged.back() ^= std::byte{1};
  EXPECT_THAT(refusal(damaged), HasSubstr("damaged: the checksum is"));
  EXPECT_THAT(refusal({}), HasSubstr("too short for a header"));
}

TEST_F(DiskCacheTest, LargeCodeIsNeitherWrittenNorRead) {
  code_.bytes.resize(kMaxCodeFile);
  const auto cache = open();
  cache->keep(unit_, words(), code_);
  EXPECT_EQ(cache->counters().failures, 1U);
  EXPECT_THAT(cache->complaint(), HasSubstr("larger than the limit of 16777216"));
  EXPECT_THAT(files(), IsEmpty());
  write({});
  ASSERT_EQ(::truncate(path().c_str(), kMaxCodeFile + 1), 0);
  expect_refused("larger than the limit of 16777216");
}

TEST_F(DiskCacheTest, ADamagedFileIsRefusedAndReplaced) {
  std::vector<std::byte> damaged = file();
  damaged.pop_back();
  write(damaged);
  expect_refused("it has to be");
  open()->keep(unit_, words(), code_);
  EXPECT_TRUE(open()->find(unit_, words()));
}

TEST_F(DiskCacheTest, FilesOfOthersAreRefused) {
  write(file());
  ASSERT_EQ(::chmod(path().c_str(), 0620), 0);
  expect_refused("writable by others than its owner (mode 620)");
  ASSERT_EQ(::chmod(path().c_str(), 0602), 0);
  expect_refused("writable by others than its owner (mode 602)");
  ASSERT_EQ(::chmod(path().c_str(), 0644), 0);
  EXPECT_TRUE(open()->find(unit_, words()));
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown(path().c_str(), 12345, 0), 0);
  expect_refused("belongs to user 12345");
}

TEST_F(DiskCacheTest, LinksAndOtherThingsAreNoFiles) {
  write(file());
  const std::string elsewhere = directory_ + "/elsewhere";
  std::filesystem::rename(path(), elsewhere);
  std::filesystem::create_symlink(elsewhere, path());
  expect_refused("a link, which is not followed");
  open()->keep(unit_, words(), code_);
  EXPECT_FALSE(std::filesystem::is_symlink(path())) << "the link is replaced, not what it leads to";
  std::filesystem::remove(path());
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  expect_refused("not a regular file");
  std::filesystem::remove(path());
  std::filesystem::create_directory(path());
  std::filesystem::permissions(path(), std::filesystem::perms::owner_all);
  expect_refused("not a regular file");
}

TEST_F(DiskCacheTest, TheDirectoryMustBeTheUsersAlone) {
  const auto refused = [&](const std::string& directory) {
    const auto opened = DiskCache::open(directory, "");
    if (opened) return std::string("opened");
    EXPECT_EQ(opened.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(opened.error().message, HasSubstr(directory));
    return opened.error().message;
  };
  for (const mode_t mode : {0770U, 0702U, 01777U}) {
    ASSERT_EQ(::chmod(directory_.c_str(), mode), 0);
    EXPECT_THAT(refused(directory_), HasSubstr("writable by others than its owner (mode")) << mode;
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  EXPECT_EQ(refused(directory_), "opened");
  std::ofstream(directory_ + "/file") << "x";
  EXPECT_THAT(refused(directory_ + "/file"), EndsWith("Not a directory"));
  EXPECT_THAT(refused(directory_ + "/missing/below"), EndsWith("No such file or directory"));
  const std::string made = directory_ + "/new";
  EXPECT_EQ(refused(made), "opened");
  struct stat status{};
  ASSERT_EQ(::stat(made.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give directories away";
  ASSERT_EQ(::chown(directory_.c_str(), 12345, 0), 0);
  EXPECT_THAT(refused(directory_), HasSubstr("belongs to user 12345"));
}

TEST_F(DiskCacheTest, WhereNothingCanBeWrittenTheFailureIsCounted) {
  const auto cache = open();
  std::filesystem::remove_all(directory_);
  cache->keep(unit_, words(), code_);
  cache->keep(unit_, words(), code_);
  EXPECT_EQ(cache->counters().failures, 2U);
  EXPECT_EQ(cache->counters().written, 0U);
  EXPECT_THAT(cache->complaint(), AllOf(HasSubstr(path()), HasSubstr("No such file or directory")));
  EXPECT_FALSE(cache->find(unit_, words()));
}

TEST_F(DiskCacheTest, AFullDiskLeavesNoPartOfAFile) {
  code_.bytes.resize(64 << 10);
  const auto cache = open();
  // In a process of its own: the limit is the process's.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 4096, .rlim_max = 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
    cache->keep(unit_, words(), code_);
    const bool right = cache->counters().failures == 1 && cache->counters().written == 0 &&
                       cache->complaint().find("File too large") != std::string::npos;
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(DiskCacheTest, TwoProcessesAtOnceFindTheWholeFileOrNone) {
  constexpr int kRounds = 300;
  code_.bytes.resize(32 << 10, 0x90);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  const auto cache = open();
  if (child == 0) {
    for (int i = 0; i < kRounds; ++i) cache->keep(unit_, words(), code_);
    ::_exit(cache->counters().written == kRounds ? 0 : 1);
  }
  for (int i = 0; i < kRounds; ++i) {
    const auto found = cache->find(unit_, words());
    if (found) EXPECT_EQ(found->bytes, code_.bytes);
    cache->keep(unit_, words(), code_);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(cache->counters().refused, 0U) << cache->complaint();
  EXPECT_EQ(cache->counters().written, 1U * kRounds);
  EXPECT_THAT(files(), SizeIs(1));
}

/// A family's code, with the fast compiler in place of LLVM, counted.
struct Family {
  explicit Family(std::shared_ptr<DiskCache> disk, std::chrono::nanoseconds delay = {})
      : cache({space, 0x1000'0000}, {.disk = std::move(disk)}),
        optimiser(
            cache,
            [this]() -> Result<Optimiser::Compile> {
              return [this](const Unit& unit) -> Result<MachineCode> {
                ++compiled;
                return compile_with_xbyak(unit);
              };
            },
            delay) {
    cache.on_version([this](const Made& made) { optimiser.notice(made); });
  }
  std::uint64_t compile(std::span<const std::uint16_t, kMemoryWords> words, std::uint16_t pc) {
    const auto made = cache.compile({.words = words, .pc = pc, .lea_sets_cc = false, .lost = {}});
    EXPECT_TRUE(made);
    return *made;
  }

  std::vector<std::byte> space = std::vector<std::byte>(8 << 20);
  std::atomic<int> compiled = 0;
  CodeCache cache;
  Optimiser optimiser;
};

TEST_F(DiskCacheTest, TheFirstVersionOfALaterRunIsOptimisedWithoutTheCompiler) {
  {
    Family first(open());
    EXPECT_NE(first.compile(words(), 0x3000), 0U);
    first.optimiser.drain();
    EXPECT_EQ(first.compiled, 1);
    const CacheCounters counters = first.cache.counters();
    EXPECT_EQ(counters.disk_misses, 1U);
    EXPECT_EQ(counters.disk_written, 1U);
    EXPECT_EQ(counters.optimised, 1U);
  }
  Family second(open());
  EXPECT_NE(second.compile(words(), 0x3000), 0U);
  second.optimiser.drain();
  EXPECT_EQ(second.compiled, 0);
  const CacheCounters counters = second.cache.counters();
  EXPECT_EQ(counters.versions, 1U);
  EXPECT_EQ(counters.disk_hits, 1U);
  EXPECT_EQ(counters.disk_misses, 0U);
  EXPECT_EQ(counters.disk_written, 0U);
  EXPECT_EQ(counters.optimised, 1U);
  EXPECT_EQ(second.cache.disk_complaint(), "");
}

TEST_F(DiskCacheTest, AHitMakesTheOptimiserForgetTheVersionBefore) {
  words_[0x5000] = 0x1021;
  words_[0x5001] = 0x0ffe;
  {
    Family first(open());
    first.compile(words(), 0x3000);
    first.compile(words(), 0x5000);
    first.optimiser.drain();
  }
  for (const std::string& name : files()) {
    if (name == path()) std::filesystem::remove(name);
  }
  Family second(open(), std::chrono::hours(1));
  second.compile(words(), 0x3000);
  EXPECT_EQ(second.cache.counters().disk_misses, 1U);
  second.compile(words(), 0x5000);
  EXPECT_EQ(second.cache.counters().disk_hits, 1U);
  second.optimiser.drain();
  EXPECT_EQ(second.compiled, 0);
}

TEST_F(DiskCacheTest, FinishDoesNotBeginWithAnything) {
  Family family(open(), std::chrono::hours(1));
  family.compile(words(), 0x3000);
  family.optimiser.finish();
  family.optimiser.drain();
  EXPECT_EQ(family.compiled, 0);
  EXPECT_EQ(family.cache.counters().disk_written, 0U);
}

// A file of the cache's names, so many bytes long and last used so many seconds ago.
class DiskCacheLimit : public DiskCacheTest {
 protected:
  std::string make(char digit, std::size_t bytes, int age, const std::string& suffix = ".code") const {
    const std::string name = directory_ + "/" + std::string(64, digit) + suffix;
    std::ofstream(name) << std::string(bytes, 'x');
    const timespec then{::time(nullptr) - age, 0};
    const timespec times[2] = {then, then};
    EXPECT_EQ(::utimensat(AT_FDCWD, name.c_str(), times, 0), 0);
    return name;
  }
  [[nodiscard]] std::shared_ptr<DiskCache> open_with(std::uint64_t limit) const {
    auto opened = DiskCache::open(directory_, std::string(kCompiler), limit);
    EXPECT_TRUE(opened) << opened.error().message;
    return *opened;
  }
  static bool exists(const std::string& name) {
    return std::filesystem::symlink_status(name).type() != std::filesystem::file_type::not_found;
  }
};

TEST_F(DiskCacheLimit, WhatWasNotUsedForLongestGoesFirst) {
  const std::string oldest = make('a', 3000, 300), newest = make('b', 3000, 100), older = make('c', 3000, 200);
  const auto cache = open_with(8000);
  cache->keep(unit_, words(), code_);  // to 7000: one of 3000 is not enough
  EXPECT_EQ(cache->counters().trimmed, 1U);
  EXPECT_FALSE(exists(oldest));
  EXPECT_TRUE(exists(older) && exists(newest) && exists(path()));
  EXPECT_EQ(cache->complaint(), "");
  // Within the limit nothing is removed.
  cache->keep(unit_, words(), code_);
  EXPECT_EQ(cache->counters().trimmed, 1U);
  // This process knows what it has written: that much later it looks again.
  const std::size_t own = std::filesystem::file_size(path());
  for (std::size_t written = 0; written <= 3000; written += own) cache->keep(unit_, words(), code_);
  EXPECT_TRUE(exists(older)) << "written over and over, it takes its place once";
}

TEST_F(DiskCacheLimit, AHitIsAUse) {
  open()->keep(unit_, words(), code_);
  const timespec then[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path().c_str(), then, 0), 0);
  const std::string other = make('a', 3000, 300);
  ASSERT_TRUE(open()->find(unit_, words()));
  const Unit another = unit(0x3002);
  const auto cache = open_with(3000);
  cache->keep(another, words(), code_);
  EXPECT_FALSE(exists(other));
  EXPECT_TRUE(exists(path())) << "it was the oldest before it was found";
}

TEST_F(DiskCacheLimit, OnlyItsOwnRegularFilesAreTouched) {
  const std::string victim = make('9', 5000, 10'000, ".elsewhere");
  std::vector<std::string> stay = {victim, make('a', 5000, 10'000, ".cod"), make('A', 5000, 10'000),
                                   make('b', 5000, 10'000, ".code.txt"), directory_ + "/notes"};
  std::ofstream(stay.back()) << std::string(5000, 'x');
  const std::string link = directory_ + "/" + std::string(64, 'c') + ".code";
  std::filesystem::create_symlink(victim, link);
  const std::string folder = directory_ + "/" + std::string(64, 'd') + ".code";
  std::filesystem::create_directory(folder);
  stay.insert(stay.end(), {link, folder});
  const std::string abandoned = make('e', 10, 10'000, ".code.0123456789abcdef");
  const std::string written_now = make('f', 10, 0, ".code.0123456789abcdef");
  const auto cache = open_with(0);
  cache->keep(unit_, words(), code_);
  for (const std::string& name : stay) EXPECT_TRUE(exists(name)) << name;
  EXPECT_FALSE(exists(path())) << "a limit of nothing";
  EXPECT_FALSE(exists(abandoned));
  EXPECT_TRUE(exists(written_now)) << "another process is at it";
  EXPECT_EQ(cache->counters().trimmed, 2U);
  EXPECT_EQ(cache->counters().failures, 0U);
}

// Two caches are two processes here: each has its own descriptors, and its own idea of what is there.
TEST_F(DiskCacheLimit, TwoAtOnceStayWithinTheLimitAndLoseNothingElse) {
  const std::size_t bytes = file().size();
  const std::string notes = make('a', 5000, 10'000, ".txt");
  const auto work = [&](std::uint16_t seed) {
    const auto cache = open_with(10 * bytes);
    std::vector<std::uint16_t> own = words_;
    for (std::uint16_t i = 0; i < 100; ++i) {
      own[0x3002] = static_cast<std::uint16_t>(0x1260 | (i & 0x1f));
      own[0x3000] = static_cast<std::uint16_t>(0x1020 | (i / 32) | seed);
      const std::span<const std::uint16_t, kMemoryWords> view(own);
      cache->keep(unit_, view, code_);
      EXPECT_EQ(cache->counters().refused, 0U);
      if (const auto found = cache->find(unit_, view)) EXPECT_EQ(found->bytes, code_.bytes);
    }
    EXPECT_EQ(cache->counters().failures, 0U) << cache->complaint();
    EXPECT_EQ(cache->counters().written, 100U);
  };
  std::thread other([&] { work(8); });
  work(16);
  other.join();
  std::uint64_t total = 0;
  for (const std::string& name : files()) total += name == notes ? 0 : std::filesystem::file_size(name);
  EXPECT_LE(total, 20 * bytes) << "each looks when it has written as much as there was room for";
  EXPECT_GE(total, bytes);
  EXPECT_TRUE(exists(notes));
}

}  // namespace
}  // namespace warmfork::lc3::jit
