// The warm process of the alternatives suite (../alternatives.hpp): a static musl program of one thread, started
// afresh, so that it is as small as a warm process gets. It owns a window of private memory that it has touched,
// and serves requests in the way `Channel::mode` says until it is killed or its requester is gone.
#include "bench/server/channel.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace warmfork::bench;

Channel* channel;
unsigned char* window;
uint64_t page_stride;  // between pages that a request dirties

void futex_wait(uint32_t* word, uint32_t seen) { ::syscall(SYS_futex, word, kFutexWait, seen, nullptr, nullptr, 0); }
void futex_wake(uint32_t* word) { ::syscall(SYS_futex, word, kFutexWake, 1, nullptr, nullptr, 0); }

uint32_t next_request(uint32_t last) {
  uint32_t asked = last;
  while ((asked = __atomic_load_n(&channel->asked, __ATOMIC_ACQUIRE)) == last) futex_wait(&channel->asked, last);
  return asked;
}

void post(uint32_t sequence) {
  __atomic_store_n(&channel->answered, sequence, __ATOMIC_RELEASE);
  futex_wake(&channel->answered);
}

[[noreturn]] void give_up(ServerStep step) {
  channel->failed_errno = errno;
  channel->failed_step = step;
  ::_exit(1);
}

// The work of one request: counts in each page it dirties. What it answers is the argument and all that requests before
// it have left there, which makes a process that is not reset, and one that was not reset properly, visible.
uint64_t serve(uint64_t argument) {
  if (channel->has_crash_on != 0 && argument == channel->crash_on) __builtin_trap();
  uint64_t sum = argument;
  for (uint64_t i = 0; i < channel->dirty_pages; ++i) {
    auto* counter = reinterpret_cast<volatile uint64_t*>(window + i * page_stride);
    sum += *counter;
    *counter = *counter + 1;
  }
  return sum;
}

void serve_by_fork() {
  for (uint32_t sequence = 0;;) {
    sequence = next_request(sequence);
    const uint64_t begin = __builtin_ia32_rdtsc();
    const pid_t child = ::fork();
    if (child == 0) {
      // No PR_SET_PDEATHSIG here: it would be a system call on the measured path for a process that waits for nothing
      // and ends by itself in microseconds.
      channel->answer = serve(channel->argument);
      ::_exit(0);
    }
    channel->fork_errno = child < 0 ? errno : 0;
    int status = 0;
    if (child > 0) {
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
    }
    channel->child_status = status;
    channel->service_ticks = __builtin_ia32_rdtsc() - begin;
    post(sequence);
  }
}

void serve_by_futex() {
  for (uint32_t sequence = 0;;) {
    sequence = next_request(sequence);
    channel->answer = serve(channel->argument);
    post(sequence);
  }
}

void serve_by_pipe() {
  for (;;) {
    uint64_t value = 0;
    const ssize_t got = ::read(kRequestFd, &value, sizeof value);
    if (got < 0 && errno == EINTR) continue;
    if (got != sizeof value) return;
    value = serve(value);
    while (::write(kAnswerFd, &value, sizeof value) < 0) {
      if (errno != EINTR) return;
    }
  }
}

void become_warm() {
  // SAFETY: a fresh shared mapping of the descriptor this process was started with; Channel has the same layout here.
  void* shared = ::mmap(nullptr, sizeof(Channel), PROT_READ | PROT_WRITE, MAP_SHARED, kChannelFd, 0);
  if (shared == MAP_FAILED) ::_exit(1);
  channel = static_cast<Channel*>(shared);
  ::close(kChannelFd);
  // What the requester, or who started it, did not mark close-on-exec.
  ::syscall(SYS_close_range, channel->mode == ServerMode::kPipe ? kFirstUnusedFd : kRequestFd, ~0U, 0);
  ::prctl(PR_SET_NAME, "warmfork-server");
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);

  // The signal is sent when the requester ends from now on; if it has ended already, this process has another parent.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != channel->parent) give_up(kStepParent);
  if (channel->cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(channel->cpu), &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0) give_up(kStepPin);
  }
  const uint64_t size = channel->window_bytes;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) give_up(kStepWindow);
  window = static_cast<unsigned char*>(memory);
  // Small pages, or dirtying one would be dirtying 512. A kernel without huge pages refuses; it has small ones anyway.
  ::madvise(window, size, MADV_NOHUGEPAGE);
  for (uint64_t at = 0; at < size; at += kServerPage) {
    *reinterpret_cast<volatile uint64_t*>(window + at) = 1;  // touched also where the kernel knows pages of zeroes
    *reinterpret_cast<volatile uint64_t*>(window + at) = 0;
  }
  page_stride = channel->dirty_pages == 0 ? 0 : size / kServerPage / channel->dirty_pages * kServerPage;
  post(0);
}

}  // namespace

int main() {
  become_warm();
  switch (channel->mode) {
    case ServerMode::kFork: serve_by_fork(); break;
    case ServerMode::kPipe: serve_by_pipe(); break;
    case ServerMode::kFutex: serve_by_futex(); break;
  }
  return 0;
}
