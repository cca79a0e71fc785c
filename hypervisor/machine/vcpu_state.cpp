#include "machine/vcpu_state.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>

namespace warmfork {
namespace {

// The XSAVE area (Intel SDM vol. 1, 13.4): legacy region as of FXSAVE, header, then components where CPUID says.
constexpr std::size_t kLegacySize = 512;
constexpr std::size_t kXstateBv = 512;
constexpr std::size_t kHeaderEnd = 576;
constexpr std::uint16_t kInitialFcw = 0x37f;
constexpr std::size_t kX87Registers = 32;
constexpr std::size_t kSseRegisters = 160;
constexpr std::size_t kSseEnd = 416;

// --- Names ----------------------------------------------------------------------------------------------------------

struct NamedMsr {
  std::uint32_t index;
  const char* name;
};

// Those in KVM's lists that have a name people use.
constexpr std::array kMsrNames{
    NamedMsr{0x10, "TSC"},
    NamedMsr{0x11, "KVM_WALL_CLOCK"},
    NamedMsr{0x12, "KVM_SYSTEM_TIME"},
    NamedMsr{0x34, "SMI_COUNT"},
    NamedMsr{0x3a, "FEATURE_CONTROL"},
    NamedMsr{0x3b, "TSC_ADJUST"},
    NamedMsr{0x48, "SPEC_CTRL"},
    NamedMsr{0x8b, "UCODE_REV"},
    NamedMsr{0xce, "PLATFORM_INFO"},
    NamedMsr{0xe1, "UMWAIT_CONTROL"},
    NamedMsr{0x10a, "ARCH_CAPABILITIES"},
    NamedMsr{0x122, "TSX_CTRL"},
    NamedMsr{0x140, "MISC_FEATURES_ENABLES"},
    NamedMsr{0x174, "SYSENTER_CS"},
    NamedMsr{0x175, "SYSENTER_ESP"},
    NamedMsr{0x176, "SYSENTER_EIP"},
    NamedMsr{0x17a, "MCG_STATUS"},
    NamedMsr{0x17b, "MCG_CTL"},
    NamedMsr{0x1a0, "MISC_ENABLE"},
    NamedMsr{0x1c4, "XFD"},
    NamedMsr{0x1c5, "XFD_ERR"},
    NamedMsr{0x1d9, "DEBUGCTL"},
    NamedMsr{0x1db, "LASTBRANCHFROMIP"},
    NamedMsr{0x1dc, "LASTBRANCHTOIP"},
    NamedMsr{0x1dd, "LASTINTFROMIP"},
    NamedMsr{0x1de, "LASTINTTOIP"},
    NamedMsr{0x1fc, "POWER_CTL"},
    NamedMsr{0x277, "PAT"},
    NamedMsr{0x345, "PERF_CAPABILITIES"},
    NamedMsr{0x6e0, "TSC_DEADLINE"},
    NamedMsr{0xda0, "XSS"},
    NamedMsr{0x40000000, "HV_GUEST_OS_ID"},
    NamedMsr{0x40000001, "HV_HYPERCALL"},
    NamedMsr{0x40000010, "HV_VP_RUNTIME"},
    NamedMsr{0x40000020, "HV_TIME_REF_COUNT"},
    NamedMsr{0x40000021, "HV_REFERENCE_TSC"},
    NamedMsr{0x4b564d00, "KVM_WALL_CLOCK_NEW"},
    NamedMsr{0x4b564d01, "KVM_SYSTEM_TIME_NEW"},
    NamedMsr{0x4b564d02, "KVM_ASYNC_PF_EN"},
    NamedMsr{0x4b564d03, "KVM_STEAL_TIME"},
    NamedMsr{0x4b564d04, "KVM_PV_EOI_EN"},
    NamedMsr{0x4b564d05, "KVM_POLL_CONTROL"},
    NamedMsr{0x4b564d06, "KVM_ASYNC_PF_INT"},
    NamedMsr{0x4b564d07, "KVM_ASYNC_PF_ACK"},
    NamedMsr{0xc0000080, "EFER"},
    NamedMsr{0xc0000081, "STAR"},
    NamedMsr{0xc0000082, "LSTAR"},
    NamedMsr{0xc0000083, "CSTAR"},
    NamedMsr{0xc0000084, "SFMASK"},
    NamedMsr{0xc0000100, "FS_BASE"},
    NamedMsr{0xc0000101, "GS_BASE"},
    NamedMsr{0xc0000102, "KERNEL_GS_BASE"},
    NamedMsr{0xc0000103, "TSC_AUX"},
    NamedMsr{0xc0000104, "TSC_RATIO"},
    NamedMsr{0xc0010015, "HWCR"},
    NamedMsr{0xc0010117, "VM_HSAVE_PA"},
    NamedMsr{0xc001011f, "VIRT_SPEC_CTRL"},
};

std::string msr_name(std::uint32_t index) {
  const auto found = std::ranges::find(kMsrNames, index, &NamedMsr::index);
  return found == kMsrNames.end() ? fmt::format("MSR {:#x}", index) : fmt::format("MSR {:#x} ({})", index, found->name);
}

const char* component_name(unsigned number) {
  switch (number) {
    case 2: return "AVX";
    case 3: return "BNDREGS";
    case 4: return "BNDCSR";
    case 5: return "opmask";
    case 6: return "ZMM_Hi256";
    case 7: return "Hi16_ZMM";
    case 8: return "PT";
    case 9: return "PKRU";
    case 11: return "CET_U";
    case 12: return "CET_S";
    case 17: return "TILECFG";
    case 18: return "TILEDATA";
    default: return "unknown";
  }
}

// --- Comparison
// -------------------------------------------------------------------------------------------------------

class Differences {
 public:
  template <class T>
  void value(std::string_view name, T a, T b) {
    if (a != b) found_.push_back(fmt::format("{}: {:#x} != {:#x}", name, a, b));
  }
  void text(std::string sentence) { found_.push_back(std::move(sentence)); }

