#include "bench/alternatives.hpp"

#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/suites.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <future>
#include <iterator>
#include <system_error>
#include <type_traits>
#include <vector>

extern "C" const unsigned char warmfork_bench_server_begin[];
extern "C" const unsigned char warmfork_bench_server_end[];

namespace warmfork::bench {
namespace {

void futex_wait(std::uint32_t* word, std::uint32_t seen) {
  ::syscall(SYS_futex, word, kFutexWait, seen, nullptr, nullptr, 0);
}
void futex_wake(std::uint32_t* word) { ::syscall(SYS_futex, word, kFutexWake, 1, nullptr, nullptr, 0); }

std::uint32_t load(std::uint32_t& word) { return std::atomic_ref(word).load(std::memory_order_acquire); }
void store(std::uint32_t& word, std::uint32_t value) { std::atomic_ref(word).store(value, std::memory_order_release); }

// By descriptor: its number may be another process's once the watcher has waited for it. (Debian 12's sys/pidfd.h
// cannot be used from C++.)
void kill_by(const UniqueFd& pidfd) { ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0); }

// Above the numbers that a server's descriptors are given, so that giving one cannot overwrite the next.
Result<UniqueFd> move_up(UniqueFd fd) {
  UniqueFd up(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstUnusedFd));
  if (!up) return fail_errno("duplicating a file descriptor");
  return up;
}

Result<UniqueFd> make_memory_file(const char* name, std::span<const unsigned char> content) {
  // Kernels before 6.3 refuse MFD_EXEC and take what it asks for as given.
  constexpr unsigned kMfdExec = 0x10;
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | kMfdExec));
  if (!fd && errno == EINVAL) fd = UniqueFd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return fail_errno("memory file for {}", name);
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t put = ::write(fd.get(), content.data() + done, content.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return fail_errno("writing the memory file for {}", name);
    done += static_cast<std::size_t>(put);
  }
  return move_up(std::move(fd));
}

Status make_pipe(UniqueFd& read_end, UniqueFd& write_end) {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail_errno("pipe to the server process");
  UniqueFd from(fds[0]);
  UniqueFd to(fds[1]);
  WARMFORK_TRY_ASSIGN(read_end, move_up(std::move(from)));
  WARMFORK_TRY_ASSIGN(write_end, move_up(std::move(to)));
  return {};
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status))
    return fmt::format("killed by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  return fmt::format("exited with {}", WEXITSTATUS(status));
}

const char* describe_step(std::uint32_t step) {
  switch (step) {
    case kStepParent: return "tying its life to the requester's";
    case kStepPin: return "pinning itself to a CPU";
    case kStepWindow: return "allocating its window";
    default: return "starting";
  }
}

// The attributes of posix_spawn: signals as after a login, a process group of its own.
struct SpawnSettings {
  posix_spawnattr_t attributes{};
  posix_spawn_file_actions_t actions{};

  SpawnSettings() {
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_init(&actions);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
};

}  // namespace

