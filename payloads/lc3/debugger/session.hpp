// One debugging session: lines of text in, text out. No terminal; what the program prints goes the way of
// DebuggerOptions::on_output. One thread, but for Debugger::interrupt().
#pragma once

#include "lc3/debugger/command.hpp"
#include "lc3/debugger/debugger.hpp"

#include <map>
#include <string>
#include <vector>

namespace warmfork::lc3 {

struct Reply {
  std::string text;            // lines, each ended by a newline; may be empty
  std::optional<Error> error;  // the command was not done; kUsage: the user's words, else the session is over
  bool quit = false;
};

class Session {
 public:
  explicit Session(Debugger& debugger);

  /// Where the program stands, and how to get help.
  [[nodiscard]] Reply welcome();
  [[nodiscard]] Reply execute(std::string_view line);
  /// The line that an empty line stands for; empty if the last command is not one to repeat.
  [[nodiscard]] const std::string& repeated() const { return repeated_; }
  /// What the last word of `line` could be completed to.
  [[nodiscard]] std::vector<std::string> complete(std::string_view line) const;

 private:
  [[nodiscard]] Status perform(const Command& command);
  [[nodiscard]] Status show_halt(const Halt& halt);
  [[nodiscard]] Status show_here();
  [[nodiscard]] Status move_back(const Command& command);
  [[nodiscard]] Status add_point(const Command& command);
  [[nodiscard]] Status change_point(const Command& command);
  [[nodiscard]] Status set(const Command& command);
  [[nodiscard]] Status show_registers();
  [[nodiscard]] Status show_memory(std::uint16_t address, std::uint32_t count);
  [[nodiscard]] Status show_stack(std::uint32_t count);
  [[nodiscard]] Status show_code(std::uint16_t address, std::uint32_t count);
  [[nodiscard]] Status show_source(std::uint16_t address);
  [[nodiscard]] Status show_info(std::string_view what);
  [[nodiscard]] Status show_help(std::string_view word);
  [[nodiscard]] Result<std::uint16_t> address_of(const Command& command);
  [[nodiscard]] std::string describe_place(std::uint16_t address) const;
  [[nodiscard]] std::string describe_point(const Point& point) const;
  [[nodiscard]] std::string code_line(std::uint16_t address, std::uint16_t word) const;
  [[nodiscard]] const SourceLine* source_at(std::uint16_t address) const;
  [[nodiscard]] std::optional<std::uint16_t> find_label(std::string_view name) const;

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    reply_.text += fmt::format(format, std::forward<Args>(args)...);
    reply_.text += '\n';
  }

  Debugger& debugger_;
  std::vector<Symbol> symbols_;                           // of the program, then of the OS
  std::map<std::uint16_t, std::string> label_at_;         // the first label of each address
  std::map<std::uint16_t, const SourceLine*> source_at_;  // by first address
  LabelLookup labels_;
  Reply reply_;
  std::string repeated_;
};

}  // namespace warmfork::lc3