  // `size` bytes at `offset` of two areas: the first difference stands for all.
  void bytes(std::string_view name, std::span<const std::byte> a, std::span<const std::byte> b, std::size_t offset,
             std::size_t size) {
    std::size_t first = size;
    std::size_t count = 0;
    for (std::size_t i = 0; i < size; ++i) {
      if (a[offset + i] == b[offset + i]) continue;
      first = std::min(first, i);
      ++count;
    }
    if (count == 0) return;
    // From there on, as a little-endian number.
    const auto number = [&](std::span<const std::byte> area) {
      std::uint64_t word = 0;
      std::memcpy(&word, area.subspan(offset + first).data(), std::min(sizeof word, size - first));
      return word;
    };
    found_.push_back(fmt::format("{} byte {}: {:#x} != {:#x} ({} of {} bytes differ)", name, offset + first, number(a),
                                 number(b), count, size));
  }

  [[nodiscard]] std::vector<std::string> take() { return std::move(found_); }

 private:
  std::vector<std::string> found_;
};

template <class Struct, class Member>
struct Field {
  const char* name;
  Member Struct::* member;
};

constexpr std::array<Field<kvm_regs, __u64>, 18> kRegs{{
    {"rax", &kvm_regs::rax},
    {"rbx", &kvm_regs::rbx},
    {"rcx", &kvm_regs::rcx},
    {"rdx", &kvm_regs::rdx},
    {"rsi", &kvm_regs::rsi},
    {"rdi", &kvm_regs::rdi},
    {"rsp", &kvm_regs::rsp},
    {"rbp", &kvm_regs::rbp},
    {"r8", &kvm_regs::r8},
    {"r9", &kvm_regs::r9},
    {"r10", &kvm_regs::r10},
    {"r11", &kvm_regs::r11},
    {"r12", &kvm_regs::r12},
    {"r13", &kvm_regs::r13},
    {"r14", &kvm_regs::r14},
    {"r15", &kvm_regs::r15},
    {"rip", &kvm_regs::rip},
    {"rflags", &kvm_regs::rflags},
}};
static_assert(sizeof(kvm_regs) == kRegs.size() * sizeof(__u64), "a register without a name would not be compared");

constexpr std::array<Field<kvm_sregs2, kvm_segment>, 8> kSegments{{
    {"cs", &kvm_sregs2::cs},
    {"ds", &kvm_sregs2::ds},
    {"es", &kvm_sregs2::es},
    {"fs", &kvm_sregs2::fs},
    {"gs", &kvm_sregs2::gs},
    {"ss", &kvm_sregs2::ss},
    {"tr", &kvm_sregs2::tr},
    {"ldt", &kvm_sregs2::ldt},
}};

constexpr std::array<Field<kvm_segment, __u8>, 9> kAttributes{{
    {"type", &kvm_segment::type},
    {"present", &kvm_segment::present},
    {"dpl", &kvm_segment::dpl},
    {"db", &kvm_segment::db},
    {"s", &kvm_segment::s},
    {"l", &kvm_segment::l},
    {"g", &kvm_segment::g},
    {"avl", &kvm_segment::avl},
    {"unusable", &kvm_segment::unusable},
}};

constexpr std::array<Field<kvm_sregs2, __u64>, 8> kControl{{
    {"cr0", &kvm_sregs2::cr0},
    {"cr2", &kvm_sregs2::cr2},
    {"cr3", &kvm_sregs2::cr3},
    {"cr4", &kvm_sregs2::cr4},
    {"cr8", &kvm_sregs2::cr8},
    {"efer", &kvm_sregs2::efer},
    {"apic_base", &kvm_sregs2::apic_base},
    {"sregs2.flags", &kvm_sregs2::flags},
}};
static_assert(sizeof(kvm_sregs2) ==
              kSegments.size() * sizeof(kvm_segment) + 2 * sizeof(kvm_dtable) + (kControl.size() + 4) * sizeof(__u64));

void compare_sregs(const VcpuState& a, const VcpuState& b, Differences& out) {
  for (const auto& [name, member] : kSegments) {
    const kvm_segment& x = a.sregs.*member;
    const kvm_segment& y = b.sregs.*member;
    out.value(fmt::format("{}.selector", name), x.selector, y.selector);
    out.value(fmt::format("{}.base", name), x.base, y.base);
    out.value(fmt::format("{}.limit", name), x.limit, y.limit);
    for (const auto& [attribute, bits] : kAttributes) {
      out.value(fmt::format("{}.{}", name, attribute), x.*bits, y.*bits);
    }
  }
  out.value("gdt.base", a.sregs.gdt.base, b.sregs.gdt.base);
  out.value("gdt.limit", a.sregs.gdt.limit, b.sregs.gdt.limit);
  out.value("idt.base", a.sregs.idt.base, b.sregs.idt.base);
  out.value("idt.limit", a.sregs.idt.limit, b.sregs.idt.limit);
  for (const auto& [name, member] : kControl) out.value(name, a.sregs.*member, b.sregs.*member);
  for (std::size_t i = 0; i < std::size(a.sregs.pdptrs); ++i) {
    out.value(fmt::format("pdptr{}", i), a.sregs.pdptrs[i], b.sregs.pdptrs[i]);
  }
  if (a.from_sregs2 != b.from_sregs2) out.text("one state is from KVM_GET_SREGS2, the other from KVM_GET_SREGS");
}

std::uint64_t xstate_bv(std::span<const std::byte> area) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, area.subspan(kXstateBv).data(), sizeof bits);
  return bits;
}

