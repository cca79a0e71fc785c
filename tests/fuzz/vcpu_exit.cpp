// Exits as KVM might report them: decoding follows no offset out of the mapping, and every exit has a description.
#include "kvm/vcpu_exit.hpp"

#include "require.hpp"

#include <linux/kvm.h>

#include <cstdint>
#include <cstring>
#include <memory>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // As large as the mapping claims to be and no larger, so that a read behind it is found.
  struct Free {
    void operator()(void* pointer) const { std::free(pointer); }
  };
  const std::size_t run_size = sizeof(kvm_run) + (size > 4 ? data[0] : 0);
  const std::unique_ptr<void, Free> memory(std::calloc(1, run_size));
  auto* run = static_cast<kvm_run*>(memory.get());
  std::memcpy(run, data, std::min(size, run_size));
  if (size > 8) run->exit_reason = data[8] % 48;
  const warmfork::kvm::VcpuExit exit = warmfork::kvm::decode_exit(*run, run_size);
  WARMFORK_REQUIRE(!warmfork::kvm::describe(exit).empty());
  return 0;
}