Result<std::unique_ptr<ServerProcess>> ServerProcess::start(ServerMode mode, const AlternativeOptions& options) {
  if (options.window_bytes == 0 || options.window_bytes % kServerPage != 0)
    return fail(ErrorKind::kUsage, "a window of {} bytes is not a number of pages of {} bytes", options.window_bytes,
                kServerPage);
  if (const std::uint64_t pages = options.window_bytes / kServerPage; options.dirty_pages > pages)
    return fail(ErrorKind::kUsage, "{} dirty pages a request, and the window has {}", options.dirty_pages, pages);

  std::unique_ptr<ServerProcess> server(new ServerProcess);
  WARMFORK_TRY_ASSIGN(server->program_, make_memory_file("warmfork-server", std::span(warmfork_bench_server_begin,
                                                                                      warmfork_bench_server_end)));
  const std::vector<unsigned char> zeroes(sizeof(Channel));
  WARMFORK_TRY_ASSIGN(server->shared_, make_memory_file("warmfork-channel", zeroes));
  WARMFORK_TRY_ASSIGN(server->mapping_, Mapping::shared(server->shared_.get(), sizeof(Channel)));
  if (mode == ServerMode::kPipe) {
    WARMFORK_TRY(make_pipe(server->request_read_, server->request_write_));
    WARMFORK_TRY(make_pipe(server->answer_read_, server->answer_write_));
  }
  // SAFETY: the mapping is page aligned, as large as a Channel, and lives as long as the object. Its bytes are zero.
  server->channel_ = new (server->mapping_.data()) Channel{.mode = mode,
                                                           .parent = ::getpid(),
                                                           .cpu = options.cpu,
                                                           .has_crash_on = options.crash_on ? 1U : 0U,
                                                           .crash_on = options.crash_on.value_or(0),
                                                           .window_bytes = options.window_bytes,
                                                           .dirty_pages = options.dirty_pages,
                                                           .answered = kStarting};

  std::promise<Status> promise;
  std::future<Status> spawned = promise.get_future();
  try {
    // Signals to this process are for the threads of its own that expect them.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const auto restore = [&before](void*) { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); };
    const std::unique_ptr<void, decltype(restore)> restored(&before, restore);
    server->watcher_ = std::thread(&ServerProcess::watch, server.get(), std::move(promise));
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kHost, "thread for a server process: {}", error.what());
  }
  WARMFORK_TRY(spawned.get());
  // The ends that only the server uses. Its request end stays open here too: writing to a server that has ended is then
  // no SIGPIPE, and that it has ended shows when the answer is read.
  server->answer_write_ = UniqueFd();
  server->program_ = UniqueFd();
  server->shared_ = UniqueFd();
  if (const Status warm = server->wait_until(0); !warm) {
    const Channel& channel = *server->channel_;
    if (channel.failed_step == kStepNone) return with_context(warm.error(), "starting");
    errno = channel.failed_errno;
    return fail_errno("server process: {}", describe_step(channel.failed_step));
  }
  return server;
}

ServerProcess::~ServerProcess() {
  if (pidfd_) kill_by(pidfd_);
  if (watcher_.joinable()) watcher_.join();
}

