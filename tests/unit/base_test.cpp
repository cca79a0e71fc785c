#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
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

}  // namespace
}  // namespace warmfork
