#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace warmfork::test {
namespace {

struct Pipe {
  UniqueFd read, write;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
    read = UniqueFd(ends[0]);
    write = UniqueFd(ends[1]);
  }
};

}  // namespace

double seconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

Process::Process(const Arguments& arguments, StartOptions options) {
  ::signal(SIGPIPE, SIG_IGN);
  std::vector<char*> argv;
  std::string binary = WARMFORK_BINARY;
  argv.push_back(binary.data());
  Arguments words = arguments;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Pipe in;
  Pipe out;
  Pipe err;
  const UniqueFd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  start_ = seconds_now();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(options.input ? in.read.get() : nothing.get(), STDIN_FILENO);
    ::dup2(out.write.get(), STDOUT_FILENO);
    ::dup2(err.write.get(), STDERR_FILENO);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    if (options.address_space != 0) {
      const rlimit limit{options.address_space, options.address_space};
      ::setrlimit(RLIMIT_AS, &limit);
    }
    if (options.file_bytes != 0) {
      const rlimit limit{options.file_bytes, options.file_bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ::execv(binary.c_str(), argv.data());
    ::_exit(127);
  }
  out_ = std::move(out.read);
  err_ = std::move(err.read);
  if (options.input) {
    input_ = std::move(in.write);
    write(*options.input);
    if (!options.keep_input_open) close_input();
  }
}

Process::~Process() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Process::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(input_.get(), text.data(), text.size());
    if (put <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

void Process::send(int signal) const { ::kill(pid_, signal); }

// Reads once from whichever pipe has something. False when both have ended or the time is up.
bool Process::pump(double seconds) {
  std::array<pollfd, 2> ready{pollfd{.fd = out_ ? out_.get() : -1, .events = POLLIN, .revents = 0},
                              pollfd{.fd = err_ ? err_.get() : -1, .events = POLLIN, .revents = 0}};
  if ((!out_ && !err_) || ::poll(ready.data(), 2, static_cast<int>(seconds * 1000) + 1) <= 0) return false;
  for (std::size_t i = 0; i < 2; ++i) {
    if (ready[i].revents == 0) continue;
    std::array<char, 65536> bytes{};
    const ssize_t got = ::read(ready[i].fd, bytes.data(), bytes.size());
    if (got > 0) {
      (i == 0 ? ended_.out : ended_.err).append(bytes.data(), static_cast<std::size_t>(got));
    } else {
      (i == 0 ? out_ : err_) = UniqueFd();
    }
  }
  return true;
}

bool Process::wait_for_output(std::string_view text, double seconds) {
  const double deadline = seconds_now() + seconds;
  while (ended_.out.find(text) == std::string::npos) {
    if (seconds_now() >= deadline || !pump(deadline - seconds_now())) return false;
  }
  return true;
}

Ended Process::wait(double seconds) {
  const double deadline = seconds_now() + seconds;
  while ((out_ || err_) && seconds_now() < deadline) pump(deadline - seconds_now());
  if (out_ || err_) {
    ADD_FAILURE() << "still running after " << seconds << " s; output so far: " << ended_.out << ended_.err;
    ::kill(pid_, SIGKILL);
  }
  int status = 0;
  rusage usage{};
  ::wait4(pid_, &status, 0, &usage);
  pid_ = -1;
  const auto to_seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  ended_.seconds = seconds_now() - start_;
  ended_.cpu_seconds = to_seconds(usage.ru_utime) + to_seconds(usage.ru_stime);
  ended_.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return ended_;
}

Ended run_cli(const Arguments& arguments, StartOptions options) {
  return Process(arguments, std::move(options)).wait();
}

CliTest::CliTest() {
  std::string pattern = ::testing::TempDir() + "/warmfork-cli-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  directory_ = pattern;
}

CliTest::~CliTest() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string CliTest::file(const std::string& name, std::string_view content) const {
  std::ofstream(path(name), std::ios::binary) << content;
  return path(name);
}

void CliKvmTest::SetUp() {
  const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm) GTEST_SKIP() << "/dev/kvm: " << std::strerror(errno);
}

std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace warmfork::test
