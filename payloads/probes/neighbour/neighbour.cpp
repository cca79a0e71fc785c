// A guest with many neighbours in one VM. It writes its name into all that is its own, and looks whether it is still
// there: at the beginning of a call, after every word, at the end.
#include "neighbour.hpp"

#include "warmfork/abi/vmcall.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using namespace warmfork::neighbour;

alignas(4096) volatile std::uint64_t window[kWindowPages][kWords];
alignas(4096) volatile std::uint64_t fresh[kFreshPages][kWords];
Finding finding;

std::uint64_t found(Wrong what, std::uint64_t place, std::uint64_t value, std::uint64_t expected) {
  finding = {what, place, value, expected};
  return reinterpret_cast<std::uint64_t>(&finding);
}

/// All words of the pages.
std::uint64_t check(const Order& order, std::uint64_t last, const volatile std::uint64_t (*own)[kWords]) {
  const auto name = static_cast<std::uint32_t>(order.name);
  for (std::size_t page = 0; page < kWindowPages; ++page) {
    for (std::size_t word = 0; word < kWords; ++word) {
      const std::uint64_t value = window[page][word];
      const std::uint64_t expected = word_of(name, order.before, last, word, pristine(page, word));
      if (value != expected) return found(Wrong::kWindow, page << 16 | word, value, expected);
    }
  }
  for (std::size_t page = 0; page < kFreshPages; ++page) {
    const std::uint64_t value = fresh[page][1], expected = last == order.before ? 0 : entry(name, last);
    if (value != expected) return found(Wrong::kFresh, page << 16 | 1, value, expected);
  }
  for (std::size_t page = 0; page < kOwnPages; ++page) {
    for (std::size_t word = 0; word < kWords; ++word) {
      const std::uint64_t value = own[page][word];
      const std::uint64_t expected = word_of(name, 0, last, word, 0);
      if (value != expected) return found(Wrong::kOwn, page << 16 | word, value, expected);
    }
  }
  return 0;
}

/// Holds `value` in all of XMM0 to XMM15 for so long, and through the faults of pages that are written from there.
/// Returns 0, or what was found.
std::uint64_t hold(std::uint64_t value, std::uint64_t spins) {
  alignas(16) std::uint64_t after[16][2];
  std::uint64_t page = reinterpret_cast<std::uint64_t>(fresh), pages = kFreshPages;
  asm volatile(
      "movq %[value], %%xmm0\n punpcklqdq %%xmm0, %%xmm0\n"
      "movdqa %%xmm0, %%xmm1\n movdqa %%xmm0, %%xmm2\n movdqa %%xmm0, %%xmm3\n movdqa %%xmm0, %%xmm4\n"
      "movdqa %%xmm0, %%xmm5\n movdqa %%xmm0, %%xmm6\n movdqa %%xmm0, %%xmm7\n movdqa %%xmm0, %%xmm8\n"
      "movdqa %%xmm0, %%xmm9\n movdqa %%xmm0, %%xmm10\n movdqa %%xmm0, %%xmm11\n movdqa %%xmm0, %%xmm12\n"
      "movdqa %%xmm0, %%xmm13\n movdqa %%xmm0, %%xmm14\n movdqa %%xmm0, %%xmm15\n"
      "1: movdqa %%xmm9, (%[page])\n add $4096, %[page]\n dec %[pages]\n jnz 1b\n"
      "2: dec %[spins]\n jns 2b\n"
      "movdqa %%xmm0, 0(%[after])\n movdqa %%xmm1, 16(%[after])\n movdqa %%xmm2, 32(%[after])\n"
      "movdqa %%xmm3, 48(%[after])\n movdqa %%xmm4, 64(%[after])\n movdqa %%xmm5, 80(%[after])\n"
      "movdqa %%xmm6, 96(%[after])\n movdqa %%xmm7, 112(%[after])\n movdqa %%xmm8, 128(%[after])\n"
      "movdqa %%xmm9, 144(%[after])\n movdqa %%xmm10, 160(%[after])\n movdqa %%xmm11, 176(%[after])\n"
      "movdqa %%xmm12, 192(%[after])\n movdqa %%xmm13, 208(%[after])\n movdqa %%xmm14, 224(%[after])\n"
      "movdqa %%xmm15, 240(%[after])\n"
      : [spins] "+r"(spins), [page] "+r"(page), [pages] "+r"(pages)
      : [value] "r"(value), [after] "r"(after)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  for (std::size_t i = 0; i < 32; ++i) {
    if (after[i / 2][i % 2] != value) return found(Wrong::kRegister, i / 2, after[i / 2][i % 2], value);
  }
  return 0;
}

}  // namespace

extern "C" {

// Before the snapshot. Returns where the window's pages are.
std::uint64_t settle() {
  for (std::size_t page = 0; page < kWindowPages; ++page) {
    for (std::size_t word = 0; word < kWords; ++word) window[page][word] = pristine(page, word);
  }
  return reinterpret_cast<std::uint64_t>(window);
}

// Does what the order says. Returns 0, or where to find what was wrong.
std::uint64_t sign(std::uint64_t order_address, std::uint64_t by_register) {
  const Order order = *reinterpret_cast<const Order*>(order_address);
  if (order.name != by_register) return found(Wrong::kOrder, 0, order.name, by_register);
  const auto name = static_cast<std::uint32_t>(order.name);
  auto* const own = reinterpret_cast<volatile std::uint64_t(*)[kWords]>(order.own);
  const auto* const common = reinterpret_cast<const volatile std::uint64_t(*)[kWords]>(order.common);
  if (const std::uint64_t wrong = check(order, order.last, own)) return wrong;
  std::uint64_t seen[kCommonPages];
  for (std::uint64_t& least : seen) least = order.at_least;
  const std::uint64_t last = order.last + order.entries;
  for (std::uint64_t number = order.last + 1; number <= last; ++number) {
    const std::uint64_t value = entry(name, number);
    const std::size_t word = number % kWords;
    for (auto& page : window) page[word] = value;
    for (std::size_t page = 0; page < kOwnPages; ++page) own[page][word] = value;
    for (std::size_t page = 0; page < kWindowPages; ++page) {
      const std::uint64_t there = window[page][word];
      if (there != value) return found(Wrong::kWindow, page << 16 | word, there, value);
    }
    for (std::size_t page = 0; page < kOwnPages; ++page) {
      const std::uint64_t there = own[page][word];
      if (there != value) return found(Wrong::kOwn, page << 16 | word, there, value);
    }
    for (std::size_t page = 0; page < kCommonPages; ++page) {
      const std::uint64_t there = common[page][0];
      if (there < seen[page]) return found(Wrong::kCommon, page << 16, there, seen[page]);
      seen[page] = there;
    }
  }
  if (const std::uint64_t wrong = hold(entry(name, last), order.spins)) return wrong;
  return check(order, last, own);
}

std::uint64_t crash() { __builtin_trap(); }

WARMFORK_REGISTER_VMCALL(settle);
WARMFORK_REGISTER_VMCALL(sign);
WARMFORK_REGISTER_VMCALL(crash);
}

int main() { warmfork::wait_for_calls(); }
