#include "lc3/debugger/session.hpp"

#include "lc3/asm/text.hpp"
#include "lc3/core/instruction.hpp"
#include "lc3/os/os_image.hpp"

#include <algorithm>
#include <filesystem>
#include <tuple>

namespace warmfork::lc3 {
namespace {

constexpr std::uint32_t kMostWords = 4096;  // of one listing

std::string number(std::uint16_t word) {
  std::string text = fmt::format("x{:04X}  #{}", word, static_cast<std::int16_t>(word));
  if (word >= 0x20 && word < 0x7F) text += fmt::format("  '{}'", static_cast<char>(word));
  return text;
}

std::string visible(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

const char* kind_name(Point::Kind kind) {
  switch (kind) {
    case Point::Kind::kBreak: return "breakpoint";
    case Point::Kind::kWrite: return "watchpoint (write)";
    case Point::Kind::kRead: return "watchpoint (read)";
    case Point::Kind::kAccess: return "watchpoint (access)";
    case Point::Kind::kRegister: return "watchpoint (register)";
  }
  return "";
}

std::string condition_codes(std::uint16_t psr) {
  return (psr & kPsrN) != 0 ? "N" : (psr & kPsrZ) != 0 ? "Z" : (psr & kPsrP) != 0 ? "P" : "-";
}

std::uint32_t limited(std::optional<std::uint64_t> count, std::uint32_t otherwise) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(count.value_or(otherwise), kMostWords));
}

}  // namespace

Session::Session(Debugger& debugger) : debugger_(debugger) {
  symbols_ = debugger.program().symbols;
  const Lc3Options& machine = debugger.options().machine;
  if (machine.load_os) {
    const auto& os = os_image(machine.edition == 2 ? Edition::kSecond : Edition::kThird).symbols;
    symbols_.insert(symbols_.end(), os.begin(), os.end());
  }
  for (const Symbol& symbol : symbols_) label_at_.emplace(symbol.address, symbol.name);
  for (const SourceLine& line : debugger.program().lines) {
    if (line.word_count > 0) source_at_.emplace(line.address, &line);
  }
  labels_ = [this](std::string_view name) { return find_label(name); };
}

std::optional<std::uint16_t> Session::find_label(std::string_view name) const {
  for (const Symbol& symbol : symbols_) {
    if (equal_ignoring_case(symbol.name, name)) return symbol.address;
  }
  return std::nullopt;
}

Reply Session::welcome() {
  reply_ = {};
  say("{}; `help` explains, `quit` or Ctrl-D leaves.", fmt::join(debugger_.program().files, ", "));
  if (auto status = show_here(); !status) reply_.error = status.error();
  return std::move(reply_);
}

Reply Session::execute(std::string_view line) {
  reply_ = {};
  const auto command = parse_command(line, debugger_.program(), labels_);
  if (!command) {
    reply_.error = command.error();
    return std::move(reply_);
  }
  if (!*command) return std::move(reply_);
  repeated_.clear();
  for (const VerbInfo& info : verbs()) {
    if (info.verb == (*command)->verb && info.repeats) repeated_ = std::string(line);
  }
  if (auto status = perform(**command); !status) reply_.error = status.error();
  return std::move(reply_);
}

