// A process group of our own making: what is started in it, and whatever that starts, ends together. Owns the group's
// leader, a process that does nothing but wait for the end of this one: so the group dies with us however we end, by
// SIGKILL too.
//
//   we ──pipe──> leader          The pipe's other end closes when we are gone, and the leader kills its group.
//    └─────────> the program     Not in the terminal's foreground: Ctrl-C reaches us alone, and is passed on by
//    signal().
//
// What leaves the group by itself (setsid) is out of reach. Threads: one.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <sys/types.h>

#include <memory>

namespace warmfork::bench {

class ProcessGroup {
 public:
  /// Errors (kHost): no process or no pipe for the leader.
  [[nodiscard]] static Result<std::unique_ptr<ProcessGroup>> create();
  /// Kills what is left in it. Who has started it waits for it.
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  /// For posix_spawnattr_setpgroup().
  [[nodiscard]] pid_t id() const { return leader_; }
  /// To every process in it, but only SIGKILL ends the leader.
  void signal(int number) const;

 private:
  ProcessGroup(pid_t leader, UniqueFd alive) : leader_(leader), alive_(std::move(alive)) {}
  const pid_t leader_;
  const UniqueFd alive_;  // its closing is the leader's sign
};

}  // namespace warmfork::bench
