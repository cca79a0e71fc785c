// The exit codes of every verb. Documented in the README and by `warmfork --help`.
#pragma once

#include "base/result.hpp"

namespace warmfork::cli {

enum ExitCode : int {
  kSuccess = 0,
  kFailure = 1,         // the verb ran and its answer is no (a check failed, a regression was found)
  kUsageError = 2,      // the command line is off
  kInputError = 3,      // a file is missing, unreadable or not valid
  kHostError = 4,       // this machine lacks something: KVM, permission, memory
  kGuestError = 5,      // the guest faulted; the report is on standard error
  kBudgetEnd = 6,       // the instruction budget or another configured limit ended the run
  kTimeoutEnd = 7,      // the wall-clock timeout ended the run
  kInputEnd = 8,        // the program waits for input, and there is no more
  kInterrupted = 130,   // Ctrl-C; other signals that ask for an end: 128 + their number
  kOutputClosed = 141,  // nobody reads standard output any more (… | head); as if by SIGPIPE
};

[[nodiscard]] constexpr int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage: return kUsageError;
    case ErrorKind::kInput: return kInputError;
    case ErrorKind::kHost: return kHostError;
    case ErrorKind::kGuestFault: return kGuestError;
    case ErrorKind::kLimit: return kBudgetEnd;
    case ErrorKind::kDeadline: return kTimeoutEnd;
    case ErrorKind::kCancelled: return kInterrupted;
    case ErrorKind::kUnsupported: return kHostError;
  }
  return kFailure;
}

}  // namespace warmfork::cli
