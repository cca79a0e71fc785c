#include "ivshmem/host/meeting_file.hpp"
#include "ivshmem/protocol.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace warmfork::ivshmem {
namespace {

using ::testing::HasSubstr;

/// A directory of its own.
class IvshmemFile : public ::testing::Test {
 protected:
  using Side = MeetingFile::Side;
  using Left = MeetingFile::Left;
  IvshmemFile() { EXPECT_NE(::mkdtemp(directory_.data()), nullptr); }
  ~IvshmemFile() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  [[nodiscard]] Result<MeetingFile> open(Side side) const {
    return MeetingFile::open(path(), side, kBytes, kPageBytes);
  }
  [[nodiscard]] bool exists() const { return std::filesystem::exists(path()); }
  static std::string why(const Result<MeetingFile>& opened) {
    return opened ? std::string("opened") : opened.error().message;
  }
  static constexpr std::uint64_t kBytes = kFrameOffset + 2 * kPageBytes;
  std::string directory_ = ::testing::TempDir() + "/warmfork-ivshmem-XXXXXX";
  [[nodiscard]] std::string path() const { return directory_ + "/memory"; }
};

TEST_F(IvshmemFile, IsRemovedByTheLastOfThoseWhoHaveIt) {
  for (const Side first : {Side::kHost, Side::kGuest}) {
    auto one = open(first);
    ASSERT_TRUE(one) << why(one);
    auto other = open(first == Side::kHost ? Side::kGuest : Side::kHost);
    ASSERT_TRUE(other) << why(other);
    {
      const MeetingFile ends = std::move(*one);
    }
    EXPECT_TRUE(exists()) << "the other one has it";
    EXPECT_EQ(other->leave(), Left::kRemoved);
    EXPECT_FALSE(exists());
  }
}

TEST_F(IvshmemFile, StaysWhileSomebodyElseHasItOpenAndIsThenTheNextOnesToRemove) {
  {
    auto file = open(Side::kHost);
    ASSERT_TRUE(file) << why(file);
    const UniqueFd qemu(::open(path().c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(file->leave(), Left::kInUse);
  }
  ASSERT_TRUE(exists());
  auto next = open(Side::kHost);
  ASSERT_TRUE(next) << why(next);
  EXPECT_EQ(next->leave(), Left::kRemoved);
}

TEST_F(IvshmemFile, OfSomebodyElseStays) {
  {
    const UniqueFd qemu(::open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_EQ(::ftruncate(qemu.get(), kBytes), 0);
  }
  auto file = open(Side::kHost);
  ASSERT_TRUE(file) << why(file);
  EXPECT_EQ(file->leave(), Left::kKept);
  EXPECT_TRUE(exists());
}

TEST_F(IvshmemFile, ANewOneInItsPlaceIsNotRemoved) {
  auto file = open(Side::kHost);
  ASSERT_TRUE(file) << why(file);
  std::filesystem::remove(path());
  auto next = open(Side::kGuest);
  ASSERT_TRUE(next) << why(next);
  EXPECT_EQ(file->leave(), Left::kKept);
  EXPECT_TRUE(exists());
}

TEST_F(IvshmemFile, HasOneHostAndOneGuest) {
  auto host = open(Side::kHost);
  auto guest = open(Side::kGuest);
  ASSERT_TRUE(host && guest);
  EXPECT_THAT(why(open(Side::kHost)), HasSubstr("another host is using it"));
  EXPECT_THAT(why(open(Side::kGuest)), HasSubstr("another guest is using it"));
  {
    const MeetingFile ends = std::move(*host);
  }
  EXPECT_TRUE(open(Side::kHost)) << "its lock has gone with it";
}

TEST_F(IvshmemFile, OthersDataIsNotWrittenOver) {
  std::ofstream(path()) << std::string(kBytes, 'x');
  EXPECT_THAT(why(open(Side::kHost)), HasSubstr("holds something else"));
  EXPECT_THAT(why(open(Side::kGuest)), HasSubstr("holds something else"));
  std::ifstream in(path());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), std::string(kBytes, 'x'));
}

TEST_F(IvshmemFile, OfAWrongSizeIsRefusedByValueAndLimit) {
  std::ofstream(path()) << std::string(kFrameOffset, '\0');
  EXPECT_THAT(why(open(Side::kHost)), HasSubstr("2097152 bytes; a frame of 4096 needs at least 2101248"));
  EXPECT_TRUE(exists());
  std::filesystem::remove(path());
  EXPECT_THAT(why(MeetingFile::open(path(), Side::kHost, kPageBytes, kPageBytes)), HasSubstr("needs at least"));
  EXPECT_FALSE(exists()) << "nothing is made for nothing";
}

// It would be what everybody finds who comes later and asks for less.
TEST_F(IvshmemFile, OneThatWasMadeAndCannotBeUsedIsRemovedAgain) {
  EXPECT_THAT(why(MeetingFile::open(path(), Side::kHost, kBytes + 1, kPageBytes)), HasSubstr("not whole pages"));
  EXPECT_FALSE(exists());
  EXPECT_THAT(why(MeetingFile::open(path(), Side::kGuest, 2 * kMaxSharedBytes, kPageBytes)), HasSubstr("at most"));
  EXPECT_FALSE(exists());
  EXPECT_TRUE(open(Side::kHost));
}

}  // namespace
}  // namespace warmfork::ivshmem
