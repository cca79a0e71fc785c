#include "bench/numa.hpp"

#include <fmt/format.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <filesystem>
#include <fstream>

namespace warmfork::bench {
namespace {

constexpr int kMostNodes = 1024;  // MAX_NUMNODES of Linux on x86-64

std::string line_of(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

}  // namespace

std::vector<int> parse_number_list(const std::string& text) {
  std::vector<int> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    int first = 0;
    const auto [after_first, error] = std::from_chars(at, end, first);
    int last = first;
    at = after_first;
    if (error != std::errc{} || first < 0) return {};
    if (at != end && *at == '-') {
      const auto [after_last, last_error] = std::from_chars(at + 1, end, last);
      if (last_error != std::errc{}) return {};
      at = after_last;
    }
    if (last < first || last >= kMostNodes) return {};
    for (int number = first; number <= last; ++number) numbers.push_back(number);
    if (at == end) break;
    if (*at != ',' || ++at == end) return {};
  }
  std::ranges::sort(numbers);
  return numbers;
}

std::vector<int> memory_nodes() {
  std::vector<int> nodes = parse_number_list(line_of("/sys/devices/system/node/has_memory"));
  if (nodes.empty()) nodes.push_back(0);
  return nodes;
}

int node_of_cpu(int cpu) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/sys/devices/system/cpu/cpu{}", cpu), error)) {
    const std::string name = entry.path().filename();
    int node = 0;
    const char* const end = name.data() + name.size();
    if (!name.starts_with("node")) continue;
    if (const auto [after, bad] = std::from_chars(name.data() + 4, end, node); bad == std::errc{} && after == end)
      return node;
  }
  return -1;
}

Status place_on(std::span<std::byte> memory, const std::vector<int>& nodes) {
  constexpr std::size_t kBits = sizeof(unsigned long) * CHAR_BIT;
  std::array<unsigned long, kMostNodes / kBits> mask{};
  for (const int node : nodes) {
    if (node < 0 || node >= kMostNodes) return fail(ErrorKind::kUsage, "NUMA node {}: 0 … {}", node, kMostNodes - 1);
    mask.at(static_cast<std::size_t>(node) / kBits) |= 1UL << (static_cast<std::size_t>(node) % kBits);
  }
  if (nodes.empty()) return fail(ErrorKind::kUsage, "memory on no NUMA node");
  const int mode = nodes.size() == 1 ? MPOL_BIND : MPOL_INTERLEAVE;
  // SAFETY: changes where pages come from, not what they hold. The kernel counts one bit less than it is told.
  if (::syscall(SYS_mbind, memory.data(), memory.size(), mode, mask.data(), kMostNodes + 1, 0) != 0) {
    if (errno == ENOSYS || errno == EPERM) return fail(ErrorKind::kUnsupported, "mbind is not to be had here");
    return fail_errno("mbind of {} bytes", memory.size());
  }
  return {};
}

}  // namespace warmfork::bench
