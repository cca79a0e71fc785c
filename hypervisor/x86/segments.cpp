#include "x86/segments.hpp"

namespace warmfork::x86 {
namespace {

// Segment types with the accessed (busy) bit preset: the processor would otherwise write it into a read-only GDT.
constexpr std::uint8_t kCodeReadAccessed = 0b1011;
constexpr std::uint8_t kDataWriteAccessed = 0b0011;
constexpr std::uint8_t kTssBusy64 = 0b1011;

}  // namespace

kvm_segment code_segment(unsigned level) {
  kvm_segment segment{};
  segment.limit = 0xffffffff;
  segment.selector = level == 0 ? kKernelCode : kUserCode;
  segment.type = kCodeReadAccessed;
  segment.present = 1;
  segment.dpl = static_cast<std::uint8_t>(level);
  segment.s = 1;
  segment.l = 1;
  segment.g = 1;
  return segment;
}

kvm_segment data_segment(unsigned level, std::uint64_t base) {
  kvm_segment segment{};
  segment.base = base;
  segment.limit = 0xffffffff;
  segment.selector = level == 0 ? kKernelData : kUserData;
  segment.type = kDataWriteAccessed;
  segment.present = 1;
  segment.dpl = static_cast<std::uint8_t>(level);
  segment.db = 1;
  segment.s = 1;
  segment.g = 1;
  return segment;
}

kvm_segment task_segment(std::uint64_t base, std::uint32_t limit) {
  kvm_segment segment{};
  segment.base = base;
  segment.limit = limit;
  segment.selector = kTaskState;
  segment.type = kTssBusy64;
  segment.present = 1;
  return segment;
}

kvm_segment no_segment() {
  kvm_segment segment{};
  segment.unusable = 1;
  return segment;
}

}  // namespace warmfork::x86
