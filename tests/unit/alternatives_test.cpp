// The processes that forks of a machine are compared with: that they do what they claim, and end as they should.
#include "bench/alternatives.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

namespace warmfork::bench {
namespace {

using ::testing::HasSubstr;

template <class Kind>
class AlternativesTest : public ::testing::Test {
 protected:
  static constexpr bool kResets = std::is_same_v<Kind, ProcessFork>;

  static std::unique_ptr<Kind> make(const AlternativeOptions& options = {}) {
    auto made = Kind::create(options);
    EXPECT_TRUE(made) << made.error().message;
    return made ? *std::move(made) : nullptr;
  }
};

using Kinds = ::testing::Types<ProcessFork, ProcessPipe, ProcessFutex>;
TYPED_TEST_SUITE(AlternativesTest, Kinds);

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Gone, or a zombie that its new parent has yet to wait for.
bool has_ended(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(stat), {}};
  const std::size_t name_end = text.rfind(')');
  return name_end == std::string::npos || text.at(name_end + 2) == 'Z';
}

bool ends_soon(pid_t pid) {
  for (int i = 0; i < 500 && !has_ended(pid); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return has_ended(pid);
}

TYPED_TEST(AlternativesTest, AnswersAThousandRequests) {
  const auto server = this->make();
  ASSERT_NE(server, nullptr);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    std::uint64_t answer = 0;
    const Status asked = server->request(i * 1000, answer);
    ASSERT_TRUE(asked) << asked.error().message;
    // What earlier requests left in the eight pages is in the answer: nothing after a fork, all of it otherwise.
    ASSERT_EQ(answer, i * 1000 + (this->kResets ? 0 : i * 8));
  }
}

TYPED_TEST(AlternativesTest, DirtiesAsManyPagesAsAskedFor) {
  for (const std::uint64_t dirty : {0U, 1U, 5U, 16U}) {
    const auto server = this->make({.window_bytes = 16 * 4096, .dirty_pages = dirty});
    ASSERT_NE(server, nullptr);
    std::uint64_t answer = 0;
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(server->request(7, answer));
    EXPECT_EQ(answer, 7 + (this->kResets ? 0 : 2 * dirty));
  }
}

TYPED_TEST(AlternativesTest, RefusesOptionsThatCannotBe) {
  for (const AlternativeOptions& options :
       {AlternativeOptions{.window_bytes = 0}, AlternativeOptions{.window_bytes = 5000},
        AlternativeOptions{.window_bytes = 4096, .dirty_pages = 2}}) {
    const auto refused = TypeParam::create(options);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  }
}

TYPED_TEST(AlternativesTest, AServerThatCannotStartSaysWhy) {
  const std::size_t before = open_descriptors();
  const auto pinned = TypeParam::create({.cpu = 1023});
  ASSERT_FALSE(pinned);
  EXPECT_EQ(pinned.error().kind, ErrorKind::kHost);
  EXPECT_THAT(pinned.error().message, HasSubstr("pinning"));
  const auto large = TypeParam::create({.window_bytes = std::uint64_t{1} << 60});
  ASSERT_FALSE(large);
  EXPECT_THAT(large.error().message, HasSubstr("window"));
  EXPECT_EQ(open_descriptors(), before);
}

TYPED_TEST(AlternativesTest, LeavesNeitherDescriptorsNorProcesses) {
  (void)this->make();  // what the first use of anything opens for good
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    const auto server = this->make();
    ASSERT_NE(server, nullptr);
    std::uint64_t answer = 0;
    ASSERT_TRUE(server->request(1, answer));
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TYPED_TEST(AlternativesTest, ServersDoNotInheritDescriptors) {
  const UniqueFd inheritable(::open("/dev/null", O_RDONLY));  // not close-on-exec, on purpose
  const auto server = this->make();
  ASSERT_NE(server, nullptr);
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(server->server_pid()) + "/fd");
  EXPECT_EQ(std::distance(begin(all), end(all)), (std::is_same_v<TypeParam, ProcessPipe> ? 5 : 3));
}

TYPED_TEST(AlternativesTest, ACrashIsAnErrorAndNotAHang) {
  const auto server = this->make({.crash_on = 13});
  ASSERT_NE(server, nullptr);
  std::uint64_t answer = 0;
  ASSERT_TRUE(server->request(12, answer));
  const Status crashed = server->request(13, answer);
  ASSERT_FALSE(crashed);
  EXPECT_EQ(crashed.error().kind, ErrorKind::kHost);
  EXPECT_THAT(crashed.error().message, HasSubstr("signal 4"));
  const Status next = server->request(14, answer);
  EXPECT_EQ(next.has_value(), this->kResets) << "only a forked child takes its crash with it";
  if (next) EXPECT_EQ(answer, 14U);
}

TYPED_TEST(AlternativesTest, AKilledServerIsAnErrorOfThisAndEveryLaterRequest) {
  const auto server = this->make();
  ASSERT_NE(server, nullptr);
  ASSERT_EQ(::kill(server->server_pid(), SIGKILL), 0);
  for (int i = 0; i < 3; ++i) {
    std::uint64_t answer = 0;
    // The first may still be answered: a signal takes its time.
    const Status asked = server->request(1, answer);
    if (i == 0 && asked) continue;
    ASSERT_FALSE(asked);
    EXPECT_THAT(asked.error().message, HasSubstr("signal 9"));
  }
  EXPECT_TRUE(has_ended(server->server_pid()));
}

TYPED_TEST(AlternativesTest, ServersOutliveTheThreadThatMadeThemButNotTheProcess) {
  std::unique_ptr<TypeParam> server;
  std::thread([&] { server = this->make(); }).join();
  ASSERT_NE(server, nullptr);
  std::uint64_t answer = 0;
  ASSERT_TRUE(server->request(5, answer));
  EXPECT_EQ(answer, 5U);
  server.reset();  // a forked copy of this process must not have it

  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd from(ends[0]);
  const UniqueFd to(ends[1]);
  const pid_t requester = ::fork();
  if (requester == 0) {
    const auto made = TypeParam::create({});
    const pid_t pid = made ? (*made)->server_pid() : -1;
    const bool told = ::write(to.get(), &pid, sizeof pid) == sizeof pid;
    ::_exit(told ? 0 : 1);  // with no destructor
  }
  pid_t pid = -1;
  ASSERT_EQ(::read(from.get(), &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  EXPECT_EQ(::waitpid(requester, nullptr, 0), requester);
  ASSERT_GT(pid, 0);
  EXPECT_TRUE(ends_soon(pid));
}

TEST(ProcessFork, MeasuresItselfToo) {
  const auto server = ProcessFork::create({});
  ASSERT_TRUE(server) << server.error().message;
  std::uint64_t answer = 0;
  ASSERT_TRUE((*server)->request(1, answer));
  EXPECT_GT((*server)->last_service_ticks(), 0U);
}

}  // namespace
}  // namespace warmfork::bench
