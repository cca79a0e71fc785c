#include "lc3/debugger/command.hpp"

#include "lc3/asm/text.hpp"

#include <array>
#include <charconv>
#include <tuple>

namespace warmfork::lc3 {
namespace {

constexpr VerbInfo kVerbs[] = {
    {Verb::kStep, "step", "s", "[N]", "execute one instruction, or N",
     "Goes into subroutines and trap routines. Stops early at break- and watchpoints.", true},
    {Verb::kNext, "next", "n", "[N]", "as step, but over subroutines and trap routines",
     "JSR, JSRR, TRAP and interrupts run until they have returned; recursion is told apart by following every call "
     "and\n"
     "return.",
     true},
    {Verb::kFinish, "finish", "fin", "", "run until the current subroutine or trap routine returns",
     "Calls are followed from here on: RET or RTI without a call of its own is the return.", true},
    {Verb::kContinue, "continue", "c", "[N]", "run until something stops the program, at most N instructions",
     "Break- and watchpoints, the end of the program, a program that waits for input, Ctrl-C.", true},
    {Verb::kUntil, "until", "u", "PLACE", "run until the PC is at a place", "See `help break` for places.", true},
    {Verb::kRun, "run", "r", "", "restart and continue", "A breakpoint at the first instruction stops it.", false},
    {Verb::kRestart, "restart", "", "", "back to the beginning; discards what was typed and set",
     "The input of --input is given again. Break- and watchpoints stay.", false},
    {Verb::kBack, "back", "b- bs back-step", "[N]", "undo one instruction, or N",
     "Exact: memory, registers, devices, input and output are what they were. Output that has been shown stays on the\n"
     "screen; `output` shows what the program has printed up to here. What was typed and set later happens again at "
     "its\n"
     "instruction count when the program runs again, unless you type or set something else.",
     true},
    {Verb::kReverseContinue, "reverse-continue", "rc", "", "back to the last place where a point would have stopped",
     "Ignore counts play no part. Without one: back to the beginning.", true},
    {Verb::kGoto, "goto", "", "COUNT", "go to an instruction count, in either direction", "Ignores all points.", false},
    {Verb::kBreak, "break", "b", "[PLACE] [if CONDITION]", "stop before the instruction at a place",
     "A place is a label, an expression (see `help print`), FILE:LINE or :LINE; without one, the PC.\n"
     "  break LOOP\n  break x3005 if R0 == 0 && mem[SUM] > 10\n  break sort.asm:12",
     false},
    {Verb::kTemporaryBreak, "tbreak", "tb", "[PLACE] [if CONDITION]", "as break, deleted when it stops", "", false},
    {Verb::kWatch, "watch", "w", "PLACE|REGISTER [if CONDITION]", "stop after a word is written or a register changes",
     "Every store to the address stops, also of the same value. Registers: R0 to R7, PSR, SSP, USP.\n"
     "  watch SUM\n  watch R6 if R6 < x3000\n"
     "Native traps read strings, but touch no device registers and no stack.",
     false},
    {Verb::kReadWatch, "rwatch", "", "PLACE [if CONDITION]", "stop after a word is read", "", false},
    {Verb::kAccessWatch, "awatch", "", "PLACE [if CONDITION]", "stop after a word is read or written", "", false},
    {Verb::kDelete, "delete", "d", "[NUMBER]", "delete a break- or watchpoint, or all", "", false},
    {Verb::kEnable, "enable", "", "[NUMBER]", "let a point stop the program again, or all", "", false},
    {Verb::kDisable, "disable", "", "[NUMBER]", "keep a point, or all, without effect", "", false},
    {Verb::kIgnore, "ignore", "", "NUMBER COUNT", "pass over the next COUNT hits of a point", "", false},
    {Verb::kCondition, "condition", "", "NUMBER [CONDITION]", "change or remove the condition of a point", "", false},
    {Verb::kPrint, "print", "p", "EXPRESSION", "show a value",
     "Values are 16-bit words; arithmetic wraps, comparisons are signed, >> brings in zeros.\n"
     "  x1F 31 #-1 b101 'a'           numbers\n"
     "  R0 … R7 PC PSR N Z P SSP USP  registers; SSP and USP are the saved ones\n"
     "  LOOP @N                       labels; @ for labels that are named like a register\n"
     "  mem[R6 + 1]                   memory\n"
     "  || && == != < <= > >= | ^ & << >> + - unary - ~ !   from weak to strong: R0 & 1 == 0 is (R0 & 1) == 0",
     false},
    {Verb::kSet, "set", "", "REGISTER|mem[ADDRESS] = EXPRESSION", "change a register or a word of memory",
     "  set R0 = #10\n  set mem[COUNT] = mem[COUNT] + 1\n  set PC = LOOP\n  set Z = 1", false},
    {Verb::kRegisters, "registers", "reg", "", "show all registers", "", false},
    {Verb::kMemory, "memory", "x mem", "PLACE [COUNT]", "show words of memory", "  memory TABLE 16\n  memory R6 - 4 8",
     true},
    {Verb::kStack, "stack", "", "[COUNT]", "show the words at R6", "", false},
    {Verb::kDisassemble, "disassemble", "dis", "[PLACE] [COUNT]", "show instructions",
     "Without a place: around the PC.", true},
    {Verb::kList, "list", "l", "[PLACE]", "show source lines around a place", "", false},
    {Verb::kInfo, "info", "i", "breakpoints|symbols [TEXT]|devices|history|registers", "show what there is", "", false},
    {Verb::kOutput, "output", "", "", "show what the program has printed up to here", "", false},
    {Verb::kInput, "input", "", "\"TEXT\"", "type characters for the program",
     "Escapes in quotes: \\n \\t \\r \\0 \\e \\\\ \\\" \\xHH. They are there from this instruction on.", false},
    {Verb::kType, "type", "", "TEXT", "as input, a whole line: with a newline at its end", "", false},
    {Verb::kEndInput, "eof", "", "", "no more input will come", "", false},
    {Verb::kHelp, "help", "h ?", "[COMMAND]", "explain", "", false},
    {Verb::kQuit, "quit", "q exit", "", "leave", "", false},
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view take_word(std::string_view& rest) {
  rest = trim(rest);
  std::size_t end = 0;
  while (end < rest.size() && !is_blank(rest[end])) ++end;
  const std::string_view word = rest.substr(0, end);
  rest = trim(rest.substr(end));
  return word;
}

bool matches_shortcut(const VerbInfo& info, std::string_view word) {
  std::string_view rest = info.shortcuts;
  while (!rest.empty()) {
    if (equal_ignoring_case(take_word(rest), word)) return true;
  }
  return false;
}

Result<std::uint64_t> parse_count(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
    return fail(ErrorKind::kUsage, "\"{}\" is not a count: a plain decimal number", printable(text));
  }
  return value;
}

Result<std::string> unescape(std::string_view text) {
  if (text.empty() || text.front() != '"') return std::string(text);
  std::string out;
  const auto wrong = [&](std::string_view what, std::size_t at) {
    return Failure(Error{ErrorKind::kUsage, point_at(what, text, at)});
  };
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      if (i + 1 != text.size()) return wrong("something behind the closing quote", i + 1);
      return out;
    }
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    ++i;
    const char c = i < text.size() ? text[i] : '\0';
    static constexpr std::string_view kEscapes = "ntr0e\\\"";
    static constexpr std::string_view kValues("\n\t\r\0\033\\\"", 7);
    if (c == 'x') {
      unsigned value = 0;
      const std::string_view digits = text.substr(i + 1, 2);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
      if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2) return wrong("expected \\xHH", i);
      out += static_cast<char>(value);
      i += 2;
    } else if (const auto found = kEscapes.find(c); c != '\0' && found != std::string_view::npos) {
      out += kValues[found];
    } else {
      return wrong("no such escape", i);
    }
  }
  return wrong("the closing quote is missing", text.size());
}

