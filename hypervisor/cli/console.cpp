#include "console.hpp"

#include "exit_codes.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace warmfork::cli {
namespace {

std::atomic<Guest*> interrupted_guest{nullptr};
std::atomic<int> interrupts{0};

// Async-signal-safe: an atomic load, an atomic store and tgkill.
void on_interrupt(int signal) {
  Guest* guest = interrupted_guest.load();
  if (guest == nullptr || interrupts.fetch_add(1) > 0) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
    return;
  }
  guest->cancel();
}

struct Unit {
  std::string_view suffix;
  double factor;
};

template <std::size_t N>
Result<std::uint64_t> parse_with_units(std::string_view text, const Unit (&units)[N], std::string_view what) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const Unit& unit : units) {
    if (error != std::errc{} || suffix != unit.suffix) continue;
    const double result = value * unit.factor;
    if (!(result >= 0) || result > 9e18) break;
    return static_cast<std::uint64_t>(std::llround(result));
  }
  return fail(ErrorKind::kUsage, "\"{}\" is not a {}", text, what);
}

}  // namespace

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

std::pair<int, int> choose_cpus() {
  const std::vector<int> cpus = usable_cpus();
  return {cpus.back(), cpus.front()};
}

bool use_colour(int fd) {
  const char* const refused = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return ::isatty(fd) == 1 && (refused == nullptr || *refused == '\0') &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}
bool use_colour() { return use_colour(STDERR_FILENO); }

const char* error_prefix() { return use_colour() ? "\033[1;31mwarmfork:\033[0m" : "warmfork:"; }

void print_message(std::string_view text) {
  // Unlike fmt::print(), which throws: out of an error handler there is nowhere to go.
  [[maybe_unused]] const std::size_t put = std::fwrite(text.data(), 1, text.size(), stderr);
}

int report(const Error& error) {
  print_message("{} {}\n", error_prefix(), error.message);
  return exit_code(error.kind);
}

int report(const Error& error, const Guest& guest) {
  const int code = report(error);
  if (guest.fault()) print_message("{}\n", guest.fault()->to_text());
  return code;
}

std::string& kvm_device() {
  static std::string device = "/dev/kvm";
  return device;
}

Result<kvm::Kvm> open_kvm() { return kvm::Kvm::open(kvm_device()); }

Result<std::uint64_t> parse_duration(std::string_view text) {
  static constexpr Unit kUnits[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"", 1e9}};
  const auto duration = parse_with_units(text, kUnits, "duration (examples: 250ms, 2s, 1.5m)");
  if (duration && *duration == 0)
    return fail(ErrorKind::kUsage, "\"{}\" is no time at all; leave the option out for none", text);
  return duration;
}

Result<std::uint64_t> parse_size(std::string_view text) {
  static constexpr Unit kUnits[] = {{"", 1}, {"K", 1024}, {"M", 1048576}, {"G", 1073741824}};
  return parse_with_units(text, kUnits, "size (examples: 4096, 128K, 64M, 1G)");
}

Result<std::uint64_t> parse_count(std::string_view text, std::string_view what) {
  std::uint64_t whole = 0;  // exact also beyond what a double holds
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
  if (error == std::errc{} && end == text.data() + text.size()) return whole;
  static constexpr Unit kUnits[] = {{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}};
  return parse_with_units(text, kUnits, fmt::format("{} (examples: 1000, 10k, 2M, 1G)", what));
}

InterruptGuard::InterruptGuard(Guest& guest) {
  interrupts.store(0);
  interrupted_guest.store(&guest);
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &previous_[i]);
    // What the caller of this process ignores (nohup, a job in the background) stays ignored.
    if (previous_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  interrupted_guest.store(nullptr);
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous_[i], nullptr);
}

}  // namespace warmfork::cli
