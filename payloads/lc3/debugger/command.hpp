// The debugger's command language: one line of text to one Command. Pure; any thread. The table of verbs is the help.
#pragma once

#include "lc3/asm/program.hpp"
#include "lc3/debugger/expression.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace warmfork::lc3 {

enum class Verb : std::uint8_t {
  kStep,
  kNext,
  kFinish,
  kContinue,
  kUntil,
  kRun,
  kRestart,
  kBack,
  kReverseContinue,
  kGoto,
  kBreak,
  kTemporaryBreak,
  kWatch,
  kReadWatch,
  kAccessWatch,
  kDelete,
  kEnable,
  kDisable,
  kIgnore,
  kCondition,
  kPrint,
  kSet,
  kRegisters,
  kMemory,
  kStack,
  kDisassemble,
  kList,
  kInfo,
  kOutput,
  kInput,
  kType,
  kEndInput,
  kHelp,
  kQuit,
};

struct VerbInfo {
  Verb verb;
  const char* name;
  const char* shortcuts;  // apart by blanks; win over prefixes of other names
  const char* arguments;
  const char* summary;
  const char* details;
  bool repeats;  // an empty line does it again
};

[[nodiscard]] std::span<const VerbInfo> verbs();
/// By name, shortcut or unique prefix of a name. The error (kUsage) names the candidates.
[[nodiscard]] Result<const VerbInfo*> find_verb(std::string_view word);

inline constexpr std::size_t kMaxCommandLength = 4096;

struct Command {
  Verb verb{};
  std::optional<std::uint64_t> count;  // how often, how many, a number of instructions
  std::optional<int> number;           // of a point
  std::optional<Expression> target;    // address, value or what to change; a line of a file has become its address
  std::string target_text;
  std::optional<Expression> value;  // set
  std::optional<Expression> condition;
  std::string text;  // input, info, help
};

/// The error (kUsage) says what was expected, with a caret where that helps. A line of blanks or a comment (#, ;) gives
/// nothing.
[[nodiscard]] Result<std::optional<Command>> parse_command(std::string_view line, const Program& program,
                                                           const LabelLookup& labels);

/// The first address of FILE:LINE (or the next line that has words); FILE may be left out or be the end of a path.
[[nodiscard]] Result<std::uint16_t> address_of_line(const Program& program, std::string_view file, std::uint32_t line);

}  // namespace warmfork::lc3