// The area with every component that XSTATE_BV calls initial filled in, and XSTATE_BV itself taken out.
std::vector<std::byte> normalise(std::span<const std::byte> area, std::span<const XsaveComponent> layout) {
  std::vector<std::byte> meaning(area.begin(), area.end());
  const auto clear = [&](std::size_t offset, std::size_t size) {
    std::ranges::fill(std::span(meaning).subspan(offset, size), std::byte{0});
  };
  const std::uint64_t in_use = xstate_bv(area);
  if ((in_use & 1) == 0) {
    clear(0, 24);
    std::memcpy(meaning.data(), &kInitialFcw, sizeof kInitialFcw);
    clear(kX87Registers, kSseRegisters - kX87Registers);
  }
  if ((in_use & 2) == 0) clear(kSseRegisters, kSseEnd - kSseRegisters);
  for (const XsaveComponent& component : layout) {
    if ((in_use >> component.number & 1) == 0) clear(component.offset, component.size);
  }
  clear(kXstateBv, sizeof in_use);
  return meaning;
}

bool is_inside(const XsaveComponent& component, std::size_t size) {
  return component.offset >= kHeaderEnd && component.offset <= size && component.size <= size - component.offset;
}

void compare_xsave(const VcpuState& a, const VcpuState& b, CompareOptions options, Differences& out) {
  if (a.xsave.size() != b.xsave.size()) {
    out.text(fmt::format("xsave: {} bytes != {} bytes", a.xsave.size(), b.xsave.size()));
    return;
  }
  if (a.xsave.size() < kHeaderEnd) {
    if (!a.xsave.empty()) out.text(fmt::format("xsave: {} bytes are no XSAVE area", a.xsave.size()));
    return;
  }
  std::vector<XsaveComponent> layout;
  std::ranges::copy_if(a.xsave_layout, std::back_inserter(layout),
                       [&](const XsaveComponent& component) { return is_inside(component, a.xsave.size()); });
  if (options.xstate_bv) out.value("xsave XSTATE_BV", xstate_bv(a.xsave), xstate_bv(b.xsave));
  const auto x = normalise(a.xsave, layout);
  const auto y = normalise(b.xsave, layout);

  struct Part {
    const char* name;
    std::size_t offset;
    std::size_t size;
  };
  // Intel SDM vol. 1, table 10-2, with REX.W.
  constexpr std::array kControlWords{
      Part{"fcw", 0, 2},          Part{"fsw", 2, 2},    Part{"ftw (abridged)", 4, 1},
      Part{"x87 reserved", 5, 1}, Part{"fop", 6, 2},    Part{"fip", 8, 8},
      Part{"fdp", 16, 8},         Part{"mxcsr", 24, 4}, Part{"mxcsr_mask", 28, 4},
  };
  for (const Part& part : kControlWords) {
    out.bytes(fmt::format("xsave {}", part.name), x, y, part.offset, part.size);
  }
  for (std::size_t i = 0; i < 8; ++i) out.bytes(fmt::format("xsave st{}", i), x, y, kX87Registers + 16 * i, 16);
  for (std::size_t i = 0; i < 16; ++i) out.bytes(fmt::format("xsave xmm{}", i), x, y, kSseRegisters + 16 * i, 16);
  out.bytes("xsave reserved", x, y, kSseEnd, kLegacySize - kSseEnd);
  out.bytes("xsave header", x, y, kLegacySize, kHeaderEnd - kLegacySize);

  // Components by name, and what no component claims.
  std::vector<bool> claimed(x.size(), false);
  for (const XsaveComponent& component : layout) {
    out.bytes(fmt::format("xsave component {} ({})", component.number, component_name(component.number)), x, y,
              component.offset, component.size);
    std::fill_n(claimed.begin() + component.offset, component.size, true);
  }
  for (std::size_t at = kHeaderEnd; at < x.size();) {
    std::size_t end = at + 1;
    while (end < x.size() && claimed[end] == claimed[at]) ++end;
    if (!claimed[at]) out.bytes("xsave outside all components", x, y, at, end - at);
    at = end;
  }
}

