// What /proc says of this process.
#pragma once

namespace warmfork::metrics {

struct ProcessNumbers {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double open_fds = 0;
  double start_seconds = 0;  // since 1970; 0: not known
};

/// Any thread. What cannot be read is 0.
[[nodiscard]] ProcessNumbers process_numbers();

}  // namespace warmfork::metrics
