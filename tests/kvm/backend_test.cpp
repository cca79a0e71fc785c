// The kernel's side of the contract, by raw ioctls: if these fail, no other KVM test means anything.
#include "kvm_test.hpp"

#include <linux/kvm.h>
#include <sys/ioctl.h>

namespace warmfork::test {
namespace {

class Backend : public KvmTest {};

TEST_F(Backend, SpeaksTheStableApi) { EXPECT_EQ(::ioctl(kvm(), KVM_GET_API_VERSION, 0), 12); }

TEST_F(Backend, MakesAMachineWithAProcessor) {
  const UniqueFd vm(::ioctl(kvm(), KVM_CREATE_VM, 0));
  ASSERT_TRUE(vm) << std::strerror(errno);
  const UniqueFd vcpu(::ioctl(vm.get(), KVM_CREATE_VCPU, 0));
  ASSERT_TRUE(vcpu) << std::strerror(errno);
}

}  // namespace
}  // namespace warmfork::test
