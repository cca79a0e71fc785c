// The guest of the examples: a service that is slow to start and quick to answer.
#include "warmfork/abi/vmcall.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace {
constexpr std::uint32_t kLimit = 100'000;
bool composite[kLimit];
std::uint32_t primes[kLimit / 8];
std::size_t prime_count;
std::uint64_t visits;
}  // namespace

extern "C" {

// What takes long: done once, before the snapshot.
std::uint64_t prepare() {
  for (std::uint32_t n = 2; n < kLimit; ++n) {
    if (composite[n]) continue;
    primes[prime_count++] = n;
    for (std::uint64_t multiple = std::uint64_t{n} * n; multiple < kLimit; multiple += n) composite[multiple] = true;
  }
  return prime_count;
}

std::uint64_t nth_prime(std::uint64_t n) { return n < prime_count ? primes[n] : 0; }

// Crashes when `divisor` is 0: on this processor a division by zero is a fault.
std::uint64_t divide(std::uint64_t dividend, std::uint64_t divisor) {
  std::uint64_t quotient = dividend;
  std::uint64_t rest = 0;
  asm("divq %2" : "+a"(quotient), "+d"(rest) : "r"(divisor) : "cc");
  return quotient;
}

std::uint64_t count_words(const char* text, std::size_t size) {
  std::uint64_t words = 0;
  for (std::size_t i = 0; i < size; ++i) words += text[i] != ' ' && (i == 0 || text[i - 1] == ' ');
  return words;
}

// Turns the text into capital letters where it lies.
std::uint64_t shout(char* text, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    if (text[i] >= 'a' && text[i] <= 'z') text[i] = static_cast<char>(text[i] - 'a' + 'A');
  }
  return size;
}

// How often this guest has been called: 1 in every request, because each gets a guest as it was in the snapshot.
std::uint64_t visit() { return ++visits; }

std::uint64_t loop_forever() {
  for (;;) asm volatile("");
}

WARMFORK_REGISTER_VMCALL(prepare);
WARMFORK_REGISTER_VMCALL(nth_prime);
WARMFORK_REGISTER_VMCALL(divide);
WARMFORK_REGISTER_VMCALL(count_words);
WARMFORK_REGISTER_VMCALL(shout);
WARMFORK_REGISTER_VMCALL(visit);
WARMFORK_REGISTER_VMCALL(loop_forever);
}

int main(int argc, char** argv) {
  std::printf("%s is starting, greeting %s\n", argv[0], argc > 1 ? argv[1] : "nobody");
  std::fflush(stdout);
  warmfork::wait_for_calls();
}