void compare_msrs(const VcpuState& a, const VcpuState& b, CompareOptions options, Differences& out) {
  if (!std::ranges::equal(a.msrs, b.msrs, {}, &MsrValue::index, &MsrValue::index)) {
    out.text("msrs: the lists differ");
    return;
  }
  const auto text = [](const std::optional<std::uint64_t>& value) {
    return value ? fmt::format("{:#x}", *value) : "cannot be read";
  };
  for (std::size_t i = 0; i < a.msrs.size(); ++i) {
    if (a.msrs[i].value == b.msrs[i].value || (is_clock_msr(a.msrs[i].index) && !options.clocks)) continue;
    out.text(fmt::format("{}: {} != {}", msr_name(a.msrs[i].index), text(a.msrs[i].value), text(b.msrs[i].value)));
  }
}

void compare_events(const kvm_vcpu_events& a, const kvm_vcpu_events& b, Differences& out) {
  out.value("events exception.injected", a.exception.injected, b.exception.injected);
  out.value("events exception.nr", a.exception.nr, b.exception.nr);
  out.value("events exception.has_error_code", a.exception.has_error_code, b.exception.has_error_code);
  out.value("events exception.pending", a.exception.pending, b.exception.pending);
  out.value("events exception.error_code", a.exception.error_code, b.exception.error_code);
  out.value("events exception_has_payload", a.exception_has_payload, b.exception_has_payload);
  out.value("events exception_payload", std::uint64_t{a.exception_payload}, std::uint64_t{b.exception_payload});
  out.value("events interrupt.injected", a.interrupt.injected, b.interrupt.injected);
  out.value("events interrupt.nr", a.interrupt.nr, b.interrupt.nr);
  out.value("events interrupt.soft", a.interrupt.soft, b.interrupt.soft);
  out.value("events interrupt.shadow", a.interrupt.shadow, b.interrupt.shadow);
  out.value("events nmi.injected", a.nmi.injected, b.nmi.injected);
  out.value("events nmi.pending", a.nmi.pending, b.nmi.pending);
  out.value("events nmi.masked", a.nmi.masked, b.nmi.masked);
  out.value("events sipi_vector", a.sipi_vector, b.sipi_vector);
  out.value("events flags", a.flags, b.flags);
  out.value("events smi.smm", a.smi.smm, b.smi.smm);
  out.value("events smi.pending", a.smi.pending, b.smi.pending);
  out.value("events smi.smm_inside_nmi", a.smi.smm_inside_nmi, b.smi.smm_inside_nmi);
  out.value("events smi.latched_init", a.smi.latched_init, b.smi.latched_init);
  out.value("events triple_fault.pending", a.triple_fault.pending, b.triple_fault.pending);
}

