#include "bench/process_group.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace warmfork::bench {

Result<std::unique_ptr<ProcessGroup>> ProcessGroup::create() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("pipe2");
  const UniqueFd seen(ends[0]);
  UniqueFd alive(ends[1]);
  sigset_t all{}, before{};
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // the leader stays like that
  const pid_t leader = ::fork();
  if (leader == 0) {
    // Other threads may have held any lock: only what is async-signal-safe.
    if (::setpgid(0, 0) != 0) ::_exit(1);  // kill() would hit our parent
    ::close(ends[1]);
    char byte = 0;
    while (::read(ends[0], &byte, 1) < 0 && errno == EINTR) {
    }
    ::kill(0, SIGKILL);
    ::_exit(1);
  }
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (leader < 0) {
    errno = error;
    return fail_errno("fork");
  }
  ::setpgid(leader, leader);  // whoever of the two comes first
  return std::unique_ptr<ProcessGroup>(new ProcessGroup(leader, std::move(alive)));
}

ProcessGroup::~ProcessGroup() {
  signal(SIGKILL);
  while (::waitpid(leader_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ProcessGroup::signal(int number) const { ::kill(-leader_, number); }

}  // namespace warmfork::bench
