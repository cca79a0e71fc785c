// A directory that is gone with the object, with all that is in it.
#pragma once

#include "base/result.hpp"

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace warmfork::bench {

class TemporaryDirectory {
 public:
  /// Errors (kHost): names the directory that cannot be made.
  [[nodiscard]] static Result<TemporaryDirectory> make() {
    std::error_code error;
    const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
    if (error) return fail(ErrorKind::kHost, "no directory for temporary files (TMPDIR): {}", error.message());
    std::string path = (parent / "warmfork-bench-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) return fail_errno("a temporary directory, {}", path);
    return TemporaryDirectory(std::move(path));
  }
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace warmfork::bench