/// What stands behind the word `if`, taken off `rest`.
std::optional<std::string_view> take_condition(std::string_view& rest) {
  for (std::size_t i = 0; i + 1 < rest.size(); ++i) {
    const bool begins = i == 0 || is_blank(rest[i - 1]);
    if (begins && equal_ignoring_case(rest.substr(i, 2), "if") && (i + 2 == rest.size() || is_blank(rest[i + 2]))) {
      const std::string_view condition = trim(rest.substr(i + 2));
      rest = trim(rest.substr(0, i));
      return condition;
    }
  }
  return std::nullopt;
}

class CommandParser {
 public:
  CommandParser(const Program& program, const LabelLookup& labels) : program_(program), labels_(labels) {}

  Result<Command> run(const VerbInfo& info, std::string_view rest) {
    command_.verb = info.verb;
    WARMFORK_TRY(arguments(info, rest));
    return std::move(command_);
  }

 private:
  Status target(std::string_view text) {
    command_.target_text = std::string(text);
    const std::size_t colon = text.rfind(':');
    if (colon != std::string_view::npos) {
      WARMFORK_TRY_ASSIGN(const std::uint64_t line, parse_count(trim(text.substr(colon + 1))));
      WARMFORK_TRY_ASSIGN(const std::uint16_t address,
                          address_of_line(program_, trim(text.substr(0, colon)),
                                          static_cast<std::uint32_t>(std::min<std::uint64_t>(line, 0xFFFFFFFF))));
      WARMFORK_TRY_ASSIGN(command_.target, Expression::parse(fmt::format("x{:X}", address), {}));
      return {};
    }
    WARMFORK_TRY_ASSIGN(command_.target, Expression::parse(text, labels_));
    return {};
  }

