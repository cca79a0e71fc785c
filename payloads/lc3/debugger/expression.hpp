// Expressions of the debugger: what `print`, `set`, conditions and addresses are written in. Parsed once, evaluated as
// often as wanted. Pure; any thread may use its own.
//
// Every value is a 16-bit word. + - ~ - << wrap modulo 2^16; >> brings in zeros; a shift by 16 or more gives zero.
// Comparisons take words as signed numbers; they, ! && and || give 0 or 1, and && || leave out their right side where C
// does. From the weakest: ||, &&, == != < <= > >=, |, ^, &, << >>, + -, unary - ~ !. Unlike in C, & ^ | bind tighter
// than comparisons, so that R0 & 1 == 0 means what it looks like.
//
//   x1F x-1 0x1F 10 #10 #-3 b101 'c'    numbers
//   R0 … R7 PC PSR N Z P SSP USP MCR    registers (SSP, USP: the saved ones); N Z P are 0 or 1
//   mem[EXPR]                           a word of memory, device registers without side effects
//   LOOP @N                             the address of a label; @ for labels that are named like a register
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

/// What an expression can name besides numbers, in the order of RegisterId up to kMcr.
enum class Name : std::uint8_t { kR0, kR1, kR2, kR3, kR4, kR5, kR6, kR7, kPc, kPsr, kSsp, kUsp, kMcr, kN, kZ, kP };

/// The machine as an expression sees it.
class ExpressionContext {
 public:
  virtual ~ExpressionContext() = default;
  [[nodiscard]] virtual Result<std::uint16_t> value_of(Name name) = 0;
  [[nodiscard]] virtual Result<std::uint16_t> memory_at(std::uint16_t address) = 0;
};

/// The address of a label, if there is one.
using LabelLookup = std::function<std::optional<std::uint16_t>(std::string_view)>;

inline constexpr std::size_t kMaxExpressionLength = 1000;
inline constexpr int kMaxExpressionNesting = 50;

class Expression {
 public:
  /// The error (kUsage) is three lines: what is wrong, the text, a caret below the place.
  [[nodiscard]] static Result<Expression> parse(std::string_view text, const LabelLookup& labels);

  [[nodiscard]] Result<std::uint16_t> evaluate(ExpressionContext& context) const;

  /// What `set` can change: a register, or a word of memory.
  [[nodiscard]] std::optional<Name> as_register() const;
  [[nodiscard]] bool is_memory() const;
  /// The address of an expression that is_memory().
  [[nodiscard]] Result<std::uint16_t> memory_address(ExpressionContext& context) const;
  /// True if its value depends on no register and no memory.
  [[nodiscard]] bool is_constant() const;
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  friend class ExpressionParser;
  enum class Operator : std::uint8_t;
  struct Node {
    Operator op{};
    Name name = Name::kR0;
    std::uint16_t value = 0;
    std::uint32_t left = 0, right = 0;  // indices into nodes_
  };
  [[nodiscard]] Result<std::uint16_t> evaluate(std::uint32_t node, ExpressionContext& context) const;

  std::string text_;
  std::vector<Node> nodes_;  // the last one is the root
};

/// "what", the text, and a caret below `column` (from 0): how errors in what a user typed are shown.
[[nodiscard]] std::string point_at(std::string_view what, std::string_view text, std::size_t column);

/// A register by its name, in any case.
[[nodiscard]] std::optional<Name> parse_name(std::string_view text);
[[nodiscard]] const char* to_text(Name name);

}  // namespace warmfork::lc3
