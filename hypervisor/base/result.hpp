// Errors as values. Every fallible function of the host returns Result<T>; library code never prints,
// and throws nothing of its own; std::bad_alloc passes through it.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace warmfork {

/// What went wrong, by who can mend it. The CLI maps each kind to a documented exit code (cli/exit_codes.hpp).
enum class ErrorKind {
  kUsage,        // the caller's words are off
  kInput,        // a file or bytes given by the user are not valid
  kHost,         // the host lacks something: /dev/kvm, a capability, memory, file descriptors
  kGuestFault,   // the guest did something that ended it
  kDeadline,     // wall-clock deadline passed
  kCancelled,    // stopped from another thread or by a signal
  kLimit,        // a configured limit (memory, instruction budget) was reached
  kUnsupported,  // valid, but not supported here
};

/// An error: its kind and one sentence that names what, value and limit.
struct Error {
  ErrorKind kind;
  std::string message;
  int system_errno = 0;  // errno of the failed system call, 0 if none
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;
using Failure = tl::unexpected<Error>;

/// Makes an error of a kind from a format string.
template <class... Args>
[[nodiscard]] Failure fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return Failure(Error{kind, fmt::format(format, std::forward<Args>(args)...), 0});
}

/// As fail(kHost, …), with the text of errno appended. Call it before errno can change.
template <class... Args>
[[nodiscard]] Failure fail_errno(fmt::format_string<Args...> format, Args&&... args) {
  const int saved = errno;
  return Failure(Error{ErrorKind::kHost,
                       fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...), std::strerror(saved)),
                       saved});
}

/// Passes an error on, with context in front of its message.
[[nodiscard]] inline Failure with_context(Error error, std::string_view context) {
  error.message = fmt::format("{}: {}", context, error.message);
  return Failure(std::move(error));
}

}  // namespace warmfork

/// Returns the error of a Status/Result expression to the caller, if there is one.
#define WARMFORK_TRY(expression)                                                                                      \
  do {                                                                                                                \
    if (auto warmfork_try = (expression); !warmfork_try) return ::warmfork::Failure(std::move(warmfork_try).error()); \
  } while (false)

#define WARMFORK_CONCAT_(a, b) a##b
#define WARMFORK_CONCAT(a, b) WARMFORK_CONCAT_(a, b)
#define WARMFORK_TRY_ASSIGN_(temporary, declaration, expression)            \
  auto temporary = (expression);                                            \
  if (!temporary) return ::warmfork::Failure(std::move(temporary).error()); \
  declaration = *std::move(temporary)

/// `WARMFORK_TRY_ASSIGN(auto x, f())`: declares x with the value of f(), or returns f()'s error to the caller.
#define WARMFORK_TRY_ASSIGN(declaration, expression) \
  WARMFORK_TRY_ASSIGN_(WARMFORK_CONCAT(warmfork_result_, __LINE__), declaration, expression)
