#include "base/file.hpp"
#include "base/quiet_thread.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace warmfork {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
int open_null() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(UniqueFd, ClosesWhatItOwns) {
  const int fd = open_null();
  ASSERT_GE(fd, 0);
  {
    const UniqueFd owner(fd);
    EXPECT_TRUE(owner);
    EXPECT_TRUE(is_open(fd));
  }
  EXPECT_FALSE(is_open(fd));
}

TEST(UniqueFd, MovedFromOwnsNothing) {
  const int fd = open_null();
  UniqueFd from(fd);
  const UniqueFd to(std::move(from));
  EXPECT_EQ(to.get(), fd);
  EXPECT_FALSE(from);  // NOLINT(bugprone-use-after-move): what a moved-from owner holds is the rule under test
}

TEST(UniqueFd, AssignmentClosesTheOldAndSelfAssignmentDoesNot) {
  const int old_fd = open_null();
  const int new_fd = open_null();
  UniqueFd owner(old_fd);
  owner = UniqueFd(new_fd);
  EXPECT_FALSE(is_open(old_fd));
  EXPECT_TRUE(is_open(new_fd));
  UniqueFd& same = owner;
  owner = std::move(same);
  EXPECT_TRUE(is_open(new_fd));
}

Status refuse() { return fail(ErrorKind::kLimit, "vmcall {}: length {} > {}", 7, 70000, 65536); }

Status pass_on(bool& went_on) {
  WARMFORK_TRY(refuse());
  went_on = true;
  return {};
}

TEST(Result, TryReturnsTheErrorUnchangedAndStops) {
  bool went_on = false;
  const Status status = pass_on(went_on);
  ASSERT_FALSE(status);
  EXPECT_FALSE(went_on);
  EXPECT_EQ(status.error().kind, ErrorKind::kLimit);
  EXPECT_EQ(status.error().message, "vmcall 7: length 70000 > 65536");
}

TEST(Result, FailErrnoKeepsErrno) {
  errno = ENOENT;
  const Status status = fail_errno("open {}", "/x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().system_errno, ENOENT);
  EXPECT_EQ(status.error().message, "open /x: No such file or directory");
}

TEST(Result, ContextStandsInFrontAndKeepsTheKind) {
  const Status status = with_context(refuse().error(), "call");
  EXPECT_EQ(status.error().kind, ErrorKind::kLimit);
  EXPECT_EQ(status.error().message, "call: vmcall 7: length 70000 > 65536");
}

TEST(WriteFile, LeavesADeviceThatRefusesWhereItIs) {
  struct stat status{};
  if (::stat("/dev/full", &status) != 0 || !S_ISCHR(status.st_mode)) GTEST_SKIP() << "no /dev/full here";
  // A node of its own, should this go wrong; without the right to make one, the real one cannot be removed either.
  const std::string path = ::testing::TempDir() + "warmfork-full-" + std::to_string(::getpid());
  const bool made = ::mknod(path.c_str(), S_IFCHR | 0600, status.st_rdev) == 0;
  const std::string target = made ? path : "/dev/full";
  const auto written = write_file(target, "x", 1);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().system_errno, made && written.error().system_errno == EACCES ? EACCES : ENOSPC);
  EXPECT_EQ(::stat(target.c_str(), &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  if (made) ::unlink(path.c_str());
}

TEST(WriteFile, WritesAndReadsBack) {
  const std::string path = ::testing::TempDir() + "warmfork-file-" + std::to_string(::getpid());
  ASSERT_TRUE(write_file(path, "words", 5));
  const auto read = read_file(path, 5);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->size(), 5u);
  EXPECT_FALSE(read_file(path, 4));
  EXPECT_FALSE(read_file(::testing::TempDir(), 100));
  ::unlink(path.c_str());
}

TEST(QuietThread, BlocksEverySignalAndLeavesItsMakersMask) {
  const auto blocked = [] {
    sigset_t mask;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return std::pair(::sigismember(&mask, SIGINT), ::sigismember(&mask, SIGUSR2));
  };
  const auto before = blocked();
  std::pair<int, int> there;
  auto thread = start_quiet_thread("a test", [&] { there = blocked(); });
  ASSERT_TRUE(thread) << thread.error().message;
  thread->join();
  EXPECT_EQ(there, std::pair(1, 1));
  EXPECT_EQ(blocked(), before);
}

}  // namespace
}  // namespace warmfork
