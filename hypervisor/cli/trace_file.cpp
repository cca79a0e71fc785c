#include "trace_file.hpp"

#include "console.hpp"
#include "exit_codes.hpp"
#include "option_checks.hpp"
#include "output_file.hpp"
#include "trace/trace.hpp"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace warmfork::cli {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};

// Of the handler, which may do little more than this.
sem_t wake;
std::atomic<int> caught{0};

void on_signal(int signal) {
  int none = 0;
  if (!caught.compare_exchange_strong(none, signal)) {  // a second one does not wait for files
    ::signal(signal, SIG_DFL);
    ::raise(signal);
    return;
  }
  ::sem_post(&wake);
}

}  // namespace

struct TraceFile::Impl {
  std::string path;
  std::string keep;
  std::string verb;
  bool begun = false;
  std::mutex mutex;  // of what follows
  bool finished = false;
  Status written;
  std::atomic<bool> over{false};
  std::thread on_signals;

  Status write() {
    const std::scoped_lock lock(mutex);
    if (std::exchange(finished, true)) return written;
    const trace::Recording recording = trace::stop();
    written = write_output_file("--trace-events", path, [&](int fd) {
      return trace::write_json(recording, fd, path, "warmfork " WARMFORK_VERSION, verb);
    });
    if (written && recording.lost() != 0) {
      print_message("--trace-events: {} of the oldest events did not fit and are not in {} (--trace-keep)\n",
                    recording.lost(), path);
    }
    return written;
  }

  void wait_for_signal() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (::sem_wait(&wake) != 0) {
    }
    if (over) return;
    if (const Status done = write(); !done) (void)report(done.error());
    const int signal = caught;
    ::signal(signal, SIG_DFL);
    ::kill(::getpid(), signal);
  }
};

TraceFile::TraceFile() : impl_(std::make_unique<Impl>()) {}

TraceFile::~TraceFile() {
  if (!impl_->on_signals.joinable()) return;
  impl_->over = true;
  ::sem_post(&wake);
  impl_->on_signals.join();
}

void TraceFile::add_to(CLI::App& verb) {
  verb.add_option("--trace-events", impl_->path,
                  "Write a trace of exits, vmcalls, resets, forks and compilations, thread by thread, for\n"
                  "ui.perfetto.dev or chrome://tracing (JSON)")
      ->type_name("FILE")
      ->check(not_empty())
      ->each([this, &verb](const std::string&) { impl_->verb = verb.get_name(); });
  verb.add_option("--trace-keep", impl_->keep,
                  "Events a thread keeps for it, the newest (64 to 1M; default: 65536, 2 MiB a thread)")
      ->type_name("N")
      ->needs("--trace-events");
}

void TraceFile::begin() {
  if (impl_->path.empty()) return;
  const auto start = [&]() -> Status {
    trace::Options options;
    if (!impl_->keep.empty()) {
      WARMFORK_TRY_ASSIGN(options.events_per_thread, parse_count(impl_->keep, "number of events"));
    }
    WARMFORK_TRY(check_output_file("--trace-events", impl_->path));
    trace::name_thread("main");
    return trace::start(options);
  };
  if (const Status started = start(); !started) throw CannotTrace{report(started.error())};
  impl_->begun = true;
  ::sem_init(&wake, 0, 0);
  try {
    impl_->on_signals = std::thread([this] { impl_->wait_for_signal(); });
  } catch (const std::system_error& error) {
    throw CannotTrace{report({ErrorKind::kHost, fmt::format("--trace-events: a thread: {}", error.what())})};
  }
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : kSignals) {
    struct sigaction before{};
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
  }
}

int TraceFile::finish(int code) {
  if (!impl_->begun) return code;
  const Status done = impl_->write();
  if (done) return code;
  const int failed = report(done.error());
  return code == kSuccess ? failed : code;
}

}  // namespace warmfork::cli
