// --trace-events FILE: a trace of what the verb did, for ui.perfetto.dev and chrome://tracing.
#pragma once

#include "base/result.hpp"

#include <CLI/CLI.hpp>
#include <memory>

namespace warmfork::cli {

/// Thrown where no Result can be returned; `code` is the process's.
struct CannotTrace {
  int code;
};

/// The trace of a process. One at a time; by the main thread.
class TraceFile {
 public:
  TraceFile();
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  /// Adds the options to a verb. This object must outlive it.
  void add_to(CLI::App& verb);
  /// Starts to record if the parsed verb was told to; before it runs. From here on a signal that ends the process
  /// because the verb does not handle it (SIGINT, SIGTERM, SIGHUP) does so after the file has been written. Throws
  /// CannotTrace, with the error reported.
  void begin();
  /// Writes the file, beside what was there, and puts it in its place. Returns `code`, or where that is success and the
  /// file could not be written, the code of that error, which is reported.
  [[nodiscard]] int finish(int code);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmfork::cli