Status ServerProcess::spawn() {
  SpawnSettings settings;
  const auto give = [&](const UniqueFd& fd, int number) {
    return fd ? ::posix_spawn_file_actions_adddup2(&settings.actions, fd.get(), number) : 0;
  };
  int error = ::posix_spawn_file_actions_addopen(&settings.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (error == 0)
    error = ::posix_spawn_file_actions_addopen(&settings.actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  if (error == 0) error = give(shared_, kChannelFd);
  if (error == 0) error = give(request_read_, kRequestFd);
  if (error == 0) error = give(answer_write_, kAnswerFd);
  if (error == 0) {
    const std::string path = fmt::format("/proc/self/fd/{}", program_.get());
    std::string name = "warmfork-server";
    const std::array<char*, 2> arguments{name.data(), nullptr};
    error = ::posix_spawn(&pid_, path.c_str(), &settings.actions, &settings.attributes, arguments.data(), environ);
  }
  if (error != 0) {
    pid_ = -1;
    errno = error;
    return fail_errno("starting a server process");
  }
  pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) {
    Status failed = fail_errno("descriptor of server process {}", pid_);
    ::kill(pid_, SIGKILL);  // not waited for yet, so the number is still its own
    ::waitpid(pid_, nullptr, 0);
    return failed;
  }
  return {};
}

void ServerProcess::watch(std::promise<Status> spawned) {
  Status status = spawn();
  const bool running = status.has_value();
  spawned.set_value(std::move(status));
  if (!running) return;
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  store(channel_->answered, kGone);
  futex_wake(&channel_->answered);
}

Status ServerProcess::wait_until(std::uint32_t sequence) {
  for (;;) {
    const std::uint32_t seen = load(channel_->answered);
    if (seen == sequence) return {};
    if (seen == kGone) return ended();
    futex_wait(&channel_->answered, seen);
  }
}

Status ServerProcess::ask(std::uint64_t argument) {
  const std::uint32_t sequence = channel_->asked == kLastSequence ? 1 : channel_->asked + 1;
  channel_->argument = argument;
  store(channel_->asked, sequence);
  futex_wake(&channel_->asked);
  return wait_until(sequence);
}

Failure ServerProcess::ended() {
  // If it has not quite ended, it does now; if it is ending, how it ends is decided already.
  kill_by(pidfd_);
  for (std::uint32_t seen = 0; (seen = load(channel_->answered)) != kGone;) futex_wait(&channel_->answered, seen);
  return fail(ErrorKind::kHost, "server process {}: {}", pid_, describe_end(status_));
}

Result<std::unique_ptr<ProcessFork>> ProcessFork::create(const AlternativeOptions& options) {
  WARMFORK_TRY_ASSIGN(auto server, ServerProcess::start(ServerMode::kFork, options));
  return std::unique_ptr<ProcessFork>(new ProcessFork(std::move(server)));
}

Status ProcessFork::request(std::uint64_t argument, std::uint64_t& answer) {
  WARMFORK_TRY(server_->ask(argument));
  const Channel& channel = server_->channel();
  if (channel.fork_errno != 0) {
    errno = channel.fork_errno;
    return fail_errno("fork in server process {}", server_->pid());
  }
  if (channel.child_status != 0)
    return fail(ErrorKind::kHost, "child of server process {}: {}", server_->pid(), describe_end(channel.child_status));
  answer = channel.answer;
  return {};
}

Result<std::unique_ptr<ProcessPipe>> ProcessPipe::create(const AlternativeOptions& options) {
  WARMFORK_TRY_ASSIGN(auto server, ServerProcess::start(ServerMode::kPipe, options));
  return std::unique_ptr<ProcessPipe>(new ProcessPipe(std::move(server)));
}

Status ProcessPipe::request(std::uint64_t argument, std::uint64_t& answer) {
  // Eight bytes in an empty pipe: whole or not at all.
  while (::write(server_->request_fd(), &argument, sizeof argument) < 0) {
    if (errno != EINTR) return fail_errno("writing to server process {}", server_->pid());
  }
  ssize_t got = 0;
  while ((got = ::read(server_->answer_fd(), &answer, sizeof answer)) < 0) {
    if (errno != EINTR) return fail_errno("reading from server process {}", server_->pid());
  }
  if (got != sizeof answer) return server_->ended();
  return {};
}

Result<std::unique_ptr<ProcessFutex>> ProcessFutex::create(const AlternativeOptions& options) {
  WARMFORK_TRY_ASSIGN(auto server, ServerProcess::start(ServerMode::kFutex, options));
  return std::unique_ptr<ProcessFutex>(new ProcessFutex(std::move(server)));
}

Status ProcessFutex::request(std::uint64_t argument, std::uint64_t& answer) {
  WARMFORK_TRY(server_->ask(argument));
  answer = server_->channel().answer;
  return {};
}

namespace {

// One alternative in one place, and what it took.
struct Contender {
  std::string name;
  bool same_cpu;
  std::unique_ptr<Alternative> alternative;
  const ProcessFork* fork;  // if that is what it is
  std::uint64_t requests = 0;
  Histogram ticks;
  Histogram in_place;  // as the zygote measures it
};

Status ask(Contender& contender, std::uint64_t count, const AlternativeOptions& options, bool record) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t argument = 1'000'000 + i;
    const std::uint64_t left_behind = contender.fork != nullptr ? 0 : contender.requests * options.dirty_pages;
    std::uint64_t answer = 0;
    const std::uint64_t begin = tsc_now();
    const Status asked = contender.alternative->request(argument, answer);
    const std::uint64_t took = tsc_now_ordered() - begin;
    if (!asked) return with_context(asked.error(), contender.name);
    if (answer != argument + left_behind)
      return fail(ErrorKind::kHost, "{}: answered {}, expected {}", contender.name, answer, argument + left_behind);
    ++contender.requests;
    if (!record) continue;
    contender.ticks.record(took);
    if (contender.fork != nullptr) contender.in_place.record(contender.fork->last_service_ticks());
  }
  return {};
}