  /// PLACE [COUNT]: a last word that is a plain number is a count if what stands before it is a place.
  Status target_and_count(std::string_view rest) {
    const std::size_t blank = rest.find_last_of(" \t");
    if (blank != std::string_view::npos) {
      const auto count = parse_count(rest.substr(blank + 1));
      if (count && target(trim(rest.substr(0, blank)))) {
        command_.count = *count;
        return {};
      }
    }
    return target(rest);
  }

  Status number(std::string_view word) {
    WARMFORK_TRY_ASSIGN(const std::uint64_t value, parse_count(word));
    command_.number = static_cast<int>(std::min<std::uint64_t>(value, 1'000'000'000));
    return {};
  }

  Status assignment(std::string_view rest) {
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] != '=') continue;
      const bool comparison = (i + 1 < rest.size() && rest[i + 1] == '=') ||
                              (i > 0 && (rest[i - 1] == '!' || rest[i - 1] == '<' || rest[i - 1] == '>'));
      if (comparison) {
        ++i;
        continue;
      }
      WARMFORK_TRY(target(trim(rest.substr(0, i))));
      WARMFORK_TRY_ASSIGN(command_.value, Expression::parse(trim(rest.substr(i + 1)), labels_));
      if (!command_.target->as_register() && !command_.target->is_memory()) {
        return fail(ErrorKind::kUsage, "{}: only registers and mem[…] can be set", printable(command_.target_text));
      }
      return {};
    }
    return fail(ErrorKind::kUsage, "set what? REGISTER = VALUE or mem[ADDRESS] = VALUE");
  }

  Status arguments(const VerbInfo& info, std::string_view rest) {
    switch (info.verb) {
      case Verb::kStep:
      case Verb::kNext:
      case Verb::kContinue:
      case Verb::kBack:
      case Verb::kStack:
      case Verb::kGoto: return rest.empty() && info.verb != Verb::kGoto ? Status{} : count(rest);
      case Verb::kBreak:
      case Verb::kTemporaryBreak:
      case Verb::kWatch:
      case Verb::kReadWatch:
      case Verb::kAccessWatch:
        if (const auto text = take_condition(rest)) WARMFORK_TRY(condition(*text));
        if (!rest.empty()) return target(rest);
        if (info.verb == Verb::kBreak || info.verb == Verb::kTemporaryBreak) return {};
        return fail(ErrorKind::kUsage, "{}: {}", info.name, info.arguments);
      case Verb::kUntil:
      case Verb::kPrint:
        if (rest.empty()) return fail(ErrorKind::kUsage, "{}: {}", info.name, info.arguments);
        return info.verb == Verb::kUntil ? target(rest) : expression(rest);
      case Verb::kList: return rest.empty() ? Status{} : target(rest);
      case Verb::kMemory:
        if (rest.empty()) return fail(ErrorKind::kUsage, "memory: PLACE [COUNT]");
        return target_and_count(rest);
      case Verb::kDisassemble: return rest.empty() ? Status{} : target_and_count(rest);
      case Verb::kDelete:
      case Verb::kEnable:
      case Verb::kDisable: return rest.empty() ? Status{} : number(rest);
      case Verb::kIgnore: WARMFORK_TRY(number(take_word(rest))); return count(rest);
      case Verb::kCondition: WARMFORK_TRY(number(take_word(rest))); return rest.empty() ? Status{} : condition(rest);
      case Verb::kSet: return assignment(rest);
      case Verb::kInput: {
        if (rest.empty()) return fail(ErrorKind::kUsage, "input: \"TEXT\"");
        WARMFORK_TRY_ASSIGN(command_.text, unescape(rest));
        return {};
      }
      case Verb::kType: command_.text = std::string(rest) + "\n"; return {};
      case Verb::kInfo:
      case Verb::kHelp: command_.text = std::string(rest); return {};
      default:
        if (!rest.empty()) return fail(ErrorKind::kUsage, "{} takes no arguments", info.name);
        return {};
    }
  }

  Status count(std::string_view word) {
    WARMFORK_TRY_ASSIGN(command_.count, parse_count(word));
    return {};
  }

  Status condition(std::string_view text) {
    WARMFORK_TRY_ASSIGN(command_.condition, Expression::parse(text, labels_));
    return {};
  }

  Status expression(std::string_view rest) {
    command_.target_text = std::string(rest);
    WARMFORK_TRY_ASSIGN(command_.target, Expression::parse(rest, labels_));
    return {};
  }

  const Program& program_;
  const LabelLookup& labels_;
  Command command_;
};

}  // namespace

