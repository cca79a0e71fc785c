#include "lc3/debugger/expression.hpp"

#include "lc3/asm/text.hpp"

#include <array>
#include <utility>

namespace warmfork::lc3 {

enum class Expression::Operator : std::uint8_t {
  kNumber,
  kName,
  kMemory,
  kNegate,
  kComplement,
  kNot,
  kAdd,
  kSubtract,
  kShiftLeft,
  kShiftRight,
  kAnd,
  kXor,
  kOr,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kBoth,
  kEither,
};

namespace {

constexpr std::array<const char*, 16> kNames{"R0", "R1",  "R2",  "R3",  "R4",  "R5", "R6", "R7",
                                             "PC", "PSR", "SSP", "USP", "MCR", "N",  "Z",  "P"};

bool is_word_character(char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '.' || c == '$'; }

std::int16_t as_signed(std::uint16_t word) { return static_cast<std::int16_t>(word); }

}  // namespace

std::optional<Name> parse_name(std::string_view text) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (equal_ignoring_case(text, kNames[i])) return static_cast<Name>(i);
  }
  return std::nullopt;
}

const char* to_text(Name name) { return kNames[static_cast<std::size_t>(name)]; }

std::string point_at(std::string_view what, std::string_view text, std::size_t column) {
  std::string shown;
  for (const char c : text) shown += c >= ' ' && c <= '~' ? c : '?';
  return fmt::format("{}\n  {}\n  {:>{}}", what, shown, "^", std::min(column, text.size()) + 1);
}

/// Recursive descent; one level of binary operators per call, by precedence.
class ExpressionParser {
 public:
  ExpressionParser(std::string_view text, const LabelLookup& labels) : text_(text), labels_(labels) {}

  Result<Expression> run() {
    if (text_.size() > kMaxExpressionLength) {
      return fail(ErrorKind::kUsage, "an expression of {} characters; at most {}", text_.size(), kMaxExpressionLength);
    }
    WARMFORK_TRY(binary(0));
    skip_blanks();
    if (at_ < text_.size()) return wrong("expected an operator or the end");
    result_.text_ = std::string(text_);
    return std::move(result_);
  }

 private:
  using Operator = Expression::Operator;
  using Index = std::uint32_t;
  struct Binary {
    std::string_view text;
    int level;  // higher binds tighter
    Operator op;
  };
  // Longer ones first, so that << is not taken for <.
  static constexpr std::array<Binary, 15> kBinary{{{"||", 0, Operator::kEither},
                                                   {"&&", 1, Operator::kBoth},
                                                   {"==", 2, Operator::kEqual},
                                                   {"!=", 2, Operator::kNotEqual},
                                                   {"<<", 6, Operator::kShiftLeft},
                                                   {">>", 6, Operator::kShiftRight},
                                                   {"<=", 2, Operator::kLessEqual},
                                                   {">=", 2, Operator::kGreaterEqual},
                                                   {"<", 2, Operator::kLess},
                                                   {">", 2, Operator::kGreater},
                                                   {"|", 3, Operator::kOr},
                                                   {"^", 4, Operator::kXor},
                                                   {"&", 5, Operator::kAnd},
                                                   {"+", 7, Operator::kAdd},
                                                   {"-", 7, Operator::kSubtract}}};

