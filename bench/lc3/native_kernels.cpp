#include "lc3_bench/native_kernels.hpp"

#include <array>

extern "C" const char warmfork_lc3_kernel_alu_begin[], warmfork_lc3_kernel_alu_end[];
extern "C" const char warmfork_lc3_kernel_mem_begin[], warmfork_lc3_kernel_mem_end[];
extern "C" const char warmfork_lc3_kernel_branch_begin[], warmfork_lc3_kernel_branch_end[];
extern "C" const char warmfork_lc3_kernel_call_begin[], warmfork_lc3_kernel_call_end[];
extern "C" const char warmfork_lc3_kernel_sort_begin[], warmfork_lc3_kernel_sort_end[];
extern "C" const char warmfork_lc3_kernel_sieve_begin[], warmfork_lc3_kernel_sieve_end[];
extern "C" const char warmfork_lc3_kernel_crc_begin[], warmfork_lc3_kernel_crc_end[];
extern "C" const char warmfork_lc3_kernel_matmul_begin[], warmfork_lc3_kernel_matmul_end[];
extern "C" const char warmfork_lc3_kernel_smc_begin[], warmfork_lc3_kernel_smc_end[];

namespace warmfork::lc3_bench {
namespace {

using Word = std::uint16_t;

constexpr Word word(int value) { return static_cast<Word>(value); }
constexpr bool negative(Word value) { return (value & 0x8000) != 0; }
constexpr Word next_random(Word x) { return word(5 * x + 13); }
constexpr Word mix(Word checksum, Word value) { return word((checksum << 1 | checksum >> 15) + value); }

Word alu(Word iterations) {
  Word checksum = 0;
  Word x = 0x1234;
  Word y = 0;
  do {
    for (int i = 0; i < 1000; ++i) {
      x = next_random(x);
      y = word(y + word(~(x & y)) + 7);
    }
    checksum = mix(checksum, y);
  } while (--iterations != 0);
  return checksum;
}

Word mem(Word iterations) {
  std::array<Word, 512> a{};
  Word total = 0;
  Word checksum = 0;
  do {
    for (unsigned i = 0; i < 511; ++i) a[i] = word(a[i] + a[i + 1] + static_cast<int>(511 - i));
    a[511] = word(a[511] + a[0]);
    total = word(total + a[511]);
    checksum = mix(checksum, total);
  } while (--iterations != 0);
  return checksum;
}

Word branch(Word iterations) {
  Word checksum = 0;
  Word x = 0x2345;
  Word y = 0;
  do {
    for (int i = 0; i < 1000; ++i) {
      x = next_random(x);
      if ((x & 0x8000) != 0) {
        y = word(y + 3);
      } else if ((x & 0x4000) != 0) {
        y = word(y + x);
      } else if ((x & 0x2000) != 0) {
        y = word(~y);
      } else if (!negative(y) && y != 0) {
        y = word(y - 7);
      } else {
        y = word(y + 11);
      }
    }
    checksum = mix(checksum, y);
  } while (--iterations != 0);
  return checksum;
}

[[gnu::noinline]] Word fibonacci(Word n) {
  if (n <= 1) return n;
  return word(fibonacci(word(n - 1)) + fibonacci(word(n - 2)));
}

Word call(Word iterations) {
  Word checksum = 0;
  do {
    checksum = mix(checksum, fibonacci(word((checksum & 3) + 12)));
  } while (--iterations != 0);
  return checksum;
}

Word sort(Word iterations) {
  std::array<Word, 128> a{};
  Word checksum = 0;
  Word x = 0x3456;
  do {
    for (Word& value : a) {
      x = next_random(x);
      value = x & 0x7FFF;
    }
    for (unsigned i = 1; i < a.size(); ++i) {
      const Word value = a[i];
      unsigned place = i;
      for (; place > 0 && a[place - 1] > value; --place) a[place] = a[place - 1];
      a[place] = value;
    }
    for (const Word value : a) checksum = mix(checksum, value);
  } while (--iterations != 0);
  return checksum;
}

Word sieve(Word iterations) {
  std::array<Word, 2048> flags{};
  Word checksum = 0;
  do {
    const unsigned limit = 1900U + (checksum & 0x7F);
    for (unsigned i = 0; i < limit; ++i) flags[i] = 0;
    Word sum = 0;
    for (unsigned p = 2; p < limit; ++p) {
      if (flags[p] != 0) continue;
      sum = word(sum + static_cast<int>(p));
      for (unsigned multiple = 2 * p; multiple < limit; multiple += p) flags[multiple] = static_cast<Word>(p);
    }
    checksum = mix(checksum, sum);
  } while (--iterations != 0);
  return checksum;
}

Word crc(Word iterations) {
  Word crc = 0;
  Word x = 0x4567;
  do {
    for (int i = 0; i < 64; ++i) {
      x = next_random(x);
      Word bits = x;
      for (int bit = 0; bit < 16; ++bit) {
        const bool divide = negative(crc) != negative(bits);
        crc = word(crc << 1);
        if (divide) crc ^= 0x1021;
        bits = word(bits << 1);
      }
    }
  } while (--iterations != 0);
  return crc;
}

// By shifts and adds, for the LC-3 has nothing else: both sides do the same work.
Word multiply(Word a, Word b) {
  Word product = 0;
  for (int bit = 0; bit < 16; ++bit) {
    product = word(product << 1);
    if (negative(a)) product = word(product + b);
    a = word(a << 1);
  }
  return product;
}

Word matmul(Word iterations) {
  std::array<Word, 64> a{};
  std::array<Word, 64> b{};
  Word checksum = 0;
  Word x = 0x5678;
  do {
    for (Word& value : a) value = x = next_random(x);
    for (Word& value : b) value = x = next_random(x);
    for (unsigned row = 0; row < 8; ++row) {
      for (unsigned column = 0; column < 8; ++column) {
        Word sum = 0;
        for (unsigned k = 0; k < 8; ++k) sum = word(sum + multiply(a[8 * row + k], b[8 * k + column]));
        checksum = mix(checksum, sum);
      }
    }
  } while (--iterations != 0);
  return checksum;
}

// What the patched instructions do. C++ has no patching: choosing by number is its way to the same result.
Word patched(unsigned which, Word x, Word step) {
  switch (which & 7) {
    case 0: return word(x + 5);
    case 1: return word(~x);
    case 2: return word(x + x);
    case 3: return word(x - 3);
    case 4: return word(x & -9);
    case 5: return word(x + step);
    case 6: return word(x + 15);
    default: return word(~x);
  }
}

Word smc(Word iterations) {
  Word checksum = 0;
  Word x = 0x6789;
  do {
    for (Word step = 64; step > 0; --step) x = patched(step, word(x + 1), step);
    const unsigned routine = x & 7U;
    x = patched(routine, x, 0);
    x = patched(routine + 1, x, 0);
    checksum = mix(checksum, x);
  } while (--iterations != 0);
  return checksum;
}

}  // namespace

std::span<const NativeKernel> native_kernels() {
#define WARMFORK_KERNEL(name) \
  NativeKernel { #name, {warmfork_lc3_kernel_##name##_begin, warmfork_lc3_kernel_##name##_end}, name }
  static const std::array kKernels{WARMFORK_KERNEL(alu),  WARMFORK_KERNEL(mem),    WARMFORK_KERNEL(branch),
                                   WARMFORK_KERNEL(call), WARMFORK_KERNEL(sort),   WARMFORK_KERNEL(sieve),
                                   WARMFORK_KERNEL(crc),  WARMFORK_KERNEL(matmul), WARMFORK_KERNEL(smc)};
#undef WARMFORK_KERNEL
  return kKernels;
}

}  // namespace warmfork::lc3_bench
