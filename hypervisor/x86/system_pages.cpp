#include "x86/system_pages.hpp"

#include "x86/segments.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace warmfork::x86 {
namespace {

void put(std::span<std::byte> bytes, std::size_t offset, auto value) {
  std::memcpy(bytes.subspan(offset, sizeof value).data(), &value, sizeof value);
}

// Access byte, bits 40-47 of a descriptor: P, DPL, S, type with the accessed bit set.
constexpr std::uint64_t access_byte(unsigned type, bool code_or_data, unsigned level) {
  return std::uint64_t{0x80 | level << 5 | (code_or_data ? 0x10U : 0U) | type} << 40;
}

constexpr std::uint64_t kLongMode = std::uint64_t{1} << 53;    // L, code segments
constexpr std::uint64_t kDefaultBig = std::uint64_t{1} << 54;  // D/B, data segments
constexpr std::uint64_t kGranularity = std::uint64_t{1} << 55;
constexpr std::uint64_t kFlatLimit = 0x000f'0000'0000'ffff;

constexpr std::uint64_t code_descriptor(unsigned level) {
  return kFlatLimit | kGranularity | kLongMode | access_byte(0b1011, true, level);
}

constexpr std::uint64_t data_descriptor(unsigned level) {
  return kFlatLimit | kGranularity | kDefaultBig | access_byte(0b0011, true, level);
}

void build_gdt(std::span<std::byte> page, std::uint64_t tss_base) {
  put(page, kKernelCode, code_descriptor(0));
  put(page, kKernelData, data_descriptor(0));
  put(page, kUserData & ~7U, data_descriptor(3));
  put(page, kUserCode & ~7U, code_descriptor(3));
  const std::uint64_t low = (kTssLimit & 0xffff) | (tss_base & 0xffffff) << 16 | access_byte(0b1011, false, 0) |
                            std::uint64_t{kTssLimit >> 16 & 0xf} << 48 | (tss_base >> 24 & 0xff) << 56;
  put(page, kTaskState, low);
  put(page, kTaskState + 8, tss_base >> 32);
}

void build_tss(std::span<std::byte> tss, std::uint64_t exception_stack_top) {
  constexpr std::size_t kRsp0 = 4;
  constexpr std::size_t kIst1 = 36;
  constexpr std::size_t kIoMapBase = 102;
  put(tss, kRsp0, exception_stack_top);
  put(tss, kIst1, exception_stack_top);
  put(tss, kIoMapBase, static_cast<std::uint16_t>(kTssFixedSize));
  const auto bitmap = tss.subspan(kTssFixedSize, kIoBitmapSize);
  std::ranges::fill(bitmap, std::byte{0xff});
  // A clear bit allows the port at CPL 3. Exception ports stay closed: only the CPL 0 stubs use them.
  constexpr std::array<unsigned, 5> kOpenPorts{WARMFORK_PORT_SYSCALL, WARMFORK_PORT_RETURN, WARMFORK_PORT_READY,
                                               WARMFORK_PORT_PARK, WARMFORK_PORT_DOORBELL};
  for (const unsigned port : kOpenPorts) {
    bitmap[port / 8] &= ~(std::byte{1} << (port % 8));
  }
}

void build_idt(std::span<std::byte> page, std::uint64_t stubs) {
  for (unsigned vector = 0; vector < WARMFORK_EXCEPTION_COUNT; ++vector) {
    const std::uint64_t handler = stubs + vector * WARMFORK_EXCEPTION_STUB_SIZE;
    // Interrupt gate, present, DPL 0 (a guest cannot raise it by INT n), stack IST1.
    const std::uint64_t low = (handler & 0xffff) | std::uint64_t{kKernelCode} << 16 | std::uint64_t{1} << 32 |
                              std::uint64_t{0x8e} << 40 | (handler >> 16 & 0xffff) << 48;
    put(page, std::size_t{vector} * 16, low);
    put(page, std::size_t{vector} * 16 + 8, handler >> 32);
  }
}

void build_exception_stubs(std::span<std::byte> page) {
  std::ranges::fill(page, std::byte{0xf4});  // hlt, should anything run past a stub
  for (unsigned vector = 0; vector < WARMFORK_EXCEPTION_COUNT; ++vector) {
    const std::size_t offset = std::size_t{vector} * WARMFORK_EXCEPTION_STUB_SIZE;
    put(page, offset, std::uint8_t{0xe6});  // out imm8, al
    put(page, offset + 1, static_cast<std::uint8_t>(WARMFORK_PORT_EXCEPTION + vector));
  }
}

}  // namespace

void build_system_pages(std::span<std::byte> pages, std::uint64_t base, std::uint64_t exception_stack_top,
                        std::span<const std::byte> user_stubs) {
  const auto page = [&](std::size_t offset) { return pages.subspan(offset, WARMFORK_PAGE_SIZE); };
  build_gdt(page(WARMFORK_GDT_OFFSET), base + WARMFORK_GDT_OFFSET + kTssOffset);
  build_tss(page(WARMFORK_GDT_OFFSET).subspan(kTssOffset), exception_stack_top);
  build_idt(page(WARMFORK_IDT_OFFSET), base + WARMFORK_EXCEPTION_STUBS_OFFSET);
  build_exception_stubs(page(WARMFORK_EXCEPTION_STUBS_OFFSET));
  std::ranges::fill(page(WARMFORK_USER_STUBS_OFFSET), std::byte{0xf4});
  std::ranges::copy(user_stubs, page(WARMFORK_USER_STUBS_OFFSET).begin());
}

const char* exception_name(unsigned vector) {
  static constexpr std::array kNames{
      "divide error",
      "debug exception",
      "non-maskable interrupt",
      "breakpoint",
      "overflow",
      "bound range",
      "invalid opcode",
      "device not available",
      "double fault",
      "coprocessor segment",
      "invalid task state",
      "segment not present",
      "stack-segment fault",
      "general protection",
      "page fault",
      "reserved exception 15",
      "x87 floating point",
      "alignment check",
      "machine check",
      "SIMD floating point",
      "virtualization",
      "control protection",
      "reserved exception 22",
      "reserved exception 23",
      "reserved exception 24",
      "reserved exception 25",
      "reserved exception 26",
      "reserved exception 27",
      "hypervisor injection",
      "VMM communication",
      "security exception",
      "reserved exception 31",
  };
  return vector < kNames.size() ? kNames[vector] : "unknown exception";
}

}  // namespace warmfork::x86
