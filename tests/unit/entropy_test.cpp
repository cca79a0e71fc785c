#include "base/entropy.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

namespace warmfork {
namespace {

std::uint64_t draw_word() {
  std::uint64_t word = 0;
  draw_entropy(std::as_writable_bytes(std::span(&word, 1)));
  return word;
}

TEST(Entropy, WordsDoNotRepeatWithinAndBetweenThreads) {
  constexpr std::size_t kWords = 5000;
  std::vector<std::vector<std::uint64_t>> drawn(4);
  {
    std::vector<std::jthread> threads;
    for (auto& words : drawn) {
      threads.emplace_back([&words] {
        for (std::size_t i = 0; i < kWords; ++i) words.push_back(draw_word());
      });
    }
  }
  std::set<std::uint64_t> all;
  for (const auto& words : drawn) all.insert(words.begin(), words.end());
  EXPECT_EQ(all.size(), drawn.size() * kWords);
}

TEST(Entropy, FillsAnySizeAndEveryByte) {
  for (const std::size_t size : {0U, 1U, 31U, 992U, 993U, 5000U}) {
    std::vector<std::byte> ever_set(size);
    for (int round = 0; round < 64; ++round) {
      std::vector<std::byte> bytes(size);
      draw_entropy(bytes);
      for (std::size_t i = 0; i < size; ++i) ever_set[i] |= bytes[i];
    }
    for (const std::byte byte : ever_set) EXPECT_EQ(byte, std::byte{0xff});
  }
}

TEST(Entropy, AChildProcessDoesNotRepeatItsParent) {
  (void)draw_word();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::uint64_t word = draw_word();
    ::_exit(::write(ends[1], &word, sizeof word) == sizeof word ? 0 : 1);
  }
  std::uint64_t of_child = 0;
  EXPECT_EQ(::read(ends[0], &of_child, sizeof of_child), static_cast<ssize_t>(sizeof of_child));
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (int i = 0; i < 200; ++i) EXPECT_NE(draw_word(), of_child);
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace warmfork
