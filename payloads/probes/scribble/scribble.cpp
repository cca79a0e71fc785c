// A guest that leaves every trace it can: in all registers, in all memory, by random system calls; and that tells what
// it finds. The other half of the proof that a reset leaves nothing (see scribble.hpp for its calls).
//
// Nothing here lives in memory between two calls: the guest's own data is among what it scribbles over. Hence no libc
// after the start, no globals, system calls by hand.
#include "scribble.hpp"

#include "warmfork/abi/vmcall.hpp"

#include <cpuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>

namespace warmfork::scribble {
namespace {

struct alignas(64) RegisterImage {
  std::uint64_t gprs[16];
  std::uint64_t rflags;
  std::uint64_t ds, es, fs, gs;
  std::uint64_t fs_base, gs_base;
  std::uint64_t mxcsr;
  std::uint64_t fcw;
  std::uint64_t pkru;
  std::uint64_t features;
  std::uint64_t x87_count;
  std::uint64_t padding[4];
  std::uint64_t x87[8][2];
  std::uint64_t masks[8];
  std::uint64_t vectors[32][8];
};
static_assert(offsetof(RegisterImage, rflags) == IMAGE_RFLAGS && offsetof(RegisterImage, fs_base) == IMAGE_FS_BASE);
static_assert(offsetof(RegisterImage, mxcsr) == IMAGE_MXCSR && offsetof(RegisterImage, x87_count) == IMAGE_X87_COUNT);
static_assert(offsetof(RegisterImage, x87) == IMAGE_X87 && offsetof(RegisterImage, masks) == IMAGE_MASKS);
static_assert(offsetof(RegisterImage, vectors) == IMAGE_VECTORS && sizeof(RegisterImage) == IMAGE_SIZE);

class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  std::uint64_t next() { return pattern(seed_, ++count_); }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t seed_;
  std::uint64_t count_ = 0;
};

long system_call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0,
                 std::uint64_t e = 0, std::uint64_t f = 0) {
  long result = 0;
  register std::uint64_t r10 asm("r10") = d;
  register std::uint64_t r8 asm("r8") = e;
  register std::uint64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// What may be scribbled over of a range: not what this call still needs of the stack.
Range spare(Range range) {
  constexpr std::uint64_t kLeafFrame = 1024;
  std::uint64_t rsp = 0;
  asm volatile("mov %%rsp, %0" : "=r"(rsp));
  if (rsp - range.begin < range.size) {
    range.size = rsp - range.begin < kLeafFrame ? 0 : rsp - range.begin - kLeafFrame;
  }
  return range;
}

struct Ranges {
  Range all[kMaxRanges];
  std::size_t count;

  // A copy: the list may lie in what is scribbled over.
  Ranges(const Range* from, std::uint64_t given) : count(given < kMaxRanges ? given : kMaxRanges) {
    for (std::size_t i = 0; i < count; ++i) all[i] = from[i];
  }
};

[[gnu::always_inline]] inline std::uint64_t write_pattern(std::uint64_t seed, const Ranges& ranges) {
  std::uint64_t written = 0;
  for (std::size_t i = 0; i < ranges.count; ++i) {
    const Range range = spare(ranges.all[i]);
    for (std::uint64_t at = range.begin; at + 8 <= range.begin + range.size; at += 8) {
      *reinterpret_cast<volatile std::uint64_t*>(at) = pattern(seed, at);
      written += 8;
    }
  }
  return written;
}

std::uint64_t extended_features() {
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t c = 0;
  std::uint32_t d = 0;
  std::uint64_t features = 0;
  std::uint32_t leaf7_b = 0;
  __cpuid(0, a, b, c, d);
  if (a >= 7) {
    __cpuid_count(7, 0, a, leaf7_b, c, d);
    if ((c >> 4 & 1) != 0) features |= FEATURE_PKRU;  // OSPKE
  }
  __cpuid(1, a, b, c, d);
  if ((c >> 27 & 1) == 0) return features;  // no OSXSAVE
  std::uint32_t xcr0 = 0;
  asm volatile("xgetbv" : "=a"(xcr0), "=d"(d) : "c"(0));
  if ((xcr0 & 6) == 6 && (c >> 28 & 1) != 0) features |= FEATURE_AVX;
  constexpr std::uint32_t kFoundationAndBytes = 1U << 16 | 1U << 30;
  if ((xcr0 & 0xe6) == 0xe6 && (leaf7_b & kFoundationAndBytes) == kFoundationAndBytes) features |= FEATURE_AVX512;
  return features;
}

extern "C" [[noreturn]] void load_registers_and_leave(const RegisterImage* image);

[[noreturn]] void leave_with_random_registers(std::uint64_t seed, std::uint64_t options) {
  Random random(seed);
  RegisterImage image;
  for (std::uint64_t& value : image.gprs) value = random.next();
  // Carry, parity, adjust, zero, sign, direction, overflow, nested task, alignment check, ID: all that POPF can set at
  // CPL 3 but TF. Each is set in some seeds; DF, AC and ID, which outlive most instructions, always.
  image.rflags = (random.next() & 0x48d5) | 0x240402;
  const auto selector = [&] { return random.below(2) == 0 ? 0 : 0x2bU; };
  image.ds = selector();
  image.es = selector();
  image.fs = selector();
  image.gs = selector();
  image.fs_base = random.next() & 0x7fff'ffff'ffff;
  image.gs_base = random.next() & 0x7fff'ffff'ffff;
  // Rounding, FTZ, DAZ, sticky flags; all exceptions masked, or none: nothing that could raise one comes behind.
  const bool pending = (options & SCRIBBLE_PENDING) != 0;
  image.mxcsr = (random.next() & 0xe07f) | 0x2041 | (pending ? 0 : 0x1f80);
  image.fcw = (random.next() & 0x0f00) | 0x0400 | (pending ? 0 : 0x3f);
  image.pkru = random.next() & 0xffff'fffc;  // key 0 is that of every page
  image.features = extended_features();
  if ((options & SCRIBBLE_FSGSBASE) != 0) image.features |= FEATURE_FSGSBASE;
  image.x87_count = 1 + random.below(8);
  for (auto& value : image.x87) {
    value[0] = random.next();
    value[1] = random.next() & 0xffff;
  }
  for (std::uint64_t& value : image.masks) value = random.next() | 1;
  for (auto& vector : image.vectors) {
    for (std::uint64_t& word : vector) word = random.next() | 1;
  }
  load_registers_and_leave(&image);
}

// --- Random use of the system
// ------------------------------------------------------------------------------------------

struct Mappings {
  static constexpr std::size_t kMost = 16;
  struct {
    std::uint64_t begin;
    std::uint64_t size;
    bool writable;
  } all[kMost] = {};

  // True if every byte may be written, as far as these mappings are concerned.
  [[nodiscard]] bool allow(std::uint64_t begin, std::uint64_t size) const {
    for (const auto& mapping : all) {
      if (mapping.size != 0 && !mapping.writable && begin < mapping.begin + mapping.size &&
          mapping.begin < begin + size)
        return false;
    }
    return true;
  }
};

[[gnu::noinline]] std::uint64_t use_stack(std::uint64_t depth, std::uint64_t seed) {
  volatile std::uint64_t frame[48];
  for (std::size_t i = 0; i < 48; ++i) frame[i] = pattern(seed, i);
  const std::uint64_t below = depth == 0 ? 0 : use_stack(depth - 1, seed + 1);
  return frame[seed % 48] + below;
}

constexpr std::uint64_t kPage = 4096;

void change_mapping(Random& random, Mappings& mappings) {
  auto& mapping = mappings.all[random.below(Mappings::kMost)];
  const std::uint64_t protection = random.below(2) == 0 ? PROT_READ | PROT_WRITE : random.below(2);  // …, READ or none
  if (mapping.size == 0) {
    const std::uint64_t size = (1 + random.below(8)) * kPage;
    const long result = system_call(SYS_mmap, 0, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0);
    if (result > 0) mapping = {static_cast<std::uint64_t>(result), size, (protection & PROT_WRITE) != 0};
    return;
  }
  switch (random.below(3)) {
    case 0:
      if (system_call(SYS_munmap, mapping.begin, mapping.size) == 0) mapping = {};
      break;
    case 1:
      if (system_call(SYS_mprotect, mapping.begin, mapping.size, protection) == 0)
        mapping.writable = (protection & PROT_WRITE) != 0;
      break;
    default: system_call(SYS_madvise, mapping.begin, mapping.size, MADV_DONTNEED); break;
  }
}

}  // namespace

