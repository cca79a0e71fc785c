// Where, when and with what build a run took place: what is written beside its figures.
#pragma once

#include "bench/noise.hpp"

#include <string>
#include <vector>

namespace warmfork::bench {

/// The version of the result file's form. Figures of files with different ones are not compared.
inline constexpr int kSchema = 1;

/// Where a run took place.
struct Context {
  std::string date;    // ISO 8601
  std::string commit;  // of the build, "unknown" outside a repository
  std::string cpu;
  std::string kernel;
  std::string kvm_backend;  // "pvm", "svm", "vmx"
  int cpus = 0;
  std::vector<int> pinned;
  std::string build;  // build type and compiler
  // By so much the clock advances that latencies are read from (tsc_step_ticks()); 0: an older file, which does not
  // say.
  double clock_step_ns = 0;
  int schema = kSchema;
  bool partial = false;  // interrupted: some figures, or rounds of them, are missing
  unsigned rounds = 1;
  double effort = 1;
  MachineState before = {};
  MachineState after = {};
};

[[nodiscard]] Context make_context(std::string kvm_backend, std::string cpu, std::vector<int> pinned);

}  // namespace warmfork::bench