Status Session::perform(const Command& command) {
  const auto halted = [this](const Result<Halt>& halt) -> Status {
    if (!halt) return Failure(halt.error());
    return show_halt(*halt);
  };
  const std::uint64_t count = command.count.value_or(1);
  switch (command.verb) {
    case Verb::kStep: return halted(debugger_.step(count));
    case Verb::kNext: return halted(debugger_.next(count));
    case Verb::kFinish: return halted(debugger_.finish());
    case Verb::kContinue: return halted(debugger_.resume(command.count));
    case Verb::kUntil: {
      WARMFORK_TRY_ASSIGN(const std::uint16_t address, address_of(command));
      return halted(debugger_.until(address));
    }
    case Verb::kRun: return halted(debugger_.run());
    case Verb::kRestart: WARMFORK_TRY(debugger_.restart()); return show_here();
    case Verb::kBack:
    case Verb::kReverseContinue:
    case Verb::kGoto: return move_back(command);
    case Verb::kBreak:
    case Verb::kTemporaryBreak:
    case Verb::kWatch:
    case Verb::kReadWatch:
    case Verb::kAccessWatch: return add_point(command);
    case Verb::kDelete:
    case Verb::kEnable:
    case Verb::kDisable:
    case Verb::kIgnore:
    case Verb::kCondition: return change_point(command);
    case Verb::kPrint: {
      WARMFORK_TRY_ASSIGN(const std::uint16_t value, command.target->evaluate(debugger_));
      const auto label = label_at_.find(value);
      say("{}{}", number(value), label == label_at_.end() ? "" : fmt::format("  {}", label->second));
      return {};
    }
    case Verb::kSet: return set(command);
    case Verb::kRegisters: return show_registers();
    case Verb::kMemory: {
      WARMFORK_TRY_ASSIGN(const std::uint16_t address, address_of(command));
      return show_memory(address, limited(command.count, 8));
    }
    case Verb::kStack: return show_stack(limited(command.count, 8));
    case Verb::kDisassemble: {
      WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
      if (!command.target) return show_code(static_cast<std::uint16_t>(now.pc - 4), 10);
      WARMFORK_TRY_ASSIGN(const std::uint16_t address, address_of(command));
      return show_code(address, limited(command.count, 10));
    }
    case Verb::kList: {
      WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
      if (!command.target) return show_source(now.pc);
      WARMFORK_TRY_ASSIGN(const std::uint16_t address, address_of(command));
      return show_source(address);
    }
    case Verb::kInfo: return show_info(command.text);
    case Verb::kOutput: {
      const std::uint64_t missing = debugger_.output_bytes() - debugger_.output().size();
      if (missing > 0) say("({} characters before this are no longer kept)", missing);
      std::string_view rest = debugger_.output();
      if (rest.empty()) say("(nothing printed)");
      while (!rest.empty()) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        say("| {}", rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
      return {};
    }
    case Verb::kInput:
    case Verb::kType:
      if (debugger_.later_events() > 0) say("({} later inputs and changes are discarded)", debugger_.later_events());
      WARMFORK_TRY(debugger_.type(command.text));
      say("typed \"{}\"; unread: {} characters", visible(command.text), debugger_.unread_input().size());
      return {};
    case Verb::kEndInput:
      WARMFORK_TRY(debugger_.close_input());
      say("no more input will come");
      return {};
    case Verb::kHelp: return show_help(command.text);
    case Verb::kQuit: reply_.quit = true; return {};
  }
  return {};
}

// --- Places ----------------------------------------------------------------------------------------------------------
Result<std::uint16_t> Session::address_of(const Command& command) {
  // `memory mem[P]` means the word that P points to; a watchpoint on mem[P] means the word at P (add_point).
  return command.target->evaluate(debugger_);
}

std::string Session::describe_place(std::uint16_t address) const {
  auto after = label_at_.upper_bound(address);
  if (after == label_at_.begin()) return {};
  const auto& [base, name] = *std::prev(after);
  const int distance = address - base;
  if (distance == 0) return name;
  return distance < 0x100 ? fmt::format("{}+{}", name, distance) : std::string();
}

const SourceLine* Session::source_at(std::uint16_t address) const {
  const auto after = source_at_.upper_bound(address);
  if (after == source_at_.begin()) return nullptr;
  const SourceLine* line = std::prev(after)->second;
  return address < line->address + line->word_count ? line : nullptr;
}

std::string Session::code_line(std::uint16_t address, std::uint16_t word) const {
  const DisassemblyText text = disassemble(word, address);
  std::string_view statement = text.view();
  std::string shown(statement);
  if (const std::size_t comment = statement.rfind("; x"); comment != std::string_view::npos) {
    const auto target = parse_number(statement.substr(comment + 2));
    const std::string place = target ? describe_place(static_cast<std::uint16_t>(*target)) : std::string();
    if (!place.empty()) shown += " " + place;
  }
  return fmt::format("x{:04X}  x{:04X}  {:<16}  {}", address, word, describe_place(address), shown);
}

Status Session::show_here() {
  WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
  WARMFORK_TRY_ASSIGN(const std::uint16_t word, debugger_.memory_at(now.pc));
  std::string source;
  if (const SourceLine* line = source_at(now.pc); line != nullptr && line->line > 0) {
    source = fmt::format("  {}:{}", std::filesystem::path(debugger_.program().files[line->file]).filename().string(),
                         line->line);
  }
  say("[{}] {}{}", debugger_.position().instructions, code_line(now.pc, word), source);
  return {};
}

Status Session::show_halt(const Halt& halt) {
  for (const PointHit& hit : halt.hits) {
    // A temporary point is gone already.
    const Point* point = debugger_.find_point(hit.number);
    const std::string name = point == nullptr
                                 ? fmt::format("temporary breakpoint {}", hit.number)
                                 : fmt::format("{} {}: {}", kind_name(point->kind), hit.number, point->where);
    if (hit.access == 0) {
      say("* {}", name);
    } else if (hit.before) {
      say("* {}: x{:04X} -> x{:04X}", name, *hit.before, hit.after);
    } else {
      say("* {}: {} x{:04X}", name, (hit.access & kWatchWrite) != 0 ? "written again," : "read,", hit.after);
    }
    if (hit.condition_error) say("  its condition cannot be evaluated: {}", hit.condition_error->message);
  }
  switch (halt.kind) {
    case HaltKind::kDone:
    case HaltKind::kPoint: break;
    case HaltKind::kInterrupted: say("* interrupted"); break;
    case HaltKind::kBeginning: say("* this is the beginning"); break;
    case HaltKind::kProgram:
      switch (halt.reason) {
        case StopReason::kHalted: say("* the program has halted"); break;
        case StopReason::kInputNeeded:
        case StopReason::kIdle:
          say("* the program waits for input: `input \"text\"` or `type line` gives it some, `eof` ends it");
          break;
        case StopReason::kInputExhausted: say("* the program waits for input, and there is no more"); break;
        case StopReason::kUnhandledException:
          say("* exception x{:02X} without a handler{}", halt.vector,
              halt.vector == kAccessException ? fmt::format(": access to x{:04X}", halt.address) : "");
          break;
        case StopReason::kUnhandledInterrupt: say("* interrupt x{:02X} without a handler", halt.vector); break;
        case StopReason::kUnhandledTrap: say("* trap x{:02X} without a routine", halt.vector); break;
        default: say("* {}", describe(halt.reason)); break;
      }
      break;
  }
  return show_here();
}

Status Session::move_back(const Command& command) {
  const std::uint64_t printed = debugger_.output_bytes();
  const std::uint64_t before = debugger_.position().instructions;
  Result<Halt> halt = command.verb == Verb::kBack   ? debugger_.step_back(command.count.value_or(1))
                      : command.verb == Verb::kGoto ? debugger_.go_to(command.count.value_or(0))
                                                    : debugger_.resume_back();
  if (!halt) return Failure(halt.error());
  if (debugger_.position().instructions <= before && debugger_.output_bytes() < printed) {
    say("({} characters of output taken back; running on prints them again)", printed - debugger_.output_bytes());
  }
  if (debugger_.later_events() > 0) {
    say("({} later inputs and changes will happen again)", debugger_.later_events());
  }
  return show_halt(*halt);
}

// --- Points ----------------------------------------------------------------------------------------------------------
std::string Session::describe_point(const Point& point) const {
  std::string text = fmt::format("{:<3} {:<22} {}", point.number, kind_name(point.kind), point.where);
  if (point.kind != Point::Kind::kRegister) {
    text += fmt::format("  x{:04X}", point.address);
    if (const SourceLine* line = source_at(point.address); line != nullptr && line->line > 0) {
      text += fmt::format("  {}:{}", std::filesystem::path(debugger_.program().files[line->file]).filename().string(),
                          line->line);
    }
  }
  if (point.condition) text += fmt::format("  if {}", point.condition->text());
  if (point.temporary) text += "  temporary";
  if (!point.enabled) text += "  disabled";
  if (point.ignore > 0) text += fmt::format("  ignored {} more times", point.ignore);
  if (point.hits > 0) text += fmt::format("  hit {} times", point.hits);
  return text;
}

Status Session::add_point(const Command& command) {
  Point point;
  point.condition = command.condition;
  point.where = command.target_text;
  point.temporary = command.verb == Verb::kTemporaryBreak;
  switch (command.verb) {
    case Verb::kWatch: point.kind = Point::Kind::kWrite; break;
    case Verb::kReadWatch: point.kind = Point::Kind::kRead; break;
    case Verb::kAccessWatch: point.kind = Point::Kind::kAccess; break;
    default: break;
  }
  const bool breaks = point.kind == Point::Kind::kBreak;
  if (!command.target) {
    WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
    point.address = now.pc;
    point.where = fmt::format("x{:04X}", now.pc);
  } else if (const auto name = command.target->as_register(); name && !breaks) {
    const bool possible = *name <= Name::kR7 || *name == Name::kPsr || *name == Name::kSsp || *name == Name::kUsp;
    if (!possible || point.kind != Point::Kind::kWrite) {
      return fail(ErrorKind::kUsage, "only `watch`, and only R0 to R7, PSR, SSP and USP");
    }
    point.kind = Point::Kind::kRegister;
    point.name = *name;
    point.where = to_text(*name);
  } else if (command.target->is_memory() && !breaks) {
    WARMFORK_TRY_ASSIGN(point.address, command.target->memory_address(debugger_));
  } else {
    WARMFORK_TRY_ASSIGN(point.address, address_of(command));
  }
  const int number = debugger_.add_point(std::move(point));
  say("{}", describe_point(*debugger_.find_point(number)));
  return {};
}

Status Session::change_point(const Command& command) {
  if (command.number && debugger_.find_point(*command.number) == nullptr) {
    return fail(ErrorKind::kUsage, "no break- or watchpoint {}", *command.number);
  }
  std::vector<int> numbers;
  for (const Point& point : debugger_.points()) {
    if (!command.number || point.number == *command.number) numbers.push_back(point.number);
  }
  for (const int number : numbers) {
    Point& point = *debugger_.find_point(number);
    switch (command.verb) {
      case Verb::kDelete: debugger_.remove_point(number); continue;
      case Verb::kEnable: point.enabled = true; break;
      case Verb::kDisable: point.enabled = false; break;
      case Verb::kIgnore: point.ignore = command.count.value_or(0); break;
      default: point.condition = command.condition; break;
    }
    say("{}", describe_point(point));
  }
  return {};
}

Status Session::set(const Command& command) {
  WARMFORK_TRY_ASSIGN(const std::uint16_t value, command.value->evaluate(debugger_));
  if (debugger_.later_events() > 0) say("({} later inputs and changes are discarded)", debugger_.later_events());
  if (const auto name = command.target->as_register()) {
    if (*name >= Name::kN && value != 1) return fail(ErrorKind::kUsage, "one of N, Z, P is set by setting it to 1");
    WARMFORK_TRY(debugger_.set(*name, value));
  } else {
    WARMFORK_TRY_ASSIGN(const std::uint16_t address, command.target->memory_address(debugger_));
    WARMFORK_TRY(debugger_.set_memory(address, value));
  }
  WARMFORK_TRY_ASSIGN(const std::uint16_t now, command.target->evaluate(debugger_));
  say("{} = {}", command.target_text, number(now));
  return {};
}

// --- Views -----------------------------------------------------------------------------------------------------------
Status Session::show_registers() {
  WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
  for (std::size_t i = 0; i < 8; i += 2) {
    const auto one = [&](std::size_t r) { return fmt::format("R{}  {}", r, number(now.general[r])); };
    say("{:<26}{}", one(i), one(i + 1));
  }
  say("PC  x{:04X}  {}", now.pc, describe_place(now.pc));
  say("PSR x{:04X}  {}, priority {}, {}", now.psr, (now.psr & kPsrUser) != 0 ? "user" : "supervisor",
      (now.psr & kPsrPriority) >> 8, condition_codes(now.psr));
  say("SSP x{:04X}  USP x{:04X}  (saved)   MCR x{:04X}", now.saved_ssp, now.saved_usp, now.mcr);
  say("{} instructions", debugger_.position().instructions);
  return {};
}

Status Session::show_memory(std::uint16_t address, std::uint32_t count) {
  WARMFORK_TRY_ASSIGN(const auto words, debugger_.memory(address, count));
  for (std::uint32_t i = 0; i < count; i += 8) {
    std::string hex, text;
    const auto base = static_cast<std::uint16_t>(address + i);
    for (std::uint32_t j = i; j < std::min(count, i + 8); ++j) {
      hex += fmt::format(" {:04X}", words[j]);
      text += words[j] >= 0x20 && words[j] < 0x7F ? static_cast<char>(words[j]) : '.';
    }
    say("x{:04X} {:<16}{:<40}  {}", base, describe_place(base), hex, text);
  }
  return {};
}

Status Session::show_stack(std::uint32_t count) {
  WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
  const std::uint16_t top = now.general[6];
  WARMFORK_TRY_ASSIGN(const auto words, debugger_.memory(top, count));
  for (std::uint32_t i = 0; i < count; ++i) {
    say("R6+{:<3} x{:04X}  {:<24}{}", i, static_cast<std::uint16_t>(top + i), number(words[i]),
        describe_place(words[i]));
  }
  return {};
}

Status Session::show_code(std::uint16_t address, std::uint32_t count) {
  WARMFORK_TRY_ASSIGN(const auto words, debugger_.memory(address, count));
  WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::uint16_t>(address + i);
    say("{} {}", at == now.pc ? "=>" : "  ", code_line(at, words[i]));
  }
  return {};
}