// --- KVM
// --------------------------------------------------------------------------------------------------------------

// The members that both structures have.
template <class To, class From>
To convert_sregs(const From& from) {
  To to{};
  to.cs = from.cs;
  to.ds = from.ds;
  to.es = from.es;
  to.fs = from.fs;
  to.gs = from.gs;
  to.ss = from.ss;
  to.tr = from.tr;
  to.ldt = from.ldt;
  to.gdt = from.gdt;
  to.idt = from.idt;
  to.cr0 = from.cr0;
  to.cr2 = from.cr2;
  to.cr3 = from.cr3;
  to.cr4 = from.cr4;
  to.cr8 = from.cr8;
  to.efer = from.efer;
  to.apic_base = from.apic_base;
  return to;
}

// KVM stops at a register it does not let be read; the ones behind it are asked for again.
Result<std::vector<MsrValue>> read_all_msrs(const kvm::VcpuFd& vcpu, std::span<const std::uint32_t> indices) {
  std::vector<MsrValue> values;
  values.reserve(indices.size());
  std::vector<kvm::Msr> batch;
  while (values.size() < indices.size()) {
    batch.clear();
    for (const std::uint32_t index : indices.subspan(values.size())) batch.push_back({index, 0});
    WARMFORK_TRY_ASSIGN(const std::size_t count, vcpu.read_msrs(batch));
    for (std::size_t i = 0; i < count; ++i) values.push_back({batch[i].index, batch[i].value});
    if (count < batch.size()) values.push_back({batch[count].index, std::nullopt});
  }
  return values;
}

