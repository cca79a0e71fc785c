// What the module for LLVM offers.
#include "lc3/jit/listing/code_listing.hpp"
#include "lc3/jit/llvm_module.hpp"

namespace warmfork::lc3::jit {
namespace {

class Module final : public LlvmModule {
 public:
  Result<std::string> list_code(std::span<const std::uint16_t, kMemoryWords> words, const Unit& unit,
                                const MachineCode& code,
                                const std::function<std::string(std::uint16_t)>& name) const override {
    return jit::list_code(words, unit, code, name);
  }
};

}  // namespace
}  // namespace warmfork::lc3::jit

extern "C" [[gnu::visibility("default")]] const warmfork::lc3::jit::LlvmModule* warmfork_llvm_module();
const warmfork::lc3::jit::LlvmModule* warmfork_llvm_module() {
  static const warmfork::lc3::jit::Module module;
  return &module;
}