Status Session::show_source(std::uint16_t address) {
  const SourceLine* here = source_at(address);
  if (here == nullptr || here->line == 0) {
    say("(no source for x{:04X})", address);
    return show_code(static_cast<std::uint16_t>(address - 4), 10);
  }
  WARMFORK_TRY_ASSIGN(const Registers now, debugger_.registers());
  std::vector<const SourceLine*> lines;
  for (const SourceLine& line : debugger_.program().lines) {
    if (line.file == here->file && line.line + 5 >= here->line && line.line <= here->line + 5) lines.push_back(&line);
  }
  std::sort(lines.begin(), lines.end(), [](const SourceLine* a, const SourceLine* b) {
    return std::tie(a->line, a->address) < std::tie(b->line, b->address);
  });
  say("{}", debugger_.program().files[here->file]);
  const SourceLine* current = source_at(now.pc);
  for (const SourceLine* line : lines) {
    say("{} {:>5}  x{:04X}  {}", line == current ? "=>" : "  ", line->line, line->address,
        without_controls(line->text));
  }
  return {};
}

Status Session::show_info(std::string_view what) {
  const std::string_view word = what.substr(0, what.find(' '));
  const std::string_view rest = word.size() < what.size() ? what.substr(word.size() + 1) : std::string_view();
  const auto is = [&](std::string_view name) {
    return !word.empty() && word.size() <= name.size() && equal_ignoring_case(name.substr(0, word.size()), word);
  };
  if (is("breakpoints") || is("watchpoints")) {
    if (debugger_.points().empty()) say("no break- or watchpoints");
    for (const Point& point : debugger_.points()) say("{}", describe_point(point));
    return {};
  }
  if (is("symbols")) {
    for (const Symbol& symbol : symbols_) {
      if (rest.empty() || upper(symbol.name).find(upper(rest)) != std::string::npos) {
        say("x{:04X}  {}", symbol.address, symbol.name);
      }
    }
    return {};
  }
  if (is("registers")) return show_registers();
  if (is("devices")) {
    for (const auto& [name, address] : {std::pair("KBSR", kKbsr), std::pair("KBDR", kKbdr), std::pair("DSR", kDsr),
                                        std::pair("DDR", kDdr), std::pair("PSR", kPsr), std::pair("MCR", kMcr)}) {
      WARMFORK_TRY_ASSIGN(const std::uint16_t value, debugger_.memory_at(address));
      say("{:<5} x{:04X}  x{:04X}", name, address, value);
    }
    const std::string unread = debugger_.unread_input();
    say("input: {} characters unread{}", unread.size(),
        unread.empty() ? "" : fmt::format(": \"{}\"", visible(std::string_view(unread).substr(0, 60))));
    say("output: {} characters printed", debugger_.output_bytes());
    return {};
  }
  if (is("history")) {
    say("{} instructions, {} interrupts taken, {} checkpoints, {} later inputs and changes",
        debugger_.position().instructions, debugger_.position().interrupts, debugger_.checkpoint_count(),
        debugger_.later_events());
    return {};
  }
  return fail(ErrorKind::kUsage, "info: breakpoints, symbols [TEXT], devices, history or registers");
}

