// The command line of a program's case, for every verb that runs programs.
#pragma once

#include "lc3_programs/manifest.hpp"
#include "process.hpp"

#include <string>

namespace warmfork::test {

/// Everything but the verb; `input` is a file with the case's input.
inline Arguments program_arguments(const lc3_programs::Case& one, const std::string& input) {
  Arguments arguments{"--edition",   std::to_string(one.edition),
                      "--traps",     one.native_traps ? "native" : "os",
                      "--privilege", one.strict_privilege ? "strict" : "relaxed",
                      "--start",     one.supervisor_start ? "supervisor" : "user",
                      "--budget",    std::to_string(one.instruction_limit),
                      "--input",     input};
  if (!one.load_os) arguments.emplace_back("--no-os");
  arguments.insert(arguments.end(), one.files.begin(), one.files.end());
  return arguments;
}

}  // namespace warmfork::test
