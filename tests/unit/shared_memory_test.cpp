#include "memory/shared_memory.hpp"

#include "memory/address.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

UniqueFd memfd(std::uint64_t bytes, unsigned flags = MFD_ALLOW_SEALING) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | flags));
  EXPECT_TRUE(fd);
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  return fd;
}

void expect_refused(const Result<std::shared_ptr<SharedMemory>>& made, ErrorKind kind, const std::string& why) {
  ASSERT_FALSE(made) << why;
  EXPECT_EQ(made.error().kind, kind) << made.error().message;
  EXPECT_THAT(made.error().message, HasSubstr(why));
}

std::size_t resident(const SharedMemory& memory) {
  std::vector<unsigned char> pages(memory.size() / kPage);
  EXPECT_EQ(::mincore(memory.bytes().data(), memory.size(), pages.data()), 0);
  return static_cast<std::size_t>(std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(SharedMemory, IsZeroAndKeepsItsSize) {
  const auto memory = SharedMemory::create(4 * kPage);
  ASSERT_TRUE(memory) << memory.error().message;
  EXPECT_EQ((*memory)->size(), 4 * kPage);
  EXPECT_TRUE((*memory)->writable() && (*memory)->sealed());
  EXPECT_EQ(resident(**memory), 0U);
  EXPECT_TRUE(std::ranges::all_of((*memory)->bytes(), [](std::byte byte) { return byte == std::byte{0}; }));
  EXPECT_NE(::ftruncate((*memory)->fd(), kPage), 0);
  EXPECT_NE(::ftruncate((*memory)->fd(), 5 * kPage), 0);
  EXPECT_NE(::fallocate((*memory)->fd(), 0, 0, 5 * kPage), 0);
  EXPECT_EQ(resident(**SharedMemory::create(4 * kPage, true)), 4U);
}

TEST(SharedMemory, SizesThatCannotBeAreRefused) {
  expect_refused(SharedMemory::create(0), ErrorKind::kUsage, "shared memory of 0 bytes: not whole pages of 4096");
  expect_refused(SharedMemory::create(kPage - 1), ErrorKind::kUsage, "shared memory of 4095 bytes");
  expect_refused(SharedMemory::create(kMaxSharedBytes + kPage), ErrorKind::kLimit, "at most 1073741824");
  expect_refused(SharedMemory::create(~std::uint64_t{0} << 12), ErrorKind::kLimit, "at most 1073741824");
  EXPECT_TRUE(SharedMemory::create(kMaxSharedBytes));
}

TEST(SharedMemory, TwoThatAreAttachedToOneFileAreTheSame) {
  const auto first = SharedMemory::create(2 * kPage);
  ASSERT_TRUE(first);
  const auto second = SharedMemory::attach(UniqueFd(::dup((*first)->fd())), 2 * kPage, {});
  const auto reading = SharedMemory::attach(UniqueFd(::dup((*first)->fd())), 2 * kPage, {.writable = false});
  ASSERT_TRUE(second && reading);
  EXPECT_TRUE((*second)->sealed() && (*second)->writable() && (*reading)->sealed());
  EXPECT_FALSE((*reading)->writable());
  (*second)->bytes()[kPage] = std::byte{7};
  EXPECT_EQ((*first)->bytes()[kPage], std::byte{7});
  EXPECT_EQ((*reading)->bytes()[kPage], std::byte{7});
  EXPECT_DEATH((*reading)->bytes()[0] = std::byte{1}, "");
}

TEST(SharedMemory, AnothersMemfdIsSealedBeforeItIsTaken) {
  const UniqueFd theirs = memfd(2 * kPage);
  const auto memory = SharedMemory::attach(UniqueFd(::dup(theirs.get())), 2 * kPage, {});
  ASSERT_TRUE(memory) << memory.error().message;
  EXPECT_TRUE((*memory)->sealed());
  EXPECT_NE(::ftruncate(theirs.get(), 0), 0) << "its maker cannot take it back";
  // One that was sealed against sealing stays what everybody can shorten.
  expect_refused(SharedMemory::attach(memfd(kPage, 0), kPage, {}), ErrorKind::kInput,
                 "not sealed and that others can write (mode 777)");
}

TEST(SharedMemory, WhatIsNotAsLargeAsWantedIsRefused) {
  expect_refused(SharedMemory::attach(memfd(kPage), 2 * kPage, {}), ErrorKind::kInput,
                 "shared memory of 8192 bytes, the file has 4096");
  expect_refused(SharedMemory::attach(memfd(3 * kPage), 2 * kPage, {}), ErrorKind::kInput, "the file has 12288");
  expect_refused(SharedMemory::attach(memfd(kPage), 0, {}), ErrorKind::kUsage, "0 bytes");
}

TEST(SharedMemory, DescriptorsThatCannotBeMappedAreRefused) {
  expect_refused(SharedMemory::attach(UniqueFd(), kPage, {}), ErrorKind::kHost, "descriptor -1");
  const UniqueFd file = memfd(kPage);
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  expect_refused(SharedMemory::attach(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), kPage, {}),
                 ErrorKind::kInput, "not open for reading and writing");
  expect_refused(SharedMemory::attach(UniqueFd(::open(path.c_str(), O_WRONLY | O_CLOEXEC)), kPage, {.writable = false}),
                 ErrorKind::kInput, "not open for reading");
  expect_refused(SharedMemory::attach(UniqueFd(::open("/dev/zero", O_RDWR | O_CLOEXEC)), kPage, {}), ErrorKind::kInput,
                 "shared memory that is no file");
}

class SharedFile : public ::testing::Test {
 protected:
  void SetUp() override {
    const UniqueFd fd(::mkstemp(path_.data()));
    ASSERT_TRUE(fd);
    ASSERT_EQ(::ftruncate(fd.get(), 3 * kPage), 0);
  }
  void TearDown() override { ::unlink(path_.c_str()); }
  std::string path_ = "/dev/shm/warmfork-test-XXXXXX";
};

TEST_F(SharedFile, OfThisUserIsTakenWithAllItsPages) {
  const auto memory = SharedMemory::attach(path_, 3 * kPage, {});
  ASSERT_TRUE(memory) << memory.error().message;
  EXPECT_FALSE((*memory)->sealed());
  EXPECT_EQ(resident(**memory), 3U);
  (*memory)->bytes()[0] = std::byte{1};
  const auto reading = SharedMemory::attach(path_, 3 * kPage, {.writable = false});
  ASSERT_TRUE(reading) << reading.error().message;
  EXPECT_EQ((*reading)->bytes()[0], std::byte{1});
}

TEST_F(SharedFile, ThatOthersCanWriteIsRefused) {
  for (const mode_t mode : {0620U, 0602U, 0666U}) {
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    expect_refused(SharedMemory::attach(path_, 3 * kPage, {}), ErrorKind::kInput, "that others can write");
  }
  ASSERT_EQ(::chmod(path_.c_str(), 0644), 0);
  EXPECT_TRUE(SharedMemory::attach(path_, 3 * kPage, {}));
  if (::geteuid() != 0) return;
  ASSERT_EQ(::chown(path_.c_str(), 12345, 12345), 0);
  expect_refused(SharedMemory::attach(path_, 3 * kPage, {}), ErrorKind::kInput,
                 "belongs to user 12345, not to 0 or root");
}

TEST_F(SharedFile, BehindALinkOrOfAnotherKindIsRefused) {
  const std::string link = path_ + "-link";
  ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
  expect_refused(SharedMemory::attach(link, 3 * kPage, {}), ErrorKind::kHost, link + ": Too many levels");
  ::unlink(link.c_str());
  ASSERT_EQ(::mkfifo(link.c_str(), 0600), 0);
  expect_refused(SharedMemory::attach(link, kPage, {}), ErrorKind::kInput, link + ": shared memory that is no file");
  ::unlink(link.c_str());
  expect_refused(SharedMemory::attach(link, kPage, {}), ErrorKind::kHost, "No such file");
  expect_refused(SharedMemory::attach(path_, kPage, {}), ErrorKind::kInput, "the file has 12288");
}

}  // namespace
}  // namespace warmfork
