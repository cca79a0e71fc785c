#include "machine/program.hpp"

#include "trace/trace.hpp"
#include "warmfork/abi/vmcall.hpp"

namespace warmfork {

Status GuestProgram::read_vmcalls(const AddressSpace& space) {
  const std::uint64_t begin = plan.vmcall_table_begin.value;
  const std::uint64_t end = plan.vmcall_table_end.value;
  if (end < begin || (end - begin) % sizeof(VmcallEntry) != 0 || (end - begin) / sizeof(VmcallEntry) > kMaxVmcalls) {
    return fail(ErrorKind::kInput, "{}: vmcall table {:#x} … {:#x} is not a table of at most {} entries", name, begin,
                end, kMaxVmcalls);
  }
  for (std::uint64_t at = begin; at < end; at += sizeof(VmcallEntry)) {
    const auto entry = space.read_value<VmcallEntry>(Gva{at});
    if (!entry) return with_context(entry.error(), fmt::format("{}: vmcall table", name));
    auto entry_name = space.read_string(Gva{entry->name}, kMaxVmcallName + 1);
    if (!entry_name) return with_context(entry_name.error(), fmt::format("{}: vmcall table", name));
    vmcalls.emplace_back(std::move(*entry_name), Gva{entry->function});
  }
  return {};
}

Result<Gva> GuestProgram::find_vmcall(std::string_view vmcall) const {
  const auto found = [&](Gva function) {
    if (trace::recording()) trace::name_function(function.value, vmcall);
    return function;
  };
  for (const auto& [entry_name, function] : vmcalls) {
    if (entry_name == vmcall) return found(function);
  }
  if (const ElfSymbol* symbol = plan.find_symbol(vmcall); symbol != nullptr && symbol->is_function) {
    return found(Gva{symbol->address});
  }
  return fail(ErrorKind::kInput, "{}: no vmcall or function named \"{}\"", name, vmcall);
}

}  // namespace warmfork
