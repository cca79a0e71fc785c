// Baselines: result files with names, in one directory. They appear whole or not at all (a temporary file that is
// renamed), so that a full disk or an interruption leaves the old one.
//
// Threads: any; two processes may save under one name, the last wins.
#pragma once

#include "base/result.hpp"
#include "bench/result_file.hpp"

#include <string>
#include <vector>

namespace warmfork::bench {

class Baselines {
 public:
  /// `directory`; empty: $XDG_DATA_HOME/warmfork/baselines, or ~/.local/share/warmfork/baselines. It need not exist.
  /// Errors: kUsage, there is no default because neither XDG_DATA_HOME (absolute) nor HOME is set.
  [[nodiscard]] static Result<Baselines> at(const std::string& directory);

  [[nodiscard]] const std::string& directory() const { return directory_; }

  /// Makes sure that a baseline can be saved: makes the directory, and a file in it. So a run of minutes does not end
  /// with a directory that cannot be written. Errors: kUsage (name), kHost (names the directory).
  [[nodiscard]] Status prepare(const std::string& name) const;
  /// Replaces the baseline `name`. Errors: kUsage (name), kHost (names the file; the old one is as it was).
  [[nodiscard]] Status save(const std::string& name, const std::string& json) const;
  /// Errors: kUsage (name), kInput: there is none (names those there are), or its file is no result file.
  [[nodiscard]] Result<ResultFile> load(const std::string& name) const;
  /// Errors: kUsage (name), kInput (there is none), kHost.
  [[nodiscard]] Status remove(const std::string& name) const;
  /// The names, sorted. A directory that does not exist has none. Errors: kHost.
  [[nodiscard]] Result<std::vector<std::string>> names() const;

 private:
  explicit Baselines(std::string directory) : directory_(std::move(directory)) {}
  [[nodiscard]] Result<std::string> path(const std::string& name) const;
  std::string directory_;
};

}  // namespace warmfork::bench
