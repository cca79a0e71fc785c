#include "kvm/vcpu_exit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace warmfork::kvm {
namespace {

constexpr std::array<std::uint8_t, 3> kPortSizes{1, 2, 4};

// kvm_run with the page KVM puts port data into behind it. Built in exactly as many bytes as decode_exit is told, so
// that the sanitizers see any byte read beyond.
class RunPage {
 public:
  explicit RunPage(std::uint32_t reason, std::size_t size = 8192) : words_(size / sizeof(std::uint64_t)) {
    run().exit_reason = reason;
  }
  // SAFETY: the storage is larger than kvm_run, zeroed and aligned for its members.
  kvm_run& run() { return *reinterpret_cast<kvm_run*>(words_.data()); }
  void put(std::size_t offset, std::uint32_t value, std::size_t size) {
    std::memcpy(reinterpret_cast<std::byte*>(words_.data()) + offset, &value, size);
  }
  [[nodiscard]] std::size_t size() const { return words_.size() * sizeof(std::uint64_t); }
  VcpuExit decode() { return decode_exit(run(), size()); }

 private:
  std::vector<std::uint64_t> words_;
};

RunPage port_access(std::uint8_t direction, std::uint8_t size, std::uint16_t port, std::uint64_t data_offset) {
  RunPage page(KVM_EXIT_IO);
  page.run().io.direction = direction;
  page.run().io.size = size;
  page.run().io.port = port;
  page.run().io.count = 1;
  page.run().io.data_offset = data_offset;
  return page;
}

TEST(VcpuExit, PortWriteCarriesTheValueWrittenInItsSize) {
  for (const std::uint8_t size : kPortSizes) {
    RunPage page = port_access(KVM_EXIT_IO_OUT, size, 0x3f8, 4096);
    page.put(4096, 0xddccbbaa, 4);
    const VcpuExit exit = page.decode();
    const auto* io = std::get_if<ExitIo>(&exit);
    ASSERT_NE(io, nullptr);
    EXPECT_EQ(io->port, 0x3f8);
    EXPECT_EQ(io->size, size);
    EXPECT_EQ(io->count, 1U);
    EXPECT_TRUE(io->is_write);
    EXPECT_EQ(io->value, size == 4 ? 0xddccbbaa : (size == 2 ? 0xbbaaU : 0xaaU));
  }
}

TEST(VcpuExit, PortReadCarriesNoValue) {
  RunPage page = port_access(KVM_EXIT_IO_IN, 4, 0x60, 4096);
  page.put(4096, 0xffffffff, 4);
  const VcpuExit exit = page.decode();
  ASSERT_TRUE(std::holds_alternative<ExitIo>(exit));
  EXPECT_FALSE(std::get<ExitIo>(exit).is_write);
  EXPECT_EQ(std::get<ExitIo>(exit).value, 0U);
}

TEST(VcpuExit, PortDataMayEndWithTheMappingAndNoFurther) {
  for (const std::uint8_t size : kPortSizes) {
    RunPage last = port_access(KVM_EXIT_IO_OUT, size, 0x40, 8192U - size);
    last.put(8192U - size, 0x55555555, size);
    EXPECT_TRUE(std::holds_alternative<ExitIo>(last.decode())) << size;
    for (const std::uint64_t offset :
         {std::uint64_t{8192} - size + 1, std::uint64_t{8192}, std::uint64_t{8193}, std::uint64_t{1} << 32,
          std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - size + 1}) {
      const VcpuExit exit = port_access(KVM_EXIT_IO_OUT, size, 0x40, offset).decode();
      ASSERT_TRUE(std::holds_alternative<ExitUnsupported>(exit)) << offset;
      EXPECT_EQ(std::get<ExitUnsupported>(exit).reason, std::uint32_t{KVM_EXIT_IO});
    }
  }
}

TEST(VcpuExit, PortAccessOfAnImpossibleSizeIsUnsupported) {
  for (unsigned size = 0; size < 256; ++size) {
    const bool possible = size == 1 || size == 2 || size == 4;
    const VcpuExit exit = port_access(KVM_EXIT_IO_OUT, static_cast<std::uint8_t>(size), 0x40, 4096).decode();
    EXPECT_EQ(std::holds_alternative<ExitIo>(exit), possible) << size;
  }
}

TEST(VcpuExit, MemoryAccessCarriesAddressSizeAndDirection) {
  RunPage page(KVM_EXIT_MMIO);
  page.run().mmio.phys_addr = 0xdead'beef'0000;
  page.run().mmio.len = 8;
  page.run().mmio.is_write = 1;
  const VcpuExit exit = page.decode();
  ASSERT_TRUE(std::holds_alternative<ExitMmio>(exit));
  EXPECT_EQ(std::get<ExitMmio>(exit).gpa, 0xdead'beef'0000U);
  EXPECT_EQ(std::get<ExitMmio>(exit).size, 8U);
  EXPECT_TRUE(std::get<ExitMmio>(exit).is_write);
  EXPECT_EQ(describe(exit), "write of 8 bytes at guest-physical 0xdeadbeef0000, where no such access is allowed");
  page.run().mmio.is_write = 0;
  EXPECT_EQ(describe(page.decode()),
            "read of 8 bytes at guest-physical 0xdeadbeef0000, where no such access is allowed");
}

TEST(VcpuExit, PlainReasonsBecomeTheirAlternatives) {
  EXPECT_TRUE(std::holds_alternative<ExitHlt>(RunPage(KVM_EXIT_HLT).decode()));
  EXPECT_TRUE(std::holds_alternative<ExitShutdown>(RunPage(KVM_EXIT_SHUTDOWN).decode()));
  EXPECT_TRUE(std::holds_alternative<ExitInterrupted>(RunPage(KVM_EXIT_INTR).decode()));
  EXPECT_TRUE(std::holds_alternative<ExitDirtyRingFull>(RunPage(KVM_EXIT_DIRTY_RING_FULL).decode()));
}

TEST(VcpuExit, DebugStopCarriesWhere) {
  RunPage page(KVM_EXIT_DEBUG);
  page.run().debug.arch.pc = 0x401234;
  const VcpuExit exit = page.decode();
  ASSERT_TRUE(std::holds_alternative<ExitDebug>(exit));
  EXPECT_EQ(std::get<ExitDebug>(exit).rip, 0x401234U);
}

TEST(VcpuExit, RefusedEntryCarriesTheHardwaresReason) {
  RunPage page(KVM_EXIT_FAIL_ENTRY);
  page.run().fail_entry.hardware_entry_failure_reason = 0x80000021;
  const VcpuExit exit = page.decode();
  ASSERT_TRUE(std::holds_alternative<ExitFailEntry>(exit));
  EXPECT_EQ(std::get<ExitFailEntry>(exit).hardware_reason, 0x80000021U);
}

TEST(VcpuExit, InternalErrorCarriesAtMostSixteenWords) {
  for (const std::uint32_t count : {0U, 3U, 16U, 17U, 0x80000000U, 0xffffffffU}) {
    RunPage page(KVM_EXIT_INTERNAL_ERROR);
    page.run().internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    page.run().internal.ndata = count;
    for (std::uint64_t i = 0; i < 16; ++i) page.run().internal.data[i] = 100 + i;
    const VcpuExit exit = page.decode();
    const auto* error = std::get_if<ExitInternalError>(&exit);
    ASSERT_NE(error, nullptr);
    EXPECT_EQ(error->suberror, std::uint32_t{KVM_INTERNAL_ERROR_EMULATION});
    EXPECT_EQ(error->count, std::min(count, 16U));
    for (std::uint64_t i = 0; i < 16; ++i) EXPECT_EQ(error->data.at(i), i < count ? 100 + i : 0) << count;
  }
}

TEST(VcpuExit, EveryOtherReasonIsUnsupportedAndKept) {
  for (const std::uint32_t reason : {std::uint32_t{KVM_EXIT_UNKNOWN}, std::uint32_t{KVM_EXIT_HYPERCALL},
                                     std::uint32_t{KVM_EXIT_SYSTEM_EVENT}, 0x7fffffffU, 0xffffffffU}) {
    const VcpuExit exit = RunPage(reason).decode();
    ASSERT_TRUE(std::holds_alternative<ExitUnsupported>(exit)) << reason;
    EXPECT_EQ(std::get<ExitUnsupported>(exit).reason, reason);
  }
}

TEST(VcpuExit, DescriptionsAreForPeople) {
  EXPECT_EQ(describe(ExitIo{0x3f8, 1, true, 1, 0}), "port write 0x3f8 (1 byte)");
  EXPECT_EQ(describe(ExitIo{0x60, 4, false, 1, 0}), "port read 0x60 (4 bytes)");
  EXPECT_EQ(describe(ExitHlt{}), "hlt");
  EXPECT_EQ(describe(ExitShutdown{}), "triple fault");
  EXPECT_EQ(describe(ExitInterrupted{}), "interrupted");
  EXPECT_EQ(describe(ExitDebug{0x401000}), "debug stop at 0x401000");
  EXPECT_EQ(describe(ExitFailEntry{0x21}), "entry refused by the processor, reason 0x21");
  EXPECT_EQ(describe(ExitInternalError{1, 0, {}}), "KVM internal error, suberror 1 (instruction not emulated)");
  EXPECT_EQ(describe(ExitInternalError{2, 0, {}}), "KVM internal error, suberror 2");
  EXPECT_EQ(describe(ExitDirtyRingFull{}), "dirty ring full");
  EXPECT_EQ(describe(ExitUnsupported{KVM_EXIT_SYSTEM_EVENT}), "system event (24)");
  EXPECT_EQ(describe(ExitUnsupported{12345}), "exit without a name (12345)");
}

TEST(VcpuExit, DecodedReasonsHaveNames) {
  for (const int reason :
       {KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_HLT, KVM_EXIT_SHUTDOWN, KVM_EXIT_INTR, KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY,
        KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_DIRTY_RING_FULL, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR}) {
    EXPECT_STRNE(exit_reason_name(static_cast<std::uint32_t>(reason)), "exit without a name") << reason;
  }
}

}  // namespace
}  // namespace warmfork::kvm
