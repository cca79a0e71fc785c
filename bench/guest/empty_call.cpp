// The guest of the lifecycle suite: offers a vmcall that does nothing.
#include "warmfork/abi/vmcall.hpp"

#include <cstdint>

extern "C" std::uint64_t empty_call(std::uint64_t value) { return value; }
WARMFORK_REGISTER_VMCALL(empty_call);

int main() { warmfork::wait_for_calls(); }
