// What the parts of Lc3Vm share: the guest's vmcalls by number, and the shared regions of its ports.
#pragma once

#include "lc3/host/lc3_vm.hpp"

#include <cstdint>
#include <vector>

namespace warmfork::lc3 {

enum class Lc3Vm::Call : std::uint8_t {
  kState,
  kConfigure,
  kUseCode,
  kLoad,
  kCaptureVectors,
  kStart,
  kRun,
  kTrace,
  kTimeRuns,
  kReadRegister,
  kWriteRegister,
  kReadMemory,
  kWriteMemory,
  kInstrument,
  kWatch,
  kConnect,
  kEndPort,
  kFinishPort,
  kPortReport,
  kCount,
};

/// The shared regions of a machine with these ports. Errors (kUsage): too many ports, a ring of no such size, a feed
/// and no port.
[[nodiscard]] Result<std::vector<SharedRegionSpec>> port_regions(const PortRegions& ports);

}  // namespace warmfork::lc3