Status Session::show_help(std::string_view word) {
  if (word.empty()) {
    for (const VerbInfo& info : verbs()) {
      const std::string names = *info.shortcuts == '\0' ? info.name : fmt::format("{} ({})", info.name, info.shortcuts);
      say("  {:<26} {}", names, info.summary);
    }
    say("\n`help COMMAND` says more; places and values are explained by `help break` and `help print`.\n"
        "An unambiguous beginning of a command is enough; an empty line repeats the last movement.\n"
        "A first look: list, step, registers, break LABEL, continue, back, reverse-continue.");
    return {};
  }
  WARMFORK_TRY_ASSIGN(const VerbInfo* const info, find_verb(word));
  say("{} {}\n{}", info->name, info->arguments, info->summary);
  if (*info->shortcuts != '\0') say("short: {}", info->shortcuts);
  if (*info->details != '\0') say("\n{}", info->details);
  return {};
}

std::vector<std::string> Session::complete(std::string_view line) const {
  const std::size_t blank = line.find_last_of(" \t([!~@+-*&|^<>=:");
  const std::string_view word = blank == std::string_view::npos ? line : line.substr(blank + 1);
  const auto begins = [&](std::string_view name) {
    return name.size() >= word.size() && equal_ignoring_case(name.substr(0, word.size()), word);
  };
  std::vector<std::string> found;
  const bool first = blank == std::string_view::npos;
  const bool of_help = line.starts_with("help ") || line.starts_with("h ");
  if (first || of_help) {
    for (const VerbInfo& info : verbs()) {
      if (begins(info.name)) found.emplace_back(info.name);
    }
  } else if (line.starts_with("i ") || line.starts_with("info ")) {
    for (const char* name : {"breakpoints", "devices", "history", "registers", "symbols"}) {
      if (begins(name)) found.emplace_back(name);
    }
  } else {
    for (const Symbol& symbol : symbols_) {
      if (begins(symbol.name)) found.push_back(symbol.name);
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace warmfork::lc3
