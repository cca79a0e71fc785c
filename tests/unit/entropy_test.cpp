#include "base/entropy.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <set>
#include <thread>

namespace warmfork {
namespace {

using Bytes = std::array<std::byte, 32>;

Bytes draw() {
  Bytes bytes;
  draw_entropy(bytes);
  return bytes;
}

TEST(Entropy, NoDrawIsLikeAnother) {
  std::set<Bytes> seen;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(seen.insert(draw()).second);
  Bytes elsewhere;
  std::thread([&] { elsewhere = draw(); }).join();
  EXPECT_TRUE(seen.insert(elsewhere).second);
}

// Children, and their children, start with a copy of the generator.
TEST(Entropy, ChildrenDoNotRepeatTheirParent) {
  (void)draw();
  std::set<Bytes> seen;
  for (int child = 0; child < 3; ++child) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const pid_t id = ::fork();
    ASSERT_GE(id, 0);
    if (id == 0) {
      const pid_t grandchild = ::fork();
      const Bytes bytes = draw();
      const bool written = ::write(ends[1], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
      if (grandchild > 0) ::waitpid(grandchild, nullptr, 0);
      ::_exit(written && grandchild >= 0 ? 0 : 1);
    }
    int status = 1;
    ASSERT_EQ(::waitpid(id, &status, 0), id);
    EXPECT_EQ(status, 0);
    for (int i = 0; i < 2; ++i) {
      Bytes bytes;
      ASSERT_EQ(::read(ends[0], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
      EXPECT_TRUE(seen.insert(bytes).second) << "child " << child;
    }
    EXPECT_TRUE(seen.insert(draw()).second);
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

}  // namespace
}  // namespace warmfork
