#include "bench/baseline.hpp"

#include "base/file.hpp"
#include "base/printable.hpp"
#include "base/unique_fd.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace warmfork::bench {
namespace {

constexpr std::string_view kExtension = ".json";
constexpr std::size_t kLongestName = 64;

// Names are file names: nothing that leads elsewhere, hides, or looks like an option.
bool is_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && name.size() <= kLongestName && letter(name[0]) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || c == '-' || c == '.'; });
}

}  // namespace

Result<Baselines> Baselines::at(const std::string& directory) {
  if (!directory.empty()) return Baselines(directory);
  const char* data = std::getenv("XDG_DATA_HOME");  // NOLINT(concurrency-mt-unsafe): nothing here changes it
  if (data != nullptr && data[0] == '/') return Baselines(std::string(data) + "/warmfork/baselines");
  const char* home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
  if (home != nullptr && home[0] == '/') return Baselines(std::string(home) + "/.local/share/warmfork/baselines");
  return fail(ErrorKind::kUsage,
              "no directory for baselines: neither XDG_DATA_HOME nor HOME is set; give --baseline-dir");
}

Result<std::string> Baselines::path(const std::string& name) const {
  if (is_name(name)) return fmt::format("{}/{}{}", directory_, name, kExtension);
  return fail(ErrorKind::kUsage,
              "baseline name \"{}\": 1 to {} letters, digits, '_', '-' and '.', the first a letter, digit or '_'",
              printable(name), kLongestName);
}

Status Baselines::prepare(const std::string& name) const {
  WARMFORK_TRY_ASSIGN(const std::string file, path(name));
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (error) return fail(ErrorKind::kHost, "{}: {}", directory_, error.message());
  std::string probe = directory_ + "/.probe-XXXXXX";
  const UniqueFd fd(::mkstemp(probe.data()));
  if (!fd) return fail_errno("{}: a baseline cannot be saved there", directory_);
  ::unlink(probe.c_str());
  return {};
}

Status Baselines::save(const std::string& name, const std::string& json) const {
  WARMFORK_TRY(prepare(name));
  WARMFORK_TRY_ASSIGN(const std::string file, path(name));
  return replace_file(file, [&](int fd) { return write_all(fd, std::as_bytes(std::span(json)), file); });
}

Result<ResultFile> Baselines::load(const std::string& name) const {
  WARMFORK_TRY_ASSIGN(const std::string file, path(name));
  if (::access(file.c_str(), F_OK) != 0) {
    const auto there = names();
    return fail(ErrorKind::kInput, "no baseline \"{}\" in {} (there {})", name, directory_,
                !there || there->empty() ? "are none" : fmt::format("are: {}", fmt::join(*there, ", ")));
  }
  return read_result(file);
}

Status Baselines::remove(const std::string& name) const {
  WARMFORK_TRY_ASSIGN(const std::string file, path(name));
  if (::unlink(file.c_str()) == 0) return {};
  if (errno == ENOENT) return fail(ErrorKind::kInput, "no baseline \"{}\" in {}", name, directory_);
  return fail_errno("{}", file);
}

Result<std::vector<std::string>> Baselines::names() const {
  std::vector<std::string> found;
  std::error_code error;
  std::filesystem::directory_iterator entries(directory_, error);
  if (error == std::errc::no_such_file_or_directory) return found;
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::filesystem::path entry = entries->path();
    std::string name = entry.stem().string();
    if (entry.extension() == kExtension && is_name(name)) found.push_back(std::move(name));
  }
  if (error) return fail(ErrorKind::kHost, "{}: {}", directory_, error.message());
  std::ranges::sort(found);
  return found;
}

}  // namespace warmfork::bench
