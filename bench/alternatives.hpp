// What a user would pick instead of forking a warm VM for each request: processes. Each alternative is one warm server
// process and a way to call it; request() asks once and returns when the answer is there.
//
//   ProcessFork   forks for each request; the child serves it and ends, so nothing of it is left: the same promise as
//                 a forked VM, without the VM's wall
//   ProcessPipe   the warm process itself serves, called through two pipes; what a request leaves behind stays
//   ProcessFutex  the same through shared memory, either side sleeping on a futex while it has nothing to do
//
// The server is a program of its own (server/server.cpp: static, one thread, a handful of mappings, plus the window),
// not a fork of the caller. That is the comparison that is fair in both directions. A pre-fork server forks from a
// small single-threaded zygote, and the price of fork grows with the mappings and touched pages of the process that
// forks: this is fork at its best. Forking the requester instead would copy the page tables of the whole benchmark,
// write-protect the memory of every guest that is open beside it (and so slow down what it is compared with), and run
// a child of a process with threads, in which little but exec is allowed.
//
// ProcessFork::request includes the way to the zygote and back, as the other two do. What the zygote itself measures,
// from before fork until the child is reaped, is last_service_ticks(): the time of a server that has the request at
// hand. The child delivers its answer through shared memory: one page fault, cheaper than a write and a read.
//
// The work is the same everywhere: a request dirties `dirty_pages` pages, evenly spread over a private window of
// `window_bytes` that is all touched. The answer is the argument plus the sum of the counters in those pages, each of
// which the request increments: for ProcessFork always the argument, for the others after n requests the argument
// plus n * dirty_pages.
//
// Life: a server is killed when its object is destroyed, and by the kernel when this process ends. Ctrl-C in a terminal
// does not reach it (its process group is its own). A server that ends early makes the request under way and each
// later one an error (kHost) that says how it ended; a crash of ProcessFork's child only the request it served.
// Threads: each object has one thread, asleep until the server ends. An object is used by one thread at a time.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "bench/server/channel.hpp"

#include <sys/types.h>

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace warmfork::bench {

struct AlternativeOptions {
  std::uint64_t window_bytes = 256 << 10;  // a multiple of the page size
  std::uint64_t dirty_pages = 8;           // by each request; at most the pages of the window
  int cpu = -1;                            // the server is pinned here; -1: not pinned
  std::optional<std::uint64_t> crash_on;   // the process that serves a request with this argument crashes
};

/// A warm server process: starts it, notices its end, kills it. What the alternatives have in common.
class ServerProcess {
 public:
  /// Returns when the server is warm. Errors: options that cannot be (kUsage); whatever the host refuses (kHost).
  [[nodiscard]] static Result<std::unique_ptr<ServerProcess>> start(ServerMode mode, const AlternativeOptions& options);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  /// Asks through the channel and waits for the server's post.
  [[nodiscard]] Status ask(std::uint64_t argument);
  /// Waits for the server's end and says what it was; for a caller that has seen signs of it.
  [[nodiscard]] Failure ended();

  [[nodiscard]] const Channel& channel() const { return *channel_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int request_fd() const { return request_write_.get(); }
  [[nodiscard]] int answer_fd() const { return answer_read_.get(); }

 private:
  ServerProcess() = default;
  [[nodiscard]] Status spawn();
  /// Spawns, and waits for the server's end. Runs on watcher_: the kernel sends the parent-death signal at the end of
  /// the *thread* that started a process, and this thread ends after the server does.
  void watch(std::promise<Status> spawned);
  [[nodiscard]] Status wait_until(std::uint32_t sequence);

  Mapping mapping_;
  Channel* channel_ = nullptr;  // in mapping_
  UniqueFd program_, shared_;
  UniqueFd request_read_, request_write_, answer_read_, answer_write_;  // kPipe only
  UniqueFd pidfd_;
  pid_t pid_ = -1;
  int status_ = 0;  // of the ended server, as waitpid gave it; written before kGone
  std::thread watcher_;
};

class Alternative {
 public:
  virtual ~Alternative() = default;
  /// One request and its answer.
  [[nodiscard]] virtual Status request(std::uint64_t argument, std::uint64_t& answer) = 0;
  /// Of the warm process; to look at it in /proc.
  [[nodiscard]] pid_t server_pid() const { return server_->pid(); }

 protected:
  explicit Alternative(std::unique_ptr<ServerProcess> server) : server_(std::move(server)) {}
  std::unique_ptr<ServerProcess> server_;
};

class ProcessFork final : public Alternative {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ProcessFork>> create(const AlternativeOptions& options);
  [[nodiscard]] Status request(std::uint64_t argument, std::uint64_t& answer) override;
  /// Of the last request: TSC ticks from before fork until the child was reaped, measured in the zygote.
  [[nodiscard]] std::uint64_t last_service_ticks() const { return server_->channel().service_ticks; }

 private:
  using Alternative::Alternative;
};

class ProcessPipe final : public Alternative {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ProcessPipe>> create(const AlternativeOptions& options);
  [[nodiscard]] Status request(std::uint64_t argument, std::uint64_t& answer) override;

 private:
  using Alternative::Alternative;
};

class ProcessFutex final : public Alternative {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ProcessFutex>> create(const AlternativeOptions& options);
  [[nodiscard]] Status request(std::uint64_t argument, std::uint64_t& answer) override;

 private:
  using Alternative::Alternative;
};

}  // namespace warmfork::bench
