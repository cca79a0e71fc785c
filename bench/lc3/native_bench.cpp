// lc3_native_bench: the interpreters on this processor, without a hypervisor, against the plain C switch.
//
// The contenders run each kernel in turn, round by round, so that whatever else the machine does hits all of them; the
// figure of a contender is the median of its rounds, the ratio the median of the per-round ratios.
//   usage: lc3_native_bench [ROUNDS]     pin it: taskset -c 1 lc3_native_bench
#include "lc3/core/engine.hpp"
#include "switch_interpreter.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace {

using namespace warmfork::lc3;

struct Kernel {
  const char* name;
  std::vector<std::uint16_t> words;  // from x3000; loops for ever
};

const std::vector<Kernel>& kernels() {
  static const std::vector<Kernel> all = {
      // Three instructions: the classic countdown.
      {"loop3",
       {0x54a0,    // AND R2, R2, #0
        0x14bf,    // loop: ADD R2, R2, #-1
        0x1042,    //       ADD R0, R1, R2
        0x0bfd,    //       BRnp loop
        0x0ffb}},  //       BRnzp to the AND
      // Register arithmetic: a small mixing function.
      {"alu",
       {0x5020,    // AND R0, R0, #0
        0x1261,    // loop: ADD R1, R1, #1
        0x1001,    //       ADD R0, R0, R1
        0x943f,    //       NOT R2, R0
        0x5681,    //       AND R3, R2, R1
        0x16c0,    //       ADD R3, R3, R0
        0x18c3,    //       ADD R4, R3, R3
        0x5b26,    //       AND R5, R4, #6
        0x1145,    //       ADD R0, R5, R5
        0x0ff7}},  //       BRnzp loop
      // Memory: adds a table of 64 words into another, over and over.
      {"mem",
       {0xe264,    // start: LEA R1, #100
        0x147f,    //        ADD R2, R1, #-1
        0x5920,    //        AND R4, R4, #0 ... count
        0x192f,    //        ADD R4, R4, #15
        0x192f,    //        ADD R4, R4, #15
        0x6040,    // loop:  LDR R0, R1, #0
        0x6681,    //        LDR R3, R2, #1
        0x1003,    //        ADD R0, R0, R3
        0x7060,    //        STR R0, R1, #-32
        0x1261,    //        ADD R1, R1, #1
        0x14a1,    //        ADD R2, R2, #1
        0x193f,    //        ADD R4, R4, #-1
        0x03f8,    //        BRp loop
        0x0ff2}},  //        BRnzp start
      // Calls.
      {"call",
       {0x4803,    // loop: JSR f
        0x1021,    //       ADD R0, R0, #1
        0x4801,    //       JSR f
        0x0ffc,    //       BRnzp loop
        0x1261,    // f:    ADD R1, R1, #1
        0xc1c0}},  //       RET
  };
  return all;
}

/// Time on the processor, not on the wall: the slower contender's rounds are longer, so preemption would hit it more.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double seconds(auto&& function) {
  const double begin = thread_seconds();
  function();
  return thread_seconds() - begin;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 21;
  if (rounds < 1) return std::fprintf(stderr, "usage: lc3_native_bench [ROUNDS >= 1]\n"), 2;
  constexpr std::uint64_t kPerRound = 5'000'000;

  const auto fast = std::make_unique<State>();
  const auto careful = std::make_unique<State>();
  const auto yardstick = std::make_unique<SwitchMachine>();
  std::printf("%-6s %12s %12s %12s   %s\n", "kernel", "switch M/s", "careful M/s", "fast M/s", "fast/switch");
  for (const Kernel& kernel : kernels()) {
    for (State* state : {fast.get(), careful.get()}) {
      initialise(*state, kDefaultConfig);
      if (!load(*state, kUserBase, kernel.words.data(), kernel.words.size())) return 1;
    }
    std::memset(yardstick.get(), 0, sizeof *yardstick);
    std::copy(kernel.words.begin(), kernel.words.end(), yardstick->memory + kUserBase);
    yardstick->pc = kUserBase;
    yardstick->condition = 2;
    yardstick->registers[6] = kInitialR6;

    std::vector<double> switch_rate, careful_rate, fast_rate, ratio;
    for (long round = 0; round < rounds; ++round) {
      const double t_switch = seconds([&] { switch_run(yardstick.get(), kPerRound); });
      const double t_fast = seconds([&] { run_fast(*fast, kPerRound); });
      const double t_careful = seconds([&] { run_careful(*careful, kPerRound); });
      switch_rate.push_back(kPerRound / t_switch / 1e6);
      fast_rate.push_back(kPerRound / t_fast / 1e6);
      careful_rate.push_back(kPerRound / t_careful / 1e6);
      ratio.push_back(t_switch / t_fast);
    }
    // A benchmark of machines that disagree would measure nothing.
    if (std::memcmp(fast->registers, yardstick->registers, sizeof fast->registers) != 0 ||
        std::memcmp(careful->registers, yardstick->registers, sizeof careful->registers) != 0 ||
        std::memcmp(fast->memory, yardstick->memory, std::size_t{2} * kDeviceBase) != 0 || fast->pc != yardstick->pc) {
      return std::fprintf(stderr, "%s: the machines disagree\n", kernel.name), 1;
    }
    std::printf("%-6s %12.0f %12.0f %12.0f   %.2f\n", kernel.name, median(switch_rate), median(careful_rate),
                median(fast_rate), median(ratio));
  }
  return 0;
}
