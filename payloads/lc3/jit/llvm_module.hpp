// What needs LLVM lies in a module of its own, which is loaded when it is first asked for: LLVM's shared library costs
// 15 ms and 50 MB at the start of every process that links it, and most runs never need it.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace warmfork::lc3::jit {

/// Implemented by the module (llvm/module.cpp).
class LlvmModule {
 public:
  virtual ~LlvmModule() = default;
  /// A compiler of whole units, at its best; milliseconds. One thread at a time. With `marks` it says which instruction
  /// its code belongs to (MachineCode::marks); the code is the same.
  [[nodiscard]] virtual Result<std::function<Result<MachineCode>(const Unit&)>> make_compiler(bool marks) const = 0;
  /// See listing/code_listing.hpp.
  [[nodiscard]] virtual Result<std::string> list_code(std::span<const std::uint16_t, kMemoryWords> words,
                                                      const Unit& unit, const MachineCode& code,
                                                      const std::function<std::string(std::uint16_t)>& name) const = 0;
};

/// The module: beside the executable, or where it was built; it stays loaded. Errors (kUnsupported): it, or LLVM, is
/// not there.
[[nodiscard]] Result<const LlvmModule*> llvm_module();

/// Text that is another one wherever the module's compiler may give other code for the same unit: which LLVM it was
/// built with, what the module is, what this processor is. For keys, and without loading it. Errors (kUnsupported): the
/// module is not there.
[[nodiscard]] Result<std::string> llvm_compiler();

}  // namespace warmfork::lc3::jit
