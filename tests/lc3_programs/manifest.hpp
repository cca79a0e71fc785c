// The list of LC-3 programs in payloads/lc3/programs/programs.json, for every engine that is tested against it. Reads
// files; one thread.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace warmfork::lc3_programs {

/// One way to run one program.
struct Case {
  std::string name;                // "sieve edition 3, os traps, strict"
  std::vector<std::string> files;  // paths, in the order they are loaded
  std::string input;               // typed before the program starts
  std::string expected;            // everything the program displays
  int edition = 3;
  bool native_traps = false;
  bool strict_privilege = false;
  bool supervisor_start = false;
  bool load_os = true;
  std::uint64_t instruction_limit = 0;  // the program halts before
};

/// All programs in all the ways that the manifest lists. The error names the file and what is wrong with it.
[[nodiscard]] Result<std::vector<Case>> load_manifest(const std::string& folder);

}  // namespace warmfork::lc3_programs
