// What a guest was doing when it ended, for people.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <string>

namespace warmfork {

struct FaultReport {
  std::string summary;  // one sentence: "page fault: write to read-only program data at 0x402010, at main+0x12"
  std::optional<unsigned> vector;  // the processor's exception, if it was one
  std::uint64_t error_code = 0;
  std::uint64_t fault_address = 0;  // CR2, for page faults
  std::uint64_t rip = 0;
  std::string symbol;  // "main+0x12", empty if unknown
  kvm_regs regs{};     // with rip, rsp and rflags of the faulting code
  std::string last_exit;

  /// The registers and the last exit, several lines.
  [[nodiscard]] std::string to_text() const;
};

}  // namespace warmfork