template <class Kind>
Status add(std::vector<Contender>& contenders, const char* name, const AlternativeOptions& options, bool variant,
           bool same_cpu) {
  WARMFORK_TRY_ASSIGN(std::unique_ptr<Kind> alternative, Kind::create(options));
  const ProcessFork* fork = nullptr;
  if constexpr (std::is_same_v<Kind, ProcessFork>) fork = alternative.get();
  contenders.push_back({.name = fmt::format("alternatives/{}{}", name, variant ? "/same_cpu" : ""),
                        .same_cpu = same_cpu,
                        .alternative = std::move(alternative),
                        .fork = fork});
  return {};
}

// What makes fork dear: the mappings and the present pages of the process that forks.
void note_size(Figure& figure, pid_t server) {
  std::ifstream maps(fmt::format("/proc/{}/maps", server));
  std::ifstream statm(fmt::format("/proc/{}/statm", server));
  double pages = 0;
  double resident = 0;
  if (maps)
    figure.counters["server_mappings"] =
        static_cast<double>(std::count(std::istreambuf_iterator<char>(maps), std::istreambuf_iterator<char>(), '\n'));
  if (statm >> pages >> resident) figure.counters["server_resident_pages"] = resident;
}

}  // namespace

SuiteResult run_alternatives(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  const bool two_cpus = options.cpu != options.other_cpu;
  std::vector<Contender> contenders;
  AlternativeOptions settings;
  for (const bool variant : {false, true}) {
    if (variant && !two_cpus) break;  // with one CPU, the servers are on the requester's already
    settings.cpu = variant ? options.cpu : options.other_cpu;
    const bool same_cpu = variant || !two_cpus;
    WARMFORK_TRY(add<ProcessFork>(contenders, "process_fork", settings, variant, same_cpu));
    WARMFORK_TRY(add<ProcessPipe>(contenders, "process_pipe", settings, variant, same_cpu));
    WARMFORK_TRY(add<ProcessFutex>(contenders, "process_futex", settings, variant, same_cpu));
  }

  options.say("alternatives: fork, pipe, futex");
  constexpr std::uint64_t kPerRound = 20;
  for (Contender& contender : contenders) WARMFORK_TRY(ask(contender, kPerRound, settings, false));
  Histogram ping_pong_ticks;
  const std::uint64_t rounds = options.samples(500);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (Contender& contender : contenders) WARMFORK_TRY(ask(contender, kPerRound, settings, true));
    if (two_cpus) WARMFORK_TRY(ping_pong(options.other_cpu, kPerRound, ping_pong_ticks));
  }

  std::vector<Figure> figures;
  const Figure floor = from_ticks("floors/cacheline_pingpong", ping_pong_ticks);
  for (const Contender& contender : contenders) {
    Figure figure = from_ticks(contender.name, contender.ticks);
    figure.params = {{"window_bytes", static_cast<double>(settings.window_bytes)},
                     {"dirty_pages", static_cast<double>(settings.dirty_pages)},
                     {"same_cpu", contender.same_cpu ? 1 : 0}};
    note_size(figure, contender.alternative->server_pid());
    if (contender.fork != nullptr) {
      Figure in_place = from_ticks(contender.name + "/in_place", contender.in_place);
      in_place.params = figure.params;
      in_place.counters = figure.counters;
      figures.push_back(std::move(figure));
      figures.push_back(std::move(in_place));
      continue;
    }
    // A request by futex is two cache lines that travel, and the sleeping and waking. On one CPU nothing travels.
    if (contender.name == "alternatives/process_futex" && two_cpus) set_floor(figure, floor);
    figures.push_back(std::move(figure));
  }
  if (two_cpus) figures.push_back(floor);
  return figures;
}

}  // namespace warmfork::bench
