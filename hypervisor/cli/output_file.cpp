#include "output_file.hpp"

#include "base/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

namespace warmfork::cli {

Status check_output_file(const std::string& option, const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return fail(ErrorKind::kUsage, "{} {}: not a regular file, which it has to be", option, path);
  }
  if (printed_into(path)) return fail(ErrorKind::kUsage, "{} {}: what is printed goes there", option, path);
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return fail_errno("{} {}: its directory", option, path);
  return {};
}

Status write_output_file(const std::string& option, const std::string& path,
                         const std::function<Status(int fd)>& write) {
  Status written = replace_file(path, [&](int fd) -> Status {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(fd, 0666 & ~mask) != 0) return fail_errno("{}", path);
    return write(fd);
  });
  if (!written) return with_context(std::move(written).error(), option);
  return {};
}

}  // namespace warmfork::cli
