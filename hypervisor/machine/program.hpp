// A program as its guests share it: name, where it was loaded, its symbols, the vmcalls it offers. Immutable once its
// master has been made.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "loader/elf_loader.hpp"
#include "machine/address_space.hpp"
#include "memory/address.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace warmfork {

/// What a program may offer: vmcalls, and bytes of a vmcall's name without its NUL.
inline constexpr std::size_t kMaxVmcalls = 1024;
inline constexpr std::size_t kMaxVmcallName = 63;

struct GuestProgram {
  std::string name;  // for messages
  LoadPlan plan;     // without the file's bytes
  std::vector<std::pair<std::string, Gva>> vmcalls;

  /// Reads the vmcall table of a program that lies in `space`. Errors (kInput): it is no table.
  [[nodiscard]] Status read_vmcalls(const AddressSpace& space);

  /// The address of a vmcall: by name in the program's table, else by symbol. Errors (kInput): no such function.
  [[nodiscard]] Result<Gva> find_vmcall(std::string_view vmcall) const;
};

}  // namespace warmfork