std::span<const VerbInfo> verbs() { return kVerbs; }

Result<const VerbInfo*> find_verb(std::string_view word) {
  for (const VerbInfo& info : kVerbs) {
    if (equal_ignoring_case(info.name, word) || matches_shortcut(info, word)) return &info;
  }
  const VerbInfo* found = nullptr;
  std::string candidates;
  for (const VerbInfo& info : kVerbs) {
    if (word.empty() || !equal_ignoring_case(std::string_view(info.name).substr(0, word.size()), word)) continue;
    candidates += fmt::format("{}{}", found == nullptr ? "" : ", ", info.name);
    if (found != nullptr) return fail(ErrorKind::kUsage, "\"{}\" could be {}", printable(word), candidates);
    found = &info;
  }
  if (found == nullptr) return fail(ErrorKind::kUsage, "no command \"{}\"; `help` lists them", printable(word));
  return found;
}

Result<std::uint16_t> address_of_line(const Program& program, std::string_view file, std::uint32_t line) {
  const SourceLine* best = nullptr;
  bool file_known = file.empty();
  for (const SourceLine& candidate : program.lines) {
    if (candidate.file >= program.files.size()) continue;
    const std::string_view name = program.files[candidate.file];
    const bool same = file.empty()
                          ? candidate.file == program.segments.front().file
                          : name == file || (name.ends_with(file) && name[name.size() - file.size() - 1] == '/');
    if (!same) continue;
    file_known = true;
    if (candidate.line < line || candidate.line == 0 || candidate.word_count == 0) continue;
    if (best == nullptr || std::tie(candidate.line, candidate.address) < std::tie(best->line, best->address)) {
      best = &candidate;
    }
  }
  if (!file_known) return fail(ErrorKind::kUsage, "no source lines of \"{}\"", printable(file));
  if (best == nullptr) return fail(ErrorKind::kUsage, "no code at line {} or below", line);
  return best->address;
}

Result<std::optional<Command>> parse_command(std::string_view line, const Program& program, const LabelLookup& labels) {
  if (line.size() > kMaxCommandLength) {
    return fail(ErrorKind::kUsage, "a line of {} characters; at most {}", line.size(), kMaxCommandLength);
  }
  std::string_view rest = trim(line);
  if (rest.empty() || rest.front() == '#' || rest.front() == ';') return std::optional<Command>{};
  // `x/8 TABLE` and `p R0`: the word ends at a blank.
  const std::string_view word = take_word(rest);
  WARMFORK_TRY_ASSIGN(const VerbInfo* const info, find_verb(word));
  WARMFORK_TRY_ASSIGN(Command command, CommandParser(program, labels).run(*info, rest));
  return std::optional<Command>(std::move(command));
}

}  // namespace warmfork::lc3
