#include "machine/raw_guest.hpp"

#include "machine/vcpu_setup.hpp"
#include "warmfork/abi/layout.h"
#include "x86/cpuid.hpp"
#include "x86/page_tables.hpp"
#include "x86/segments.hpp"
#include "x86/system_pages.hpp"

#include <algorithm>
#include <array>

extern "C" const std::byte warmfork_user_stubs_begin[];
extern "C" const std::byte warmfork_user_stubs_end[];
extern "C" const std::byte warmfork_probe_code_begin[];
extern "C" const std::byte warmfork_probe_code_end[];
extern "C" const std::byte warmfork_probe_exit[];
extern "C" const std::byte warmfork_probe_exit_loop[];
extern "C" const std::byte warmfork_probe_syscall[];
extern "C" const std::byte warmfork_probe_cpl0_loop[];
extern "C" const std::byte warmfork_probe_xrstor[];

namespace warmfork {
namespace {

constexpr std::uint64_t kImageGpa = 0x100000;
constexpr std::uint64_t kWindowGpa = 0x200000;
constexpr std::uint64_t kTablesGpa = 0x300000;
constexpr std::uint64_t kImageSize = WARMFORK_SYSTEM_SIZE + kPage;
constexpr std::uint64_t kWindowSize = kPage;  // the exception stack
constexpr std::uint64_t kTablesSize = 16 * kPage;
constexpr std::uint64_t kCode = WARMFORK_USER_BASE;
constexpr std::uint64_t kExceptionStack = kCode + 2 * kPage;  // a hole between them

}  // namespace

Result<std::unique_ptr<RawGuest>> RawGuest::create(const kvm::Kvm& kvm) {
  return create(kvm, x86::make_cpu_model(kvm.supported_cpuid()));
}

Result<std::unique_ptr<RawGuest>> RawGuest::create(const kvm::Kvm& kvm, const x86::CpuModel& cpu) {
  std::unique_ptr<RawGuest> guest(new RawGuest);
  WARMFORK_TRY_ASSIGN(guest->image_, Mapping::anonymous(kImageSize));
  WARMFORK_TRY_ASSIGN(guest->window_, Mapping::anonymous(kWindowSize));
  WARMFORK_TRY_ASSIGN(guest->tables_, Mapping::anonymous(kTablesSize));
  x86::build_system_pages(guest->image_.bytes().first(WARMFORK_SYSTEM_SIZE), WARMFORK_SYSTEM_BASE,
                          kExceptionStack + kPage, {warmfork_user_stubs_begin, warmfork_user_stubs_end});
  std::ranges::copy(std::span(warmfork_probe_code_begin, warmfork_probe_code_end),
                    guest->image_.bytes().subspan(WARMFORK_SYSTEM_SIZE).begin());

  x86::PageTables tables(guest->tables_.bytes(), kTablesGpa);
  constexpr x86::Access kKernelData{false, false, false};
  constexpr x86::Access kKernelCode{false, false, true};
  constexpr x86::Access kUserCode{true, false, true};
  WARMFORK_TRY(tables.map(WARMFORK_SYSTEM_BASE, kImageGpa, 2 * kPage, kKernelData, false));
  WARMFORK_TRY(tables.map(WARMFORK_SYSTEM_BASE + 2 * kPage, kImageGpa + 2 * kPage, kPage, kKernelCode, false));
  WARMFORK_TRY(tables.map(WARMFORK_SYSTEM_BASE + 3 * kPage, kImageGpa + 3 * kPage, kPage, kUserCode, false));
  WARMFORK_TRY(tables.map(kCode, kImageGpa + WARMFORK_SYSTEM_SIZE, kPage, kUserCode, false));
  WARMFORK_TRY(tables.map(kExceptionStack, kWindowGpa, kPage, {false, true, false}, false));

  WARMFORK_TRY_ASSIGN(guest->vm_, kvm.create_vm());
  WARMFORK_TRY(guest->vm_->set_memory(0, KVM_MEM_READONLY, kImageGpa, guest->image_.bytes()));
  WARMFORK_TRY(guest->vm_->set_memory(1, 0, kWindowGpa, guest->window_.bytes()));
  WARMFORK_TRY(guest->vm_->set_memory(2, 0, kTablesGpa, guest->tables_.bytes()));
  WARMFORK_TRY_ASSIGN(guest->vcpu_, guest->vm_->create_vcpu(0));
  WARMFORK_TRY_ASSIGN(guest->user_sregs_, set_up_vcpu(*guest->vcpu_, cpu, tables.root()));
  return guest;
}

Status RawGuest::prepare(Code code, unsigned level, std::uint64_t rcx) {
  kvm_sregs sregs = user_sregs_;
  sregs.cs = x86::code_segment(level);
  sregs.ss = x86::data_segment(level);
  WARMFORK_TRY(vcpu_->set_sregs(sregs));
  kvm_regs regs{};
  regs.rip = address(code).value;
  regs.rflags = kUserFlags;
  regs.rcx = rcx;
  return vcpu_->set_regs(regs);
}

Gva RawGuest::address(Code code) {
  const std::array<const std::byte*, 5> starts{warmfork_probe_exit, warmfork_probe_exit_loop, warmfork_probe_syscall,
                                               warmfork_probe_cpl0_loop, warmfork_probe_xrstor};
  const auto offset = starts[static_cast<std::size_t>(code)] - warmfork_probe_code_begin;
  return Gva{kCode + static_cast<std::uint64_t>(offset)};
}

}  // namespace warmfork