Status restore_msrs(kvm::VcpuFd& vcpu, std::span<const MsrValue> wanted) {
  std::vector<std::uint32_t> indices;
  indices.reserve(wanted.size());
  for (const MsrValue& msr : wanted) indices.push_back(msr.index);
  WARMFORK_TRY_ASSIGN(const auto present, read_all_msrs(vcpu, indices));
  std::vector<kvm::Msr> writes;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].value && wanted[i].value != present[i].value && !is_clock_msr(wanted[i].index)) {
      writes.push_back({wanted[i].index, *wanted[i].value});
    }
  }
  return writes.empty() ? Status{} : vcpu.set_msrs(writes);
}

// What to give to KVM_SET_XSAVE for `area`. If neither SSE nor AVX is in use in it, KVM takes no MXCSR from it and
// keeps the last one. A kernel with XSAVES does not load that; one without (SVM under QEMU) does, because XRSTOR of the
// standard format loads MXCSR whatever XSTATE_BV says (Intel SDM vol. 1, 13.8.1), while KVM_GET_XSAVE goes on showing
// 0x1f80. Hence SSE is always in use here, with the registers' initial value.
std::vector<std::byte> with_mxcsr(std::span<const std::byte> area, std::span<const XsaveComponent> layout) {
  constexpr std::uint64_t kSse = 2;
  const std::uint64_t in_use = xstate_bv(area);
  if ((in_use & kSse) != 0) return {area.begin(), area.end()};
  std::vector<std::byte> complete = normalise(area, layout);
  const std::uint64_t with_sse = in_use | kSse;
  std::memcpy(&complete[kXstateBv], &with_sse, sizeof with_sse);
  return complete;
}

}  // namespace

bool is_clock_msr(std::uint32_t index) {
  constexpr std::array<std::uint32_t, 3> kClocks{0x10, 0x40000010, 0x40000020};
  return std::ranges::find(kClocks, index) != kClocks.end();
}

Result<CaptureContext> CaptureContext::create(const kvm::Kvm& kvm) {
  CaptureContext context;
  WARMFORK_TRY_ASSIGN(context.msr_indices, kvm.msr_indices());
  context.xsave_size = kvm.xsave_size();
  context.has_sregs2 = kvm.check_extension(KVM_CAP_SREGS2) != 0;
  // Sub-leaf n ≥ 2 of leaf 0xd: size and offset of component n (Intel SDM vol. 2, CPUID). Supervisor components (ECX
  // bit 0) have no place in this layout.
  for (const kvm_cpuid_entry2& entry : kvm.supported_cpuid()) {
    if (entry.function == 0xd && entry.index >= 2 && entry.index < 63 && entry.eax != 0 && (entry.ecx & 1) == 0) {
      context.xsave_layout.push_back({entry.index, entry.ebx, entry.eax});
    }
  }
  return context;
}

Result<VcpuState> capture(const kvm::VcpuFd& vcpu, const CaptureContext& context) {
  VcpuState state;
  WARMFORK_TRY_ASSIGN(state.regs, vcpu.regs());
  state.from_sregs2 = context.has_sregs2;
  if (context.has_sregs2) {
    WARMFORK_TRY_ASSIGN(state.sregs, vcpu.sregs2());
  } else {
    WARMFORK_TRY_ASSIGN(const kvm_sregs sregs, vcpu.sregs());
    state.sregs = convert_sregs<kvm_sregs2>(sregs);  // its pending interrupt is in the events as well
  }
  WARMFORK_TRY_ASSIGN(state.xsave, vcpu.xsave(context.xsave_size));
  state.xsave_layout = context.xsave_layout;
  WARMFORK_TRY_ASSIGN(state.msrs, read_all_msrs(vcpu, context.msr_indices));
  WARMFORK_TRY_ASSIGN(state.debugregs, vcpu.debugregs());
  WARMFORK_TRY_ASSIGN(state.events, vcpu.events());
  WARMFORK_TRY_ASSIGN(state.xcrs, vcpu.xcrs());
  WARMFORK_TRY_ASSIGN(state.mp_state, vcpu.mp_state());
  return state;
}

