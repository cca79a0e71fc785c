// What every verb shares for talking to people: errors in one form, colours only on a terminal, Ctrl-C.
#pragma once

#include "base/result.hpp"
#include "machine/guest.hpp"

#include <fmt/format.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace warmfork::cli {

/// Prints to standard error. That nobody can read it is no error of its own: the exit code still says what happened.
void print_message(std::string_view text);
template <class... Values>
void print_message(fmt::format_string<Values...> format, Values&&... values) {
  print_message(std::string_view(fmt::format(format, std::forward<Values>(values)...)));
}

/// Prints "warmfork: message" to standard error and returns the exit code of the error's kind.
int report(const Error& error);

/// As report(), with the fault report of a guest that a fault has ended.
int report(const Error& error, const Guest& guest);

/// "warmfork:", in red where use_colour().
[[nodiscard]] const char* error_prefix();

/// True if `fd` is a terminal that wants colours: NO_COLOR is not set or empty, TERM is not "dumb".
[[nodiscard]] bool use_colour(int fd);
/// The same of standard error.
[[nodiscard]] bool use_colour();

/// The device that open_kvm() opens: /dev/kvm, or what --kvm says.
[[nodiscard]] std::string& kvm_device();
[[nodiscard]] Result<kvm::Kvm> open_kvm();

/// "250ms", "2s", "1.5m", "800us", or plain seconds -> nanoseconds. Errors (kUsage) name the text.
[[nodiscard]] Result<std::uint64_t> parse_duration(std::string_view text);

/// "64M", "1G", "4096", "128K" -> bytes.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

/// A count: "1000", "10k", "2M", "1.5G" in powers of ten. `what` it counts is for errors.
[[nodiscard]] Result<std::uint64_t> parse_count(std::string_view text,
                                                std::string_view what = "number of instructions");

/// The CPUs this thread may use, ascending; at least one.
[[nodiscard]] std::vector<int> usable_cpus();
/// Two of the CPUs this process may use: the last for measuring (interrupts tend to go to the first), the first for the
/// partner of two-thread figures. The same twice if there is only one.
[[nodiscard]] std::pair<int, int> choose_cpus();

/// While it lives, Ctrl-C (SIGINT) and SIGTERM cancel the guest; a second one ends the process at once.
class InterruptGuard {
 public:
  explicit InterruptGuard(Guest& guest);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  static constexpr std::array<int, 2> kSignals{SIGINT, SIGTERM};
  std::array<struct sigaction, kSignals.size()> previous_{};
};

}  // namespace warmfork::cli