extern "C" {

std::uint64_t report_state(StateReport*, std::uint64_t options, const Range*, std::uint64_t count);  // registers.S

// Called by report_state.
[[gnu::used]] std::uint64_t hash_memory(const StateReport* report, const Range* from, std::uint64_t given) {
  const auto report_begin = reinterpret_cast<std::uint64_t>(report);
  const std::size_t count = given < kMaxRanges ? given : kMaxRanges;
  std::uint64_t hash = 0xcbf29ce484222325;
  for (std::size_t i = 0; i < count; ++i) {
    const Range range = from[i];
    for (std::uint64_t at = range.begin; at + 8 <= range.begin + range.size; at += 8) {
      if (at - report_begin < sizeof(StateReport)) continue;
      hash = (hash ^ *reinterpret_cast<const volatile std::uint64_t*>(at)) * 0x9e3779b97f4a7c15;
      hash ^= hash >> 29;
    }
  }
  return hash;
}

std::uint64_t scribble_registers(std::uint64_t seed, std::uint64_t options) {
  leave_with_random_registers(seed, options);
}

std::uint64_t scribble_memory(std::uint64_t seed, const Range* ranges, std::uint64_t count) {
  return write_pattern(seed, Ranges(ranges, count));
}

std::uint64_t scribble_all(std::uint64_t seed, std::uint64_t options, const Range* ranges, std::uint64_t count) {
  write_pattern(seed, Ranges(ranges, count));
  leave_with_random_registers(seed, options);
}

std::uint64_t random_scribble(std::uint64_t seed, std::uint64_t steps, const Range* from, std::uint64_t count,
                              std::uint64_t options) {
  const Ranges ranges(from, count);
  if (ranges.count == 0) return 0;
  Random random(seed);
  Mappings mappings;
  std::uint64_t sum = 0;
  const auto first_break = static_cast<std::uint64_t>(system_call(SYS_brk, 0));
  // A place for `size` bytes, or 0 if chance found one that must not be written.
  const auto place = [&](std::uint64_t size) -> std::uint64_t {
    const Range range = spare(ranges.all[random.below(ranges.count)]);
    if (range.size < size) return 0;
    const std::uint64_t at = range.begin + random.below(range.size - size + 1);
    return mappings.allow(at, size) ? at : 0;
  };
  for (std::uint64_t step = 0; step < steps; ++step) {
    switch (random.below(16)) {
      case 0: sum += use_stack(random.below(24), random.next()); break;
      case 1:
      case 2: change_mapping(random, mappings); break;
      case 3: sum += static_cast<std::uint64_t>(system_call(SYS_brk, first_break + random.below(64 * kPage))); break;
      case 4: {
        const std::uint64_t size = 1 + random.below(256);
        if (const std::uint64_t at = place(size); at != 0) system_call(SYS_getrandom, at, size, 0);
        break;
      }
      default: {
        const std::uint64_t size = 1 + random.below(random.below(4) == 0 ? 2 * kPage : 64);
        const std::uint64_t at = place(size);
        if (at == 0) break;
        const std::uint64_t value = random.next();
        for (std::uint64_t i = 0; i < size; ++i) {
          *reinterpret_cast<volatile std::uint8_t*>(at + i) = static_cast<std::uint8_t>(value >> (i % 8 * 8));
        }
        sum += value;
      }
    }
  }
  if ((options & SCRIBBLE_KEEP) == 0) {
    for (const auto& mapping : mappings.all) {
      if (mapping.size != 0) system_call(SYS_munmap, mapping.begin, mapping.size);
    }
    system_call(SYS_brk, first_break);
  } else {
    constexpr std::uint64_t kSetGs = 0x1001;
    constexpr std::uint64_t kSetFs = 0x1002;
    system_call(SYS_arch_prctl, kSetFs, random.next() & 0x7fff'ffff'fff8);
    system_call(SYS_arch_prctl, kSetGs, random.next() & 0x7fff'ffff'fff8);
  }
  return sum;
}

std::uint64_t try_fsgsbase() {
  std::uint64_t base = 0;
  asm volatile("rdfsbase %0" : "=r"(base));
  return base;
}

}  // extern "C"
}  // namespace warmfork::scribble

using namespace warmfork::scribble;
WARMFORK_REGISTER_VMCALL(report_state);
WARMFORK_REGISTER_VMCALL(scribble_registers);
WARMFORK_REGISTER_VMCALL(scribble_memory);
WARMFORK_REGISTER_VMCALL(scribble_all);
WARMFORK_REGISTER_VMCALL(random_scribble);
WARMFORK_REGISTER_VMCALL(try_fsgsbase);

namespace {
// Data and bss for the host to find scribbled over.
[[gnu::used]] std::uint64_t some_data[1024] = {1, 2, 3};
[[gnu::used]] std::uint64_t some_bss[4096];
}  // namespace

int main() {
  asm volatile("" : : "r"(some_data), "r"(some_bss) : "memory");
  warmfork::wait_for_calls();
}
