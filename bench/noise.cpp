#include "bench/noise.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace warmfork::bench {
namespace {

struct Reading {
  double seconds = 0;  // of a steady clock
  double waited_ns = 0;
  double steal_ms = 0;  // of `cpu`
  std::uint64_t switches = 0;
  double megahertz = 0;  // 0: not told
  int cpu = 0;
};

double number_in(const std::string& path) {
  double value = 0;
  std::ifstream(path) >> value;
  return value;
}

// The steal time of a line "cpu…" of /proc/stat (proc_stat(5): the eighth number), in ms; 0 where there is none.
double steal_ms(const std::string& name) {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    if (!(words >> first) || first != name) continue;
    double value = 0;
    for (int i = 0; i < 8; ++i) {
      if (!(words >> value)) return 0;
    }
    return value * 1000 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
  return 0;
}

Reading read() {
  Reading now;
  now.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  now.cpu = std::max(::sched_getcpu(), 0);
  double ran = 0;
  std::ifstream("/proc/thread-self/schedstat") >> ran >> now.waited_ns;
  now.steal_ms = steal_ms(fmt::format("cpu{}", now.cpu));
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  now.switches = static_cast<std::uint64_t>(usage.ru_nivcsw);
  // What virtual machines show in /proc/cpuinfo is a constant; only this follows the processor.
  now.megahertz = number_in(fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq", now.cpu)) / 1000;
  return now;
}

struct Meter {
  Reading since;
  bool running = false;
  bool used = false;  // a figure has been made since
};
thread_local Meter meter;

}  // namespace

void judge_noise(Noise& noise, int cpus) {
  noise.why.clear();
  const auto check = [&](double value, double limit, const char* what, double shown, double shown_limit,
                         const char* unit) {
    if (value > limit) noise.why.push_back(fmt::format("{} {:.3g}{} (limit {:.3g})", what, shown, unit, shown_limit));
  };
  check(noise.stolen_fraction, kMostStolen, "stolen", noise.stolen_fraction * 100, kMostStolen * 100, " %");
  const double rate = noise.seconds > 0 ? static_cast<double>(noise.switches) / noise.seconds : 0;
  check(rate, kMostSwitchesPerSecond, "switches", rate, kMostSwitchesPerSecond, "/s");
  const double load = noise.load / std::max(cpus, 1);
  check(load, kMostLoadPerCpu, "load per CPU", load, kMostLoadPerCpu, "");
  check(std::abs(noise.frequency_change), kMostFrequencyChange, "frequency change",
        std::abs(noise.frequency_change) * 100, kMostFrequencyChange * 100, " %");
}

Noise together(const Noise& one, const Noise& other, int cpus) {
  Noise sum;
  sum.seconds = one.seconds + other.seconds;
  if (sum.seconds > 0) {
    sum.stolen_fraction = (one.stolen_fraction * one.seconds + other.stolen_fraction * other.seconds) / sum.seconds;
  }
  sum.switches = one.switches + other.switches;
  sum.load = std::max(one.load, other.load);
  sum.frequency_change =
      std::abs(one.frequency_change) > std::abs(other.frequency_change) ? one.frequency_change : other.frequency_change;
  judge_noise(sum, cpus);
  return sum;
}

MachineState machine_state() { return {.load = number_in("/proc/loadavg"), .steal_ms = steal_ms("cpu")}; }

void NoiseMeter::begin() {
  if (meter.running && !meter.used) return;
  meter = {.since = read(), .running = true, .used = false};
}

Noise NoiseMeter::since_begin() {
  Noise noise;
  if (!meter.running) return noise;
  meter.used = true;
  const Reading now = read();
  const Reading& then = meter.since;
  noise.seconds = now.seconds - then.seconds;
  if (noise.seconds > 0) {
    // The steal of another CPU, if the thread was moved, says nothing.
    const double stolen_ms = now.cpu == then.cpu ? now.steal_ms - then.steal_ms : 0;
    noise.stolen_fraction =
        std::clamp(((now.waited_ns - then.waited_ns) / 1e9 + stolen_ms / 1000) / noise.seconds, 0.0, 1.0);
  }
  noise.switches = now.switches - then.switches;
  noise.load = number_in("/proc/loadavg");
  if (then.megahertz > 0 && now.megahertz > 0) noise.frequency_change = now.megahertz / then.megahertz - 1;
  judge_noise(noise, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
  return noise;
}

}  // namespace warmfork::bench
