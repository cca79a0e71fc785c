// Starts the warmfork binary as a user does and collects what it says. One thread.
#pragma once

#include "base/unique_fd.hpp"

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::test {

using Arguments = std::vector<std::string>;

/// How a process ended, and what it wrote.
struct Ended {
  int code = -1;  // exit code, or -signal
  std::string out;
  std::string err;
  double seconds = 0;
  double cpu_seconds = 0;
};

struct StartOptions {
  std::optional<std::string> input;  // written to its standard input, then closed; nothing: /dev/null
  bool keep_input_open = false;      // after writing `input`
  std::uint64_t address_space = 0;   // RLIMIT_AS in bytes; 0: none
  std::uint64_t file_bytes = 0;      // RLIMIT_FSIZE; 0: none
};

/// A running warmfork whose output is collected.
class Process {
 public:
  explicit Process(const Arguments& arguments, StartOptions options = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void write(std::string_view text);
  void close_input() { input_ = UniqueFd(); }
  void close_output() { out_ = UniqueFd(); }
  void send(int signal) const;
  /// Reads until standard output contains `text`; false after `seconds`.
  [[nodiscard]] bool wait_for_output(std::string_view text, double seconds = 10);
  /// Waits for the end; kills it after `seconds`, which is a failure.
  [[nodiscard]] Ended wait(double seconds = 60);

 private:
  bool pump(double seconds);

  pid_t pid_ = -1;
  UniqueFd input_, out_, err_;
  Ended ended_;
  double start_ = 0;
};

[[nodiscard]] Ended run_cli(const Arguments& arguments, StartOptions options = {});
[[nodiscard]] double seconds_now();

/// A directory that is gone after the test, with files in it.
class CliTest : public ::testing::Test {
 protected:
  CliTest();
  ~CliTest() override;
  /// Writes a file there and returns its path.
  std::string file(const std::string& name, std::string_view content) const;
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

 private:
  std::string directory_;
};

/// Skips where /dev/kvm cannot be opened.
class CliKvmTest : public CliTest {
 protected:
  void SetUp() override;
};

[[nodiscard]] std::string read_text(const std::string& path);

}  // namespace warmfork::test
