// The optimising compiler: LLVM over the same blocks as the fast one. Milliseconds for a program, and code that keeps
// LC-3 registers where LLVM likes them, knows what loops leave alone, and counts instructions once per loop.
//
// ORC sees the guest as a remote executor: the linker works in this process, on addresses of the guest's code region.
//
// Threads: one at a time per compiler.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"
#include "lc3/jit/orc/region.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace warmfork::lc3::jit {

struct OrcOptions {
  std::string cpu = "x86-64";              // the machine has at least what this has, …
  std::string features = host_features();  // … and these, as "+bmi,+bmi2"
  std::string tune = host_cpu();           // what it is fast on
  RegionOptions region;
  bool marks = false;  // fill MachineCode::marks

  /// Those of this processor that matter for 16-bit integers: a guest has them, too, as it gets this CPUID.
  [[nodiscard]] static std::string host_features();
  [[nodiscard]] static std::string host_cpu();
};

/// Text of what a compiler has made, for people.
struct OrcListing {
  std::string before, after;  // LLVM's intermediate form, before and after optimisation
};

class OrcCompiler {
 public:
  [[nodiscard]] static Result<std::unique_ptr<OrcCompiler>> create(const OrcOptions& options = {});
  ~OrcCompiler();
  OrcCompiler(const OrcCompiler&) = delete;
  OrcCompiler& operator=(const OrcCompiler&) = delete;

  /// Compiles what is reachable from the entries in a verified unit; none: from where its loops are best entered. The
  /// result has entries for these only, and may be empty then. `address`: where its first byte is meant to lie; it can
  /// be executed anywhere. Errors (kUnsupported): of LLVM. After a fatal one this compiler refuses everything.
  [[nodiscard]] Result<MachineCode> compile(const Unit& unit, std::span<const std::uint16_t> entries,
                                            std::uint64_t address, OrcListing* listing = nullptr);

 private:
  class Impl;
  explicit OrcCompiler(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace warmfork::lc3::jit