Status finish_exit(kvm::VcpuFd& vcpu) {
  // KVM completes the last exit at the start of KVM_RUN, before it looks at immediate_exit (Linux
  // Documentation/virt/kvm/api.rst, 5, "pending … operations"). An access can have more than one half: it then exits
  // again, as often as a string instruction or a page-crossing write is divided.
  constexpr int kMostHalves = 64;
  kvm_run& run = vcpu.shared();
  run.kvm_dirty_regs = 0;
  int error = 0;
  int halves = 0;
  do {
    vcpu.request_immediate_exit();
    error = vcpu.run_raw();
  } while (error == 0 && ++halves < kMostHalves);
  vcpu.clear_immediate_exit();
  if (error == 0) return fail(ErrorKind::kHost, "KVM_RUN: an exit is not finished after {} rounds", kMostHalves);
  if (error != EINTR) {
    errno = error;
    return fail_errno("KVM_RUN (to finish an exit)");
  }
  return {};
}

Status restore(kvm::VcpuFd& vcpu, const VcpuState& state) {
  WARMFORK_TRY(finish_exit(vcpu));
  WARMFORK_TRY(vcpu.set_mp_state(state.mp_state));
  if (state.from_sregs2) {
    WARMFORK_TRY(vcpu.set_sregs2(state.sregs));
  } else {
    WARMFORK_TRY(vcpu.set_sregs(convert_sregs<kvm_sregs>(state.sregs)));
  }
  WARMFORK_TRY(vcpu.set_regs(state.regs));  // discards pending exceptions
  WARMFORK_TRY(vcpu.set_xcrs(state.xcrs));
  if (state.xsave.size() < kHeaderEnd) return fail(ErrorKind::kUsage, "XSAVE area of {} bytes", state.xsave.size());
  WARMFORK_TRY(vcpu.set_xsave(with_mxcsr(state.xsave, state.xsave_layout)));
  WARMFORK_TRY(vcpu.set_debugregs(state.debugregs));
  WARMFORK_TRY(restore_msrs(vcpu, state.msrs));
  return vcpu.set_events(state.events);
}

std::vector<std::string> compare(const VcpuState& a, const VcpuState& b, CompareOptions options) {
  Differences out;
  for (const auto& [name, member] : kRegs) out.value(name, a.regs.*member, b.regs.*member);
  compare_sregs(a, b, out);
  compare_xsave(a, b, options, out);
  compare_msrs(a, b, options, out);
  for (std::size_t i = 0; i < std::size(a.debugregs.db); ++i) {
    out.value(fmt::format("dr{}", i), a.debugregs.db[i], b.debugregs.db[i]);
  }
  out.value("dr6", a.debugregs.dr6, b.debugregs.dr6);
  out.value("dr7", a.debugregs.dr7, b.debugregs.dr7);
  out.value("debugregs.flags", a.debugregs.flags, b.debugregs.flags);
  compare_events(a.events, b.events, out);
  out.value("xcrs: number", a.xcrs.nr_xcrs, b.xcrs.nr_xcrs);
  out.value("xcrs: flags", a.xcrs.flags, b.xcrs.flags);
  const std::size_t xcrs = std::min<std::size_t>(std::min(a.xcrs.nr_xcrs, b.xcrs.nr_xcrs), std::size(a.xcrs.xcrs));
  for (std::size_t i = 0; i < xcrs; ++i) {
    out.value(fmt::format("xcrs[{}].xcr", i), a.xcrs.xcrs[i].xcr, b.xcrs.xcrs[i].xcr);
    out.value(fmt::format("xcr{}", a.xcrs.xcrs[i].xcr), std::uint64_t{a.xcrs.xcrs[i].value},
              std::uint64_t{b.xcrs.xcrs[i].value});
  }
  out.value("mp_state", a.mp_state.mp_state, b.mp_state.mp_state);
  return out.take();
}

}  // namespace warmfork
