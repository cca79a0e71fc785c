// What the module for LLVM offers.
#include "lc3/jit/listing/code_listing.hpp"
#include "lc3/jit/llvm_module.hpp"
#include "lc3/jit/orc/combine.hpp"
#include "lc3/jit/orc/orc_compiler.hpp"

namespace warmfork::lc3::jit {
namespace {

class Module final : public LlvmModule {
 public:
  Result<std::function<Result<MachineCode>(const Unit&)>> make_compiler(bool marks) const override {
    WARMFORK_TRY_ASSIGN(std::shared_ptr<OrcCompiler> compiler, OrcCompiler::create({.marks = marks}));
    return [compiler, marks](const Unit& unit) -> Result<MachineCode> {
      constexpr std::uint64_t kAnywhere = 0x4000'0000;
      WARMFORK_TRY_ASSIGN(MachineCode code, compiler->compile(unit, {}, kAnywhere));
      return complete_with_xbyak(unit, std::move(code), marks);
    };
  }
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
