// Names of compiled blocks for tools that look from outside: lc3_x3000 is the code of the block at x3000, lc3_leaves
// what the blocks of a version leave through.
//
//   a perf map   a line "START SIZE NAME" for each name, numbers hexadecimal (Linux, tools/perf/Documentation/
//                jit-interface.txt)
//   GDB          an ELF object in memory for each version, given to the debugger by its JIT interface ("JIT Compilation
//                Interface" in GDB's manual)
//
// Addresses are where machines execute: in this process with HostRunner; in a guest its virtual addresses, where GDB
// cannot stop, and whose samples are to be looked up here by whoever takes them.
//
// Threads: any; calls exclude each other.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "lc3/jit/machine_code.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {

struct CodeName {
  std::uint32_t offset;  // from the machine code's first byte
  std::uint32_t bytes;
  std::string name;
};

/// By offset.
[[nodiscard]] std::vector<CodeName> names_of(const MachineCode& code);

/// An ELF object (ET_REL) that has no code, only the names of what lies at `address`: symbols of functions.
[[nodiscard]] std::vector<std::byte> symbol_object(std::uint64_t address, std::size_t bytes,
                                                   std::span<const CodeName> names);

/// Where perf looks for the map of this process.
[[nodiscard]] std::string perf_map_path();

struct CodeNamesOptions {
  std::string perf_map;                     // file to write; empty: none
  bool gdb = false;                         // tell GDB
  bool lookup = false;                      // find() answers
  std::size_t most = std::size_t{1} << 16;  // names at a time; further versions have none
};

class CodeNames {
 public:
  /// Makes the perf map anew, for this user only; never through a link. Errors: kHost, it cannot be made.
  [[nodiscard]] static Result<std::shared_ptr<CodeNames>> create(const CodeNamesOptions& options);
  /// Takes all names back from GDB. The perf map stays: perf reads it when the process is over.
  ~CodeNames();
  CodeNames(const CodeNames&) = delete;
  CodeNames& operator=(const CodeNames&) = delete;

  /// Machine code whose first byte is executed at `address`.
  void add(std::uint64_t address, const MachineCode& code);
  /// Which LC-3 instruction the machine code at `address` was made from, and by whom. Exact where the code came with
  /// marks, else to the block.
  struct Found {
    bool optimised = false;  // by LLVM
    std::uint16_t pc = 0;
  };
  /// Nothing: there is no code, or it belongs to no instruction. O(log n) in all names.
  [[nodiscard]] std::optional<Found> find(std::uint64_t address) const;
  /// Whoever makes code should have it come with marks.
  [[nodiscard]] bool wants_marks() const { return options_.lookup; }

  /// No code that was added is there any more.
  void clear();

  /// Why there are not all names; empty: there are.
  [[nodiscard]] std::string complaint() const;

 private:
  struct GdbEntry;
  struct Version {
    std::size_t bytes;
    std::uint32_t optimised;
    std::vector<MachineCode::Mark> marks;  // by offset
  };
  CodeNames(const CodeNamesOptions& options, UniqueFd map);
  void write_lines(std::uint64_t address, std::span<const CodeName> names);

  const CodeNamesOptions options_;
  mutable std::mutex mutex_;
  UniqueFd map_;  // none: there is none, or it could not be written
  std::size_t names_ = 0;
  std::vector<std::unique_ptr<GdbEntry>> entries_;
  std::map<std::uint64_t, Version> versions_;  // by address
  std::string complaint_;
};

}  // namespace warmfork::lc3::jit
