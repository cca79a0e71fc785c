#include "kvm/kvm.hpp"

#include "kvm/ioctl_numbers.hpp"

#include <asm/prctl.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstring>

namespace warmfork::kvm {
namespace {

// A KVM structure that ends in an array, in storage of the right size and alignment.
template <class Header, class Entry>
class FlexArray {
 public:
  explicit FlexArray(std::size_t count)
      : words_((kHeaderBytes + count * sizeof(Entry) + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t)) {}

  // SAFETY: the storage is at least as large as KVM's C layout: an 8-byte header, then the entries.
  Header* header() { return reinterpret_cast<Header*>(words_.data()); }
  Entry* entries() { return reinterpret_cast<Entry*>(reinterpret_cast<std::byte*>(words_.data()) + kHeaderBytes); }

 private:
  static constexpr std::size_t kHeaderBytes = 8;
  std::vector<std::uint64_t> words_;
};

using CpuidArray = FlexArray<kvm_cpuid2, kvm_cpuid_entry2>;
using MsrArray = FlexArray<kvm_msrs, kvm_msr_entry>;

struct Capability {
  long number;
  const char* name;
};

// Making a VM, its vCPUs and slots starts kernel threads and waits for grace periods: a signal to the thread (the
// watchdog's, meant for a call that has just ended) interrupts that, and then it has not happened.
template <class Argument>
int ioctl_again(int fd, unsigned long request, Argument argument) {
  int result = 0;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

// What a machine cannot do without; Kvm::open refuses a KVM that lacks one.
constexpr std::array kRequired{
    Capability{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    Capability{KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    Capability{KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"},
    Capability{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    Capability{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    Capability{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    Capability{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
};

constexpr int kNeededSyncRegs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

// Gives this thread the segment registers of a 64-bit Linux program back: all null, with the bases they have.
//
// kvm-pvm runs CPL 3 on the processor itself and does not switch DS, ES, FS and GS: what a guest loads there stays in
// the thread behind KVM_RUN, in no register of the vCPU, and the next guest on this thread finds it. Hardware
// virtualisation switches them; nothing is left to do there.
[[gnu::noinline, gnu::cold]] void drop_selectors() {
  // By system call, as not every kernel lets a program use RDFSBASE, and not by the library, which uses thread-local
  // storage.
  const auto system_call = [](std::uint64_t number, std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d)
                               __attribute__((always_inline)) {
                                 // SAFETY: the kernel's calling convention; these calls cannot fail with these
                                 // arguments.
                                 asm volatile(
                                     "movq %[d], %%r10\n"
                                     "syscall"
                                     : "+a"(number)
                                     : "D"(a), "S"(b), "d"(c), [d] "r"(d)
                                     : "rcx", "r10", "r11", "memory");
                               };
  // Loading FS clears its base on most processors: no signal handler may run until it is back.
  std::uint64_t all_signals = ~std::uint64_t{0};
  std::uint64_t old_signals = 0;
  std::uint64_t fs_base = 0;
  std::uint64_t gs_base = 0;
  system_call(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<std::uintptr_t>(&all_signals),
              reinterpret_cast<std::uintptr_t>(&old_signals), sizeof all_signals);
  system_call(SYS_arch_prctl, ARCH_GET_FS, reinterpret_cast<std::uintptr_t>(&fs_base), 0, 0);
  system_call(SYS_arch_prctl, ARCH_GET_GS, reinterpret_cast<std::uintptr_t>(&gs_base), 0, 0);
  // SAFETY: null selectors are what a 64-bit program has. FS's base is set in the same piece of assembly, so that no
  // sanitizer's code comes between.
  std::uint64_t number = SYS_arch_prctl;
  asm volatile("mov %k[null], %%ds\n mov %k[null], %%es\n mov %k[null], %%gs\n mov %k[null], %%fs\n syscall"
               : "+a"(number)
               : "D"(ARCH_SET_FS), "S"(fs_base), [null] "r"(std::uint64_t{0})
               : "rcx", "r11", "memory");
  system_call(SYS_arch_prctl, ARCH_SET_GS, gs_base, 0, 0);
  system_call(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<std::uintptr_t>(&old_signals), 0, sizeof old_signals);
}

// Four register moves while there is nothing to do.
void drop_guest_selectors() {
  std::uint32_t ds = 0;
  std::uint32_t es = 0;
  std::uint32_t fs = 0;
  std::uint32_t gs = 0;
  asm volatile("mov %%ds, %0\n mov %%es, %1\n mov %%fs, %2\n mov %%gs, %3" : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
  if ((ds | es | fs | gs) != 0) [[unlikely]]
    drop_selectors();
}

Failure open_error(const std::string& path) {
  switch (errno) {
    case ENOENT:
      return fail(ErrorKind::kHost,
                  "{}: there is no KVM on this machine (load kvm_amd or kvm_intel, enable virtualisation in the "
                  "firmware, or ask for nested virtualisation)",
                  path);
    case EACCES:
    case EPERM:
      return fail(ErrorKind::kHost,
                  "{}: no permission (join the group kvm: sudo usermod -aG kvm $USER, then log in again)", path);
    case ENODEV:
    case ENXIO: return fail(ErrorKind::kHost, "{}: the device exists but no KVM module serves it", path);
    default: return fail_errno("{}", path);
  }
}

}  // namespace

Status check_capabilities(const std::function<int(long)>& check_extension) {
  for (const Capability& capability : kRequired) {
    if (check_extension(capability.number) == 0) {
      return fail(ErrorKind::kHost, "this KVM lacks {}, which warmfork needs", capability.name);
    }
  }
  if (const int sync = check_extension(KVM_CAP_SYNC_REGS); (sync & kNeededSyncRegs) != kNeededSyncRegs) {
    return fail(ErrorKind::kHost, "KVM_CAP_SYNC_REGS offers {:#x}, needed are registers and segments ({:#x})", sync,
                kNeededSyncRegs);
  }
  return {};
}

VcpuFd::VcpuFd(UniqueFd fd, Mapping mapping) : fd_(std::move(fd)), mapping_(std::move(mapping)) {
  // SAFETY: the mapping is KVM's kvm_run page(s), at least sizeof(kvm_run) long (checked by Kvm::open).
  run_ = reinterpret_cast<kvm_run*>(mapping_.data());
}

int VcpuFd::run_raw() {
  const int error = ::ioctl(fd_.get(), KVM_RUN, 0) == 0 ? 0 : errno;
  drop_guest_selectors();
  return error;
}

Result<VcpuExit> VcpuFd::run() {
  const int error = run_raw();
  if (error == EINTR || error == EAGAIN) return VcpuExit{ExitInterrupted{}};
  if (error != 0) {
    errno = error;
    return fail_errno("KVM_RUN");
  }
  return decode_exit(*run_, mapping_.size());
}

Result<kvm_regs> VcpuFd::regs() const {
  kvm_regs regs{};
  if (::ioctl(fd_.get(), KVM_GET_REGS, &regs) != 0) return fail_errno("KVM_GET_REGS");
  return regs;
}

Status VcpuFd::set_regs(const kvm_regs& regs) {
  if (::ioctl(fd_.get(), KVM_SET_REGS, &regs) != 0) return fail_errno("KVM_SET_REGS (rip {:#x})", regs.rip);
  return {};
}

Result<kvm_sregs> VcpuFd::sregs() const {
  kvm_sregs sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0) return fail_errno("KVM_GET_SREGS");
  return sregs;
}

Status VcpuFd::set_sregs(const kvm_sregs& sregs) {
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &sregs) != 0) {
    return fail_errno("KVM_SET_SREGS (cr0 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x})", sregs.cr0, sregs.cr3, sregs.cr4,
                      sregs.efer);
  }
  return {};
}

Result<kvm_sregs2> VcpuFd::sregs2() const {
  kvm_sregs2 sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS2, &sregs) != 0) return fail_errno("KVM_GET_SREGS2");
  return sregs;
}

Status VcpuFd::set_sregs2(const kvm_sregs2& sregs) {
  if (::ioctl(fd_.get(), KVM_SET_SREGS2, &sregs) != 0) {
    return fail_errno("KVM_SET_SREGS2 (cr0 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x}, flags {:#x})", sregs.cr0, sregs.cr3,
                      sregs.cr4, sregs.efer, sregs.flags);
  }
  return {};
}

Status VcpuFd::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  CpuidArray array(entries.size());
  array.header()->nent = static_cast<std::uint32_t>(entries.size());
  std::copy(entries.begin(), entries.end(), array.entries());
  if (::ioctl(fd_.get(), kSetCpuid2, array.header()) != 0)
    return fail_errno("KVM_SET_CPUID2 ({} entries)", entries.size());
  return {};
}

Status VcpuFd::set_msrs(std::span<const Msr> msrs) {
  MsrArray array(msrs.size());
  array.header()->nmsrs = static_cast<std::uint32_t>(msrs.size());
  for (std::size_t i = 0; i < msrs.size(); ++i) array.entries()[i] = {msrs[i].index, 0, msrs[i].value};
  const int done = ::ioctl(fd_.get(), kSetMsrs, array.header());
  if (done < 0) return fail_errno("KVM_SET_MSRS ({} registers)", msrs.size());
  if (const auto count = static_cast<std::size_t>(done); count != msrs.size()) {
    return fail(ErrorKind::kHost, "KVM_SET_MSRS: register {:#x} refuses the value {:#x}", msrs[count].index,
                msrs[count].value);
  }
  return {};
}

Result<std::size_t> VcpuFd::read_msrs(std::span<Msr> msrs) const {
  MsrArray array(msrs.size());
  array.header()->nmsrs = static_cast<std::uint32_t>(msrs.size());
  for (std::size_t i = 0; i < msrs.size(); ++i) array.entries()[i] = {msrs[i].index, 0, 0};
  const int done = ::ioctl(fd_.get(), kGetMsrs, array.header());
  if (done < 0) return fail_errno("KVM_GET_MSRS ({} registers)", msrs.size());
  const auto count = static_cast<std::size_t>(done);
  for (std::size_t i = 0; i < count; ++i) msrs[i].value = array.entries()[i].data;
  return count;
}

Result<std::vector<Msr>> VcpuFd::msrs(std::span<const std::uint32_t> indices) const {
  std::vector<Msr> values;
  values.reserve(indices.size());
  for (const std::uint32_t index : indices) values.push_back({index, 0});
  WARMFORK_TRY_ASSIGN(const std::size_t count, read_msrs(values));
  if (count != indices.size()) {
    return fail(ErrorKind::kHost, "KVM_GET_MSRS: register {:#x} cannot be read", indices[count]);
  }
  return values;
}

Status VcpuFd::set_xcr0(std::uint64_t value) {
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0] = {.xcr = 0, .reserved = 0, .value = value};
  return set_xcrs(xcrs);
}

Status VcpuFd::set_xcrs(const kvm_xcrs& xcrs) {
  if (::ioctl(fd_.get(), KVM_SET_XCRS, &xcrs) != 0)
    return fail_errno("KVM_SET_XCRS ({} registers, xcr0 {:#x})", xcrs.nr_xcrs, xcrs.xcrs[0].value);
  return {};
}

Result<kvm_xcrs> VcpuFd::xcrs() const {
  kvm_xcrs xcrs{};
  if (::ioctl(fd_.get(), KVM_GET_XCRS, &xcrs) != 0) return fail_errno("KVM_GET_XCRS");
  return xcrs;
}

Result<std::vector<std::byte>> VcpuFd::xsave(std::size_t size) const {
  if (size < sizeof(kvm_xsave::region)) return fail(ErrorKind::kUsage, "XSAVE area of {} bytes, at least 4096", size);
  std::vector<std::byte> area(size);
  // KVM_GET_XSAVE writes exactly 4096 bytes, KVM_GET_XSAVE2 as many as KVM_CAP_XSAVE2 says.
  const bool fits = size == sizeof(kvm_xsave::region);
  if (::ioctl(fd_.get(), fits ? kGetXsave : kGetXsave2, area.data()) != 0)
    return fail_errno("{} ({} bytes)", fits ? "KVM_GET_XSAVE" : "KVM_GET_XSAVE2", size);
  return area;
}

Status VcpuFd::set_xsave(std::span<const std::byte> area) {
  if (area.size() < sizeof(kvm_xsave::region))
    return fail(ErrorKind::kUsage, "XSAVE area of {} bytes, at least 4096", area.size());
  // KVM reads as many bytes as KVM_CAP_XSAVE2 says for this vCPU; there is no KVM_SET_XSAVE2.
  if (::ioctl(fd_.get(), kSetXsave, area.data()) != 0) {
    std::uint32_t mxcsr = 0;
    std::uint64_t components = 0;
    std::memcpy(&mxcsr, area.subspan(24).data(), sizeof mxcsr);
    std::memcpy(&components, area.subspan(512).data(), sizeof components);
    return fail_errno("KVM_SET_XSAVE ({} bytes, XSTATE_BV {:#x}, mxcsr {:#x})", area.size(), components, mxcsr);
  }
  return {};
}

Result<kvm_debugregs> VcpuFd::debugregs() const {
  kvm_debugregs registers{};
  if (::ioctl(fd_.get(), KVM_GET_DEBUGREGS, &registers) != 0) return fail_errno("KVM_GET_DEBUGREGS");
  return registers;
}

Status VcpuFd::set_debugregs(const kvm_debugregs& registers) {
  if (::ioctl(fd_.get(), KVM_SET_DEBUGREGS, &registers) != 0)
    return fail_errno("KVM_SET_DEBUGREGS (dr6 {:#x}, dr7 {:#x})", registers.dr6, registers.dr7);
  return {};
}

Result<kvm_vcpu_events> VcpuFd::events() const {
  kvm_vcpu_events events{};
  if (::ioctl(fd_.get(), KVM_GET_VCPU_EVENTS, &events) != 0) return fail_errno("KVM_GET_VCPU_EVENTS");
  return events;
}

Status VcpuFd::set_events(const kvm_vcpu_events& events) {
  if (::ioctl(fd_.get(), KVM_SET_VCPU_EVENTS, &events) != 0)
    return fail_errno("KVM_SET_VCPU_EVENTS (flags {:#x})", events.flags);
  return {};
}

Result<kvm_mp_state> VcpuFd::mp_state() const {
  kvm_mp_state state{};
  if (::ioctl(fd_.get(), KVM_GET_MP_STATE, &state) != 0) return fail_errno("KVM_GET_MP_STATE");
  return state;
}

Status VcpuFd::set_mp_state(const kvm_mp_state& state) {
  if (::ioctl(fd_.get(), KVM_SET_MP_STATE, &state) != 0) return fail_errno("KVM_SET_MP_STATE ({})", state.mp_state);
  return {};
}

Status VmFd::set_memory(std::uint32_t slot, std::uint32_t flags, std::uint64_t gpa, std::span<std::byte> host) {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = flags;
  region.guest_phys_addr = gpa;
  region.memory_size = host.size();
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(host.data());
  if (ioctl_again(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) {
    return fail_errno("KVM_SET_USER_MEMORY_REGION (slot {}, flags {:#x}, gpa {:#x}, {} bytes)", slot, flags, gpa,
                      host.size());
  }
  return {};
}

Result<VcpuFd> VmFd::create_vcpu(unsigned id) const {
  UniqueFd fd(ioctl_again(fd_.get(), KVM_CREATE_VCPU, id));
  if (!fd) return fail_errno("KVM_CREATE_VCPU ({})", id);
  WARMFORK_TRY_ASSIGN(Mapping mapping, Mapping::shared(fd.get(), run_size_));
  return VcpuFd(std::move(fd), std::move(mapping));
}

Result<std::uint64_t> VcpuFd::statistic(std::string_view name) const {
  const UniqueFd stats(::ioctl(fd_.get(), KVM_GET_STATS_FD, nullptr));
  const auto read_at = [&](std::uint64_t offset, void* out, std::size_t size) {
    return ::pread(stats.get(), out, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
  };
  kvm_stats_header header{};
  if (!stats || !read_at(0, &header, sizeof header))
    return fail(ErrorKind::kUnsupported, "KVM_GET_STATS_FD: this KVM does not say what it counts");
  // The name follows the 16 bytes before it; sizeof(kvm_stats_desc) says more in C++, where an array cannot have none.
  constexpr std::size_t kBeforeName = offsetof(kvm_stats_desc, bucket_size) + sizeof(kvm_stats_desc::bucket_size);
  static_assert(kBeforeName == 16);
  const std::size_t size = kBeforeName + header.name_size;
  std::vector<char> descriptors(size * header.num_desc);
  if (!read_at(header.desc_offset, descriptors.data(), descriptors.size()))
    return fail_errno("KVM_GET_STATS_FD: {} descriptors of {} bytes", header.num_desc, size);
  for (std::uint32_t i = 0; i < header.num_desc; ++i) {
    const char* at = descriptors.data() + i * size;
    const char* text = at + kBeforeName;
    if (std::string_view(text, ::strnlen(text, header.name_size)) != name) continue;
    std::uint32_t offset = 0;
    std::memcpy(&offset, at + offsetof(kvm_stats_desc, offset), sizeof offset);
    std::uint64_t value = 0;
    if (!read_at(std::uint64_t{header.data_offset} + offset, &value, sizeof value))
      return fail_errno("KVM_GET_STATS_FD: the value of {}", name);
    return value;
  }
  return fail(ErrorKind::kUnsupported, "KVM_GET_STATS_FD: this KVM does not count {}", name);
}

Result<DirtyRing> VcpuFd::map_dirty_ring(std::size_t entries) const {
  constexpr std::int64_t kOffset = std::int64_t{KVM_DIRTY_LOG_PAGE_OFFSET} * 4096;
  WARMFORK_TRY_ASSIGN(Mapping mapping, Mapping::shared(fd_.get(), entries * sizeof(kvm_dirty_gfn), kOffset));
  return DirtyRing(std::move(mapping));
}

Status VmFd::dirty_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) const {
  kvm_dirty_log request{};
  request.slot = slot;
  request.dirty_bitmap = bitmap.data();
  if (::ioctl(fd_.get(), KVM_GET_DIRTY_LOG, &request) != 0) return fail_errno("KVM_GET_DIRTY_LOG (slot {})", slot);
  return {};
}

Status VmFd::clear_dirty_log(std::uint32_t slot, std::size_t pages, std::span<std::uint64_t> bitmap) {
  kvm_clear_dirty_log request{};
  request.slot = slot;
  request.num_pages = static_cast<std::uint32_t>(pages);
  request.dirty_bitmap = bitmap.data();
  if (::ioctl(fd_.get(), KVM_CLEAR_DIRTY_LOG, &request) != 0) {
    return fail_errno("KVM_CLEAR_DIRTY_LOG (slot {}, {} pages)", slot, pages);
  }
  return {};
}

Status VmFd::reset_dirty_rings() {
  if (::ioctl(fd_.get(), KVM_RESET_DIRTY_RINGS, 0) < 0) return fail_errno("KVM_RESET_DIRTY_RINGS");
  return {};
}

Status VmFd::set_mmu_pages(std::uint64_t count) {
  if (::ioctl(fd_.get(), KVM_SET_NR_MMU_PAGES, count) != 0) return fail_errno("KVM_SET_NR_MMU_PAGES ({})", count);
  return {};
}

Status VmFd::set_ioeventfd(std::uint16_t port, std::uint8_t value, int fd, bool assigned) {
  kvm_ioeventfd event{};
  event.addr = port;
  event.len = 1;
  event.fd = fd;
  event.datamatch = value;
  event.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH;
  if (!assigned) event.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
  if (::ioctl(fd_.get(), KVM_IOEVENTFD, &event) != 0) {
    return fail_errno("KVM_IOEVENTFD (port {:#x}, value {}, {})", port, value, assigned ? "assign" : "deassign");
  }
  return {};
}

Status DirtyRing::reset(VmFd& vm) {
  for (; first_ != next_; ++first_) {
    std::atomic_ref(entry(first_).flags).store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
  }
  return vm.reset_dirty_rings();
}

int VmFd::check_extension(long capability) const {
  const int value = ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, capability);
  return value < 0 ? 0 : value;
}

Status VmFd::enable_capability(std::uint32_t capability, std::uint64_t argument) {
  kvm_enable_cap request{};
  request.cap = capability;
  request.args[0] = argument;
  if (ioctl_again(fd_.get(), KVM_ENABLE_CAP, &request) != 0) {
    return fail_errno("KVM_ENABLE_CAP (capability {}, argument {:#x})", capability, argument);
  }
  return {};
}

Result<Kvm> Kvm::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return open_error(path);
  const int version = ::ioctl(fd.get(), KVM_GET_API_VERSION, 0);
  if (version < 0) return fail(ErrorKind::kHost, "{}: not a KVM device ({})", path, std::strerror(errno));
  if (version != KVM_API_VERSION) {
    return fail(ErrorKind::kHost, "{}: KVM API version {}, needed is {}", path, version, KVM_API_VERSION);
  }
  const int run_size = ::ioctl(fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0) return fail_errno("KVM_GET_VCPU_MMAP_SIZE");
  if (static_cast<std::size_t>(run_size) < sizeof(kvm_run)) {
    return fail(ErrorKind::kHost, "{}: kvm_run of {} bytes, needed are {}", path, run_size, sizeof(kvm_run));
  }
  Kvm kvm(std::move(fd), static_cast<std::size_t>(run_size));
  const auto complete = check_capabilities([&](long capability) { return kvm.check_extension(capability); });
  if (!complete) return with_context(complete.error(), path);
  WARMFORK_TRY(kvm.read_supported_cpuid());
  return kvm;
}

Result<VmFd> Kvm::create_vm() const {
  int raw = -1;
  do {  // creation can be interrupted by a signal before it has done anything
    raw = ioctl_again(fd_.get(), KVM_CREATE_VM, 0);
  } while (raw < 0 && errno == EINTR);
  if (raw < 0) return fail_errno("KVM_CREATE_VM");
  return VmFd(UniqueFd(raw), run_size_);
}

int Kvm::check_extension(long capability) const {
  const int value = ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, capability);
  return value < 0 ? 0 : value;
}

std::size_t Kvm::xsave_size() const {
  const int size = check_extension(KVM_CAP_XSAVE2);
  return std::max<std::size_t>(static_cast<std::size_t>(std::max(size, 0)), sizeof(kvm_xsave::region));
}

Status Kvm::read_supported_cpuid() {
  // KVM says E2BIG while the array is too small; the loop is bounded far above any real processor.
  for (std::size_t count = 64; count <= 4096; count *= 2) {
    CpuidArray array(count);
    array.header()->nent = static_cast<std::uint32_t>(count);
    if (::ioctl(fd_.get(), kGetSupportedCpuid, array.header()) == 0) {
      supported_cpuid_.assign(array.entries(), array.entries() + array.header()->nent);
      return {};
    }
    if (errno != E2BIG) return fail_errno("KVM_GET_SUPPORTED_CPUID");
  }
  return fail(ErrorKind::kHost, "KVM_GET_SUPPORTED_CPUID: more than 4096 entries");
}

Result<std::vector<std::uint32_t>> Kvm::msr_indices() const {
  for (std::uint32_t count = 64; count <= 65536; count *= 2) {
    std::vector<std::uint32_t> words(count + 1);
    words[0] = count;
    if (::ioctl(fd_.get(), kGetMsrIndexList, words.data()) == 0) {
      return std::vector<std::uint32_t>(words.begin() + 1, words.begin() + 1 + words[0]);
    }
    if (errno != E2BIG) return fail_errno("KVM_GET_MSR_INDEX_LIST");
  }
  return fail(ErrorKind::kHost, "KVM_GET_MSR_INDEX_LIST: more than 65536 registers");
}

}  // namespace warmfork::kvm