  [[nodiscard]] Failure wrong(std::string_view what) const { return wrong_at(what, at_); }
  [[nodiscard]] Failure wrong_at(std::string_view what, std::size_t column) const {
    return Failure(Error{ErrorKind::kUsage, point_at(what, text_, column)});
  }
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  bool take(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Index add(Expression::Node node) {
    result_.nodes_.push_back(node);
    return static_cast<Index>(result_.nodes_.size() - 1);
  }
  Index number(unsigned value) { return add({.op = Operator::kNumber, .value = static_cast<std::uint16_t>(value)}); }

  Result<Index> binary(int level) {
    WARMFORK_TRY_ASSIGN(Index left, unary());
    while (true) {
      skip_blanks();
      const Binary* found = nullptr;
      for (const Binary& candidate : kBinary) {
        if (text_.substr(at_).starts_with(candidate.text)) {
          found = &candidate;
          break;
        }
      }
      if (found == nullptr || found->level < level) return left;
      at_ += found->text.size();
      WARMFORK_TRY_ASSIGN(const Index right, binary(found->level + 1));
      left = add({.op = found->op, .left = left, .right = right});
    }
  }

  Result<Index> unary() {
    if (++nesting_ > kMaxExpressionNesting) return wrong("nested too deeply");
    auto result = unary_inner();
    --nesting_;
    return result;
  }

  Result<Index> unary_inner() {
    skip_blanks();
    for (const auto [c, op] :
         {std::pair('-', Operator::kNegate), std::pair('~', Operator::kComplement), std::pair('!', Operator::kNot)}) {
      if (!take(c)) continue;
      WARMFORK_TRY_ASSIGN(const Index operand, unary());
      return add({.op = op, .left = operand});
    }
    return primary();
  }

  Result<Index> primary() {
    skip_blanks();
    const std::size_t begin = at_;
    if (take('(')) {
      WARMFORK_TRY_ASSIGN(const Index inner, binary(0));
      if (!take(')')) return wrong("expected )");
      return inner;
    }
    if (begin < text_.size() && text_[begin] == '\'') return character();
    if (begin < text_.size() && text_[begin] == '@') {
      ++at_;
      return label(take_word(), begin);
    }
    const std::string_view word = take_number_or_word();
    if (word.empty()) return wrong("expected a number, a register, a label or mem[…]");
    if (const auto value = parse_number(word)) {
      if (*value < -0x8000 || *value > 0xFFFF) return wrong_at("a number that does not fit in 16 bits", begin);
      return number(static_cast<std::uint16_t>(*value));
    }
    if (equal_ignoring_case(word, "mem") && take('[')) {
      WARMFORK_TRY_ASSIGN(const Index address, binary(0));
      if (!take(']')) return wrong("expected ]");
      return add({.op = Operator::kMemory, .left = address});
    }
    if (const auto name = parse_name(word)) return add({.op = Operator::kName, .name = *name});
    return label(word, begin);
  }

  std::string_view take_word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word_character(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  /// Numbers carry their sign inside: #-3, x-1.
  std::string_view take_number_or_word() {
    const std::size_t begin = at_;
    const auto at = [&](std::size_t i) { return begin + i < text_.size() ? text_[begin + i] : '\0'; };
    if (at(0) == '#') {
      ++at_;
      if (at(1) == '-') ++at_;
    } else if (to_upper(at(0)) == 'X' && at(1) == '-' && parse_number(std::string("x") + at(2))) {
      at_ += 2;
    }
    take_word();
    return text_.substr(begin, at_ - begin);
  }

  Result<Index> character() {
    const std::string_view rest = text_.substr(at_);
    if (rest.size() >= 4 && rest[1] == '\\' && rest[3] == '\'') {
      static constexpr std::string_view kEscapes = "ntr0\\'e";
      static constexpr std::string_view kValues("\n\t\r\0\\'\033", 7);
      const std::size_t found = kEscapes.find(rest[2]);
      if (found == std::string_view::npos) return wrong("no such escape: \\n \\t \\r \\0 \\e \\\\ \\'");
      at_ += 4;
      return number(static_cast<unsigned char>(kValues[found]));
    }
    if (rest.size() >= 3 && rest[1] != '\\' && rest[2] == '\'') {
      at_ += 3;
      return number(static_cast<unsigned char>(rest[1]));
    }
    return wrong("a character is written 'c'");
  }

  Result<Index> label(std::string_view name, std::size_t begin) {
    const auto address = labels_ && !name.empty() ? labels_(name) : std::nullopt;
    if (!address) return wrong_at(fmt::format("no label or register \"{}\"", printable(name)), begin);
    return number(*address);
  }

  std::string_view text_;
  const LabelLookup& labels_;
  std::size_t at_ = 0;
  int nesting_ = 0;
  Expression result_;
};

Result<Expression> Expression::parse(std::string_view text, const LabelLookup& labels) {
  return ExpressionParser(text, labels).run();
}

Result<std::uint16_t> Expression::evaluate(ExpressionContext& context) const {
  return evaluate(static_cast<std::uint32_t>(nodes_.size() - 1), context);
}

Result<std::uint16_t> Expression::evaluate(std::uint32_t index, ExpressionContext& context) const {
  const Node& node = nodes_[index];
  if (node.op == Operator::kNumber) return node.value;
  if (node.op == Operator::kName) return context.value_of(node.name);
  WARMFORK_TRY_ASSIGN(const std::uint16_t a, evaluate(node.left, context));
  const auto word = [](unsigned value) { return static_cast<std::uint16_t>(value); };
  switch (node.op) {
    case Operator::kMemory: return context.memory_at(a);
    case Operator::kNegate: return word(0U - a);
    case Operator::kComplement: return word(~unsigned{a});
    case Operator::kNot: return word(a == 0 ? 1 : 0);
    case Operator::kBoth:
      if (a == 0) return word(0);
      break;
    case Operator::kEither:
      if (a != 0) return word(1);
      break;
    default: break;
  }
  WARMFORK_TRY_ASSIGN(const std::uint16_t b, evaluate(node.right, context));
  const auto truth = [](bool value) { return static_cast<std::uint16_t>(value ? 1 : 0); };
  switch (node.op) {
    case Operator::kAdd: return word(unsigned{a} + b);
    case Operator::kSubtract: return word(unsigned{a} - b);
    case Operator::kShiftLeft: return word(b < 16 ? unsigned{a} << b : 0);
    case Operator::kShiftRight: return word(b < 16 ? unsigned{a} >> b : 0);
    case Operator::kAnd: return word(unsigned{a} & b);
    case Operator::kXor: return word(unsigned{a} ^ b);
    case Operator::kOr: return word(unsigned{a} | b);
    case Operator::kEqual: return truth(a == b);
    case Operator::kNotEqual: return truth(a != b);
    case Operator::kLess: return truth(as_signed(a) < as_signed(b));
    case Operator::kLessEqual: return truth(as_signed(a) <= as_signed(b));
    case Operator::kGreater: return truth(as_signed(a) > as_signed(b));
    case Operator::kGreaterEqual: return truth(as_signed(a) >= as_signed(b));
    default: return truth(b != 0);  // && and ||, whose left side has not decided
  }
}

std::optional<Name> Expression::as_register() const {
  if (nodes_.back().op != Operator::kName) return std::nullopt;
  return nodes_.back().name;
}

bool Expression::is_memory() const { return nodes_.back().op == Operator::kMemory; }

Result<std::uint16_t> Expression::memory_address(ExpressionContext& context) const {
  return evaluate(nodes_.back().left, context);
}

bool Expression::is_constant() const {
  for (const Node& node : nodes_) {
    if (node.op == Operator::kName || node.op == Operator::kMemory) return false;
  }
  return true;
}

}  // namespace warmfork::lc3
