// A service on warmfork, from boot to latencies. usage: api_example GUEST_PROGRAM (the one of guest.cpp)
#include "warmfork/warmfork.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

// [README: this function is in README.md, letter by letter; a test compares them]
using namespace warmfork::api;
using namespace std::chrono_literals;

Result<std::uint64_t> ask_once(const std::string& guest_program) {
  auto snapshot = Snapshot::boot(guest_program, {.memory_bytes = 4 << 20, .timeout = 10s});  // boot, freeze
  if (!snapshot) return snapshot.error();
  auto divide = snapshot->find("divide");
  if (!divide) return divide.error();
  auto pool = Pool::create(*snapshot, {.ready = 2, .timeout = 1s});  // forks, for any number of threads
  if (!pool) return pool.error();
  return pool->request(Call(*divide).with(84, 2).within(100ms));  // a fork nobody has used; clean again afterwards
}
// [README: end]

// What the guest does before it is frozen: every fork begins with the primes found.
Result<void> warm_up(Master& master) {
  const auto prepare = master.find("prepare");
  if (!prepare) return prepare.error();
  const auto found = master.call(Call(*prepare).within(10s));
  if (!found) return found.error();
  std::printf("warmed up: %llu primes\n", static_cast<unsigned long long>(*found));
  return {};
}

using Clock = std::chrono::steady_clock;
constexpr int kThreads = 2;
constexpr std::size_t kRequests = 500;  // of each thread

struct Client {
  std::vector<double> microseconds;
  int crashed = 0;
  int wrong = 0;
};

// One thread's requests. Every hundredth crashes its guest, which costs that request and nobody else.
void make_requests(Pool& pool, Function divide, Client& client) {
  for (std::size_t i = 0; i < kRequests; ++i) {
    const std::uint64_t divisor = i % 100 == 99 ? 0 : 7;
    const auto begin = Clock::now();
    const auto answer = pool.request(Call(divide).with(i * 7, divisor).within(2s));
    client.microseconds.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    if (divisor == 0) {
      client.crashed += !answer && answer.error().kind == ErrorKind::kGuestFault;
    } else {
      client.wrong += answer.value_or(~std::uint64_t{0}) != i;
    }
  }
}

// Buffers: a fork of one's own, the call area, a result read back.
Result<void> use_buffers(Pool& pool, const Snapshot& snapshot) {
  const auto count_words = snapshot.find("count_words");
  if (!count_words) return count_words.error();
  const auto shout = snapshot.find("shout");
  if (!shout) return shout.error();
  auto fork = pool.acquire(2s);
  if (!fork) return fork.error();

  std::string text = "the quick brown fox";
  const auto address = fork->write(0, std::as_bytes(std::span(text)));
  if (!address) return address.error();
  const auto words = fork->call(Call(*count_words).with(*address, text.size()));
  if (!words) return words.error();
  if (auto done = fork->call(Call(*shout).with(*address, text.size())); !done) return done.error();
  if (auto done = fork->read(*address, std::as_writable_bytes(std::span(text))); !done) return done;
  std::printf("%llu words: %s\n", static_cast<unsigned long long>(*words), text.c_str());
  return {};  // the fork goes back, and is reset
}

// A fault as its report: what a log would get.
Result<void> show_a_fault(Pool& pool, Function divide) {
  auto fork = pool.acquire();
  if (!fork) return fork.error();
  const auto answer = fork->call(Call(divide).with(1, 0));
  if (answer) return Error{ErrorKind::kGuestFault, "a division by zero has a result"};
  const std::string report = fork->fault();
  std::printf("a fault: %s\n", report.substr(0, report.find('\n')).c_str());
  return fork->reset();  // the same fork, as new
}

Result<void> run(const std::string& guest_program) {
  const auto prime = ask_once(guest_program);
  if (!prime) return prime.error();
  std::printf("the first answer: %llu\n", static_cast<unsigned long long>(*prime));

  const BootOptions options{
      .arguments = {"the example"}, .memory_bytes = 4 << 20, .timeout = 10s, .output = [](int, std::string_view text) {
        std::printf("%.*s", static_cast<int>(text.size()), text.data());
      }};
  const auto snapshot = Snapshot::boot(guest_program, options, warm_up);
  if (!snapshot) return snapshot.error();
  const auto divide = snapshot->find("divide");
  if (!divide) return divide.error();
  auto pool = Pool::create(*snapshot, {.ready = kThreads, .timeout = 2s});
  if (!pool) return pool.error();
  std::printf("a pool: %s; the snapshot holds %llu KiB\n", pool->describe().c_str(),
              static_cast<unsigned long long>(snapshot->stored_bytes() / 1024));

  if (auto done = use_buffers(*pool, *snapshot); !done) return done;
  if (auto done = show_a_fault(*pool, *divide); !done) return done;

  std::array<Client, kThreads> clients;
  std::vector<std::thread> threads;
  for (Client& client : clients) threads.emplace_back([&] { make_requests(*pool, *divide, client); });
  for (std::thread& thread : threads) thread.join();
  for (Client& client : clients) {
    std::sort(client.microseconds.begin(), client.microseconds.end());
    std::printf("%zu requests, %d crashed, %d wrong; p50 %.1f us, p99 %.1f us\n", client.microseconds.size(),
                client.crashed, client.wrong, client.microseconds[kRequests / 2],
                client.microseconds[kRequests * 99 / 100]);
    if (client.wrong != 0 || client.crashed != kRequests / 100) {
      return Error{ErrorKind::kGuestFault, "answers that cannot be right"};
    }
  }
  const PoolStats stats = pool->stats();
  std::printf("the pool lent %llu forks, %llu came back crashed, %llu exist\n",
              static_cast<unsigned long long>(stats.acquired), static_cast<unsigned long long>(stats.faults),
              static_cast<unsigned long long>(stats.forks));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s GUEST_PROGRAM\n", argv[0]);
    return 2;
  }
  const auto done = run(argv[1]);
  if (done) return 0;
  std::fprintf(stderr, "%s: %s\n", std::string(name_of(done.error().kind)).c_str(), done.error().message.c_str());
  return 1;
}
