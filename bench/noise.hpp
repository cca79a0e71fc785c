// What disturbs a measurement from outside, measured around it: time the thread could have run and did not, time the
// host's hypervisor gave to others, switches it did not ask for, the load, the processor's frequency.
//
// The measuring thread marks where the measuring of some figures begins (NoiseMeter::begin()), and whoever makes a
// figure asks what has happened since. Threads: one meter per thread; it counts what happens to that thread and to the
// CPU it runs on when asked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace warmfork::bench {

struct Noise {
  double seconds = 0;            // that were watched
  double stolen_fraction = 0;    // of them: runnable but not running (schedstat), and steal of the CPU (/proc/stat)
  std::uint64_t switches = 0;    // involuntary context switches of the thread
  double load = 0;               // load average of one minute at the end
  double frequency_change = 0;   // of the CPU, as a fraction of what it was at the beginning; 0 where it is not told
  std::vector<std::string> why;  // what went beyond the limits below, with value and limit; empty: quiet

  [[nodiscard]] bool noisy() const { return !why.empty(); }
};

/// Beyond these a figure is marked. Stealing and load as seen on machines whose repeated medians still agree to within
/// 5 %, the default threshold of a verdict.
inline constexpr double kMostStolen = 0.02;
inline constexpr double kMostSwitchesPerSecond = 200;
inline constexpr double kMostLoadPerCpu = 1.5;
inline constexpr double kMostFrequencyChange = 0.05;

/// Fills noise.why by the limits. `cpus` are online.
void judge_noise(Noise& noise, int cpus);

/// Of several rounds: seconds and switches add up, stolen time is weighted by them, of the rest the worst.
[[nodiscard]] Noise together(const Noise& one, const Noise& other, int cpus);

/// How the machine is at one time.
struct MachineState {
  double load = 0;      // one minute
  double steal_ms = 0;  // of all CPUs since boot
};
[[nodiscard]] MachineState machine_state();

class NoiseMeter {
 public:
  /// Measuring of a group of figures begins, unless it has begun and none of them has been made yet.
  static void begin();
  /// What happened since; the next begin() starts anew. All zero if begin() was never called on this thread.
  [[nodiscard]] static Noise since_begin();
};

}  // namespace warmfork::bench
