#include "metrics/process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <ctime>
#include <string_view>

namespace warmfork::metrics {
namespace {

// All of a small file; fields of /proc are numbers of blanks apart.
template <std::size_t N>
std::string_view read_small(const char* path, std::array<char, N>& buffer) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  const ssize_t got = ::read(fd, buffer.data(), buffer.size());
  ::close(fd);
  return {buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

double field(std::string_view text, unsigned number) {
  for (; number > 0; --number) {
    const std::size_t blank = text.find(' ');
    if (blank == std::string_view::npos) return 0;
    text.remove_prefix(blank + 1);
  }
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

double count_descriptors() {
  DIR* const directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  double count = -3;  // ".", ".." and the directory itself
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count > 0 ? count : 0;
}

}  // namespace

ProcessNumbers process_numbers() {
  ProcessNumbers numbers;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    numbers.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  std::array<char, 1024> buffer;
  const std::string_view statm = read_small("/proc/self/statm", buffer);
  numbers.resident_bytes = field(statm, 1) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  numbers.open_fds = count_descriptors();
  // proc(5): (22) starttime, in clock ticks since boot; the name in field 2 may hold blanks.
  const std::string_view stat = read_small("/proc/self/stat", buffer);
  const std::size_t behind_name = stat.rfind(')');
  if (behind_name == std::string_view::npos) return numbers;
  const double ticks = field(stat.substr(behind_name), 20);
  timespec boot{}, now{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto seconds = [](const timespec& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  numbers.start_seconds = seconds(now) - seconds(boot) + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return numbers;
}

}  // namespace warmfork::metrics
