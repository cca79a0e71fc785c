#include "lc3/asm/assembler.hpp"

#include "lc3/asm/mnemonics.hpp"
#include "lc3/asm/text.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace warmfork::lc3 {
namespace {

enum class TokenKind { kWord, kString, kComma, kColon };

struct Token {
  TokenKind kind;
  std::string_view text;  // of a string: between the quotes, escapes untouched
  std::uint32_t column;   // from 1
};

enum class Directive { kNone, kOrig, kEnd, kFill, kBlkw, kStringz };

struct Statement {
  std::uint32_t line;
  std::string_view source_line;
  Token name;
  Directive directive = Directive::kNone;
  std::optional<Mnemonic> mnemonic;
  std::vector<Token> operands;   // without commas
  std::uint32_t end_column = 1;  // where a missing operand would stand
  std::uint32_t address = 0;
  std::uint32_t word_count = 0;
};

struct OpenSegment {
  std::uint32_t origin;
  std::uint32_t end;
  std::uint32_t line;
  std::uint32_t column;
  std::string_view source_line;
};

struct Label {
  std::uint32_t address;
  std::uint32_t line;
};

class Assembler {
 public:
  Assembler(std::string_view source, const std::string& filename) : source_(source), filename_(filename) {}

  Assembly run() {
    measure();
    check_overlaps();
    // Nothing is encoded unless every address is sound: that bounds the output by the address space. Operands are
    // checked all the same, for one run to report everything.
    encode(diagnostics_.empty());
    Assembly result;
    if (diagnostics_.empty() && program_.segments.empty()) {
      error(1, {}, 1, "nothing to assemble: no .ORIG with words after it");
    }
    std::sort(diagnostics_.begin(), diagnostics_.end(), [](const Diagnostic& a, const Diagnostic& b) {
      return std::tie(a.line, a.column, a.message) < std::tie(b.line, b.column, b.message);
    });
    result.diagnostics = std::move(diagnostics_);
    result.dropped_diagnostics = dropped_;
    result.program = std::move(program_);
    result.program.files = {filename_};
    return result;
  }

 private:
  void error(std::uint32_t line, std::string_view source_line, std::uint32_t column, std::string message) {
    if (diagnostics_.size() == kMaxDiagnostics) {
      ++dropped_;
      return;
    }
    diagnostics_.push_back({filename_, line, column, std::move(message), std::string(source_line)});
  }
  void error(const Statement& statement, const Token& token, std::string message) {
    error(statement.line, statement.source_line, token.column, std::move(message));
  }
  void error_at_end(const Statement& statement, std::string message) {
    error(statement.line, statement.source_line, statement.end_column, std::move(message));
  }

  // --- Pass 1: lines to statements, statements to addresses --------------------------------------------------------

  void measure() {
    std::string_view rest = source_;
    if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);  // a byte order mark
    for (std::uint32_t line = 1; !rest.empty(); ++line) measure_line(line, take_line(rest));
    if (open_) {
      error(open_->line, open_->source_line, open_->column,
            fmt::format("no .END for the .ORIG x{:04X} of line {}", open_->origin, open_->line));
      close_segment();
    }
  }

  bool tokenize(std::uint32_t line, std::string_view text, std::vector<Token>& tokens, std::uint32_t& end_column) {
    std::size_t i = 0;
    end_column = 1;
    while (i < text.size() && text[i] != ';') {
      const auto column = static_cast<std::uint32_t>(i + 1);
      const char c = text[i];
      if (is_blank(c)) {
        ++i;
        continue;
      }
      if (c == ',' || c == ':') {
        tokens.push_back({c == ',' ? TokenKind::kComma : TokenKind::kColon, text.substr(i, 1), column});
        ++i;
      } else if (c == '"') {
        std::size_t end = i + 1;
        while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
        if (end >= text.size()) {
          error(line, text, column, "a string without its closing '\"'");
          return false;
        }
        tokens.push_back({TokenKind::kString, text.substr(i + 1, end - i - 1), column});
        i = end + 1;
      } else {
        std::size_t end = i;
        while (end < text.size() && !is_blank(text[end]) &&
               std::string_view(",:;\"").find(text[end]) == std::string_view::npos) {
          ++end;
        }
        tokens.push_back({TokenKind::kWord, text.substr(i, end - i), column});
        i = end;
      }
      end_column = static_cast<std::uint32_t>(i + 1);
    }
    return true;
  }

  void measure_line(std::uint32_t line, std::string_view text) {
    std::vector<Token> tokens;
    Statement statement{.line = line, .source_line = text, .name = {}, .mnemonic = {}, .operands = {}};
    if (!tokenize(line, text, tokens, statement.end_column)) return;
    if (tokens.empty()) return;

    std::size_t next = 0;
    std::optional<Token> label;
    const Token& first = tokens[0];
    const bool colon = tokens.size() > 1 && tokens[1].kind == TokenKind::kColon;
    if (first.kind != TokenKind::kWord) {
      error(line, text, first.column, "expected a label, an instruction or a directive");
      return;
    }
    if (colon || (first.text.front() != '.' && !is_mnemonic(first.text))) {
      label = first;
      next = colon ? 2 : 1;
      // The label is only defined once the rest of the line is known not to be a misspelt instruction's operands.
      if (!colon && next < tokens.size() && !starts_statement(tokens[next])) {
        error(line, text, first.column,
              fmt::format("'{}' is no instruction, and what follows it is none either", printable(first.text)));
        return;
      }
    }
    if (next < tokens.size()) {
      statement.name = tokens[next++];
      if (!starts_statement(statement.name)) {
        error(statement, statement.name,
              fmt::format("'{}' is no instruction or directive", printable(statement.name.text)));
        return;
      }
      if (!read_operands(statement, tokens, next)) {
        // Its size is most often one word; a wrong guess only moves labels in a program that is refused anyway.
        if (label) define(statement, *label);
        return;
      }
      statement.mnemonic = find_mnemonic(statement.name.text);
      if (!statement.mnemonic && !read_directive(statement)) {
        if (label) define(statement, *label);
        return;
      }
    }
    place(statement, label, next != (label ? (colon ? 2U : 1U) : 0U));
  }

  static bool starts_statement(const Token& token) {
    return token.kind == TokenKind::kWord && (token.text.front() == '.' || is_mnemonic(token.text));
  }

  // Operands stand apart by commas or blanks; no comma leads, trails or is doubled.
  bool read_operands(Statement& statement, const std::vector<Token>& tokens, std::size_t next) {
    bool comma = true;
    for (; next < tokens.size(); ++next) {
      const Token& token = tokens[next];
      if (token.kind == TokenKind::kColon || (token.kind == TokenKind::kComma && comma)) {
        error(statement, token, fmt::format("expected an operand, found '{}'", token.text));
        return false;
      }
      comma = token.kind == TokenKind::kComma;
      if (!comma) statement.operands.push_back(token);
    }
    if (comma && !statement.operands.empty()) {
      error_at_end(statement, "expected an operand after ','");
      return false;
    }
    return true;
  }

  bool read_directive(Statement& statement) {
    const std::string name = upper(statement.name.text);
    if (name == ".ORIG") {
      statement.directive = Directive::kOrig;
    } else if (name == ".END") {
      statement.directive = Directive::kEnd;
    } else if (name == ".FILL") {
      statement.directive = Directive::kFill;
    } else if (name == ".BLKW") {
      statement.directive = Directive::kBlkw;
    } else if (name == ".STRINGZ") {
      statement.directive = Directive::kStringz;
    } else if (name == ".EXTERNAL") {
      error(statement, statement.name,
            ".EXTERNAL is not supported: there is no linker; load several files at fixed addresses, and reach them "
            "through .FILL x....");
      return false;
    } else {
      error(statement, statement.name,
            fmt::format("'{}' is no directive: there are .ORIG .FILL .BLKW .STRINGZ .END",
                        printable(statement.name.text)));
      return false;
    }
    return true;
  }

  void define(const Statement& statement, const Token& label) {
    if (const std::string reason = why_not_a_label(label.text); !reason.empty()) {
      error(statement, label, reason);
      return;
    }
    if (!open_) return;  // reported for the statement
    if (open_->end >= kAddressSpaceWords) {
      error(statement, label, fmt::format("label '{}' at x{:X} is past xFFFF", label.text, open_->end));
      return;
    }
    const auto [entry, inserted] = labels_.try_emplace(upper(label.text), Label{open_->end, statement.line});
    if (!inserted) {
      error(statement, label, fmt::format("label '{}' is already defined in line {}", label.text, entry->second.line));
      return;
    }
    program_.symbols.push_back({std::string(label.text), static_cast<std::uint16_t>(open_->end), 0});
  }

  void place(Statement& statement, const std::optional<Token>& label, bool has_statement) {
    if (statement.directive == Directive::kOrig) {
      if (label) error(statement, *label, "a label before .ORIG has no address");
      open_segment(statement);
      return;
    }
    if (label) define(statement, *label);
    if (!open_) {
      if (!outside_reported_) {
        const Token& token = has_statement ? statement.name : *label;
        error(statement, token, "outside of .ORIG … .END: it has no address");
      }
      outside_reported_ = true;
      return;
    }
    if (!has_statement) return;
    if (statement.directive == Directive::kEnd) {
      if (!statement.operands.empty()) error(statement, statement.operands[0], ".END takes no operand");
      close_segment();
      return;
    }
    statement.address = open_->end;
    statement.word_count = size_of(statement);
    if (open_->end + statement.word_count > kAddressSpaceWords) {
      if (!past_end_reported_) {
        error(statement, statement.name,
              fmt::format("{} words at x{:04X} reach past xFFFF", statement.word_count, open_->end));
      }
      past_end_reported_ = true;
      return;
    }
    open_->end += statement.word_count;
    statements_.push_back(std::move(statement));
  }

  void open_segment(Statement& statement) {
    if (open_) {
      error(
          statement, statement.name,
          fmt::format(".ORIG inside of the segment x{:04X} of line {}: .END comes first", open_->origin, open_->line));
      close_segment();
    }
    outside_reported_ = false;
    past_end_reported_ = false;
    std::int64_t origin = 0x3000;  // stands in after an error
    if (const Token* operand = only_operand(statement, "an address")) {
      if (const auto value = number(statement, *operand, "an address", 0, 0xFFFF)) origin = *value;
    }
    open_ = OpenSegment{static_cast<std::uint32_t>(origin), static_cast<std::uint32_t>(origin), statement.line,
                        statement.name.column, statement.source_line};
  }

  void close_segment() {
    if (open_ && open_->end > open_->origin) segments_.push_back(*open_);
    open_.reset();
  }

  std::uint32_t size_of(Statement& statement) {
    if (statement.directive == Directive::kBlkw) {
      const Token* operand = only_operand(statement, "a number of words");
      if (operand == nullptr) return 1;
      return static_cast<std::uint32_t>(number(statement, *operand, "a number of words", 1, 0xFFFF).value_or(1));
    }
    if (statement.directive == Directive::kStringz) {
      const Token* operand = only_operand(statement, "a string", TokenKind::kString);
      if (operand == nullptr) return 1;
      std::uint32_t size = 1;
      unescape(statement, *operand, [&](std::uint16_t) { ++size; });
      return size;
    }
    return 1;
  }

  // The single operand of a directive; nullptr, and an error, if there is another number of them or of another kind.
  const Token* only_operand(const Statement& statement, std::string_view what, TokenKind kind = TokenKind::kWord) {
    if (statement.operands.empty()) {
      error_at_end(statement, fmt::format("{} needs {}", upper(statement.name.text), what));
      return nullptr;
    }
    const Token& operand = statement.operands[0];
    if (operand.kind != kind) {
      error(statement, operand,
            fmt::format("{} needs {}, found '{}'", upper(statement.name.text), what, printable(operand.text)));
      return nullptr;
    }
    if (statement.operands.size() > 1) {
      error(statement, statement.operands[1],
            fmt::format("{} takes one operand, found {}", upper(statement.name.text), statement.operands.size()));
      return nullptr;
    }
    return &operand;
  }

  template <class Sink>
  void unescape(const Statement& statement, const Token& token, Sink&& sink) {
    const std::string_view text = token.text;
    bool bad_escape = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      char c = text[i];
      if (c == '\\') {
        const auto column = static_cast<std::uint32_t>(token.column + 1 + i);
        ++i;  // the tokenizer saw to it that a character follows
        switch (text[i]) {
          case 'n': c = '\n'; break;
          case 't': c = '\t'; break;
          case 'r': c = '\r'; break;
          case '0': c = '\0'; break;
          case 'e': c = '\x1B'; break;
          case '"': c = '"'; break;
          case '\\': c = '\\'; break;
          default:
            if (bad_escape) break;  // the first one of a string stands for all
            bad_escape = true;
            error(statement.line, statement.source_line, column,
                  fmt::format("unknown escape '\\{}': there are \\n \\t \\r \\0 \\\" \\\\ \\e",
                              printable(text.substr(i, 1))));
            break;
        }
      }
      sink(static_cast<std::uint16_t>(static_cast<unsigned char>(c)));
    }
  }

  std::optional<std::int64_t> number(const Statement& statement, const Token& token, std::string_view what,
                                     std::int64_t least, std::int64_t most) {
    const auto value = token.kind == TokenKind::kWord ? parse_number(token.text) : std::nullopt;
    if (!value) {
      error(statement, token, fmt::format("expected {}, found '{}'", what, printable(token.text)));
      return std::nullopt;
    }
    if (*value < least || *value > most) {
      error(statement, token,
            fmt::format("{} is out of range: {} reaches from {} to {}", printable(token.text), what, least, most));
      return std::nullopt;
    }
    return value;
  }

  void check_overlaps() {
    std::vector<const OpenSegment*> sorted;
    sorted.reserve(segments_.size());
    for (const OpenSegment& segment : segments_) sorted.push_back(&segment);
    // Equal origins stay in the order of the source.
    std::sort(sorted.begin(), sorted.end(), [](const OpenSegment* a, const OpenSegment* b) {
      return std::pair(a->origin, a) < std::pair(b->origin, b);
    });
    const OpenSegment* reach = nullptr;  // the segment that reaches furthest so far
    for (const OpenSegment* segment : sorted) {
      if (reach != nullptr && reach->end > segment->origin) {
        const OpenSegment* later = reach->line > segment->line ? reach : segment;
        const OpenSegment* earlier = later == reach ? segment : reach;
        error(later->line, later->source_line, later->column,
              fmt::format("segment x{:04X}-x{:04X} overlaps the segment x{:04X}-x{:04X} of line {}", later->origin,
                          later->end - 1, earlier->origin, earlier->end - 1, earlier->line));
      }
      if (reach == nullptr || segment->end > reach->end) reach = segment;
    }
  }

  // --- Pass 2: statements to words ---------------------------------------------------------------------------------

  void encode(bool emit) {
    // Statements follow each other in the order of the segments, so one index is enough.
    std::size_t current = 0;
    if (emit) {
      for (const OpenSegment& segment : segments_) {
        program_.segments.push_back({static_cast<std::uint16_t>(segment.origin), {}, 0});
        program_.segments.back().words.reserve(segment.end - segment.origin);
      }
    }
    std::vector<std::uint16_t> words;
    for (const Statement& statement : statements_) {
      words.clear();
      encode_statement(statement, words, emit);
      if (!emit) continue;
      while (program_.segments[current].words.size() == segments_[current].end - segments_[current].origin) ++current;
      auto& target = program_.segments[current].words;
      words.resize(statement.word_count);  // after an error there may be too few
      target.insert(target.end(), words.begin(), words.end());
      program_.lines.push_back({static_cast<std::uint16_t>(statement.address), statement.word_count, statement.line, 0,
                                std::string(statement.source_line)});
    }
  }

  void encode_statement(const Statement& statement, std::vector<std::uint16_t>& words, bool emit) {
    switch (statement.directive) {
      case Directive::kBlkw:
        if (emit) words.assign(statement.word_count, 0);
        break;
      case Directive::kStringz:
        if (emit) unescape(statement, statement.operands[0], [&](std::uint16_t word) { words.push_back(word); });
        if (emit) words.push_back(0);
        break;
      case Directive::kFill: words.push_back(fill_value(statement)); break;
      default:
        if (statement.mnemonic) words.push_back(instruction(statement, *statement.mnemonic));
        break;
    }
  }

  std::uint16_t fill_value(const Statement& statement) {
    const Token* operand = only_operand(statement, "a number or a label");
    if (operand == nullptr) return 0;
    if (!parse_number(operand->text) && operand->text.front() != '#') {
      const Label* label = find(statement, *operand);
      return label == nullptr ? std::uint16_t{0} : static_cast<std::uint16_t>(label->address);
    }
    return static_cast<std::uint16_t>(number(statement, *operand, "a 16-bit number", -0x8000, 0xFFFF).value_or(0));
  }

  const Label* find(const Statement& statement, const Token& token) {
    const auto found = token.kind == TokenKind::kWord ? labels_.find(upper(token.text)) : labels_.end();
    if (found != labels_.end()) return &found->second;
    if (token.kind != TokenKind::kWord || !why_not_a_label(token.text).empty()) {
      error(statement, token, fmt::format("expected a number or a label, found '{}'", printable(token.text)));
    } else {
      error(statement, token, fmt::format("label '{}' is not defined in this file", token.text));
    }
    return nullptr;
  }

  std::uint16_t instruction(const Statement& statement, Mnemonic mnemonic) {
    std::array<OperandKind, 3> kinds{};
    std::size_t count = 0;
    if (mnemonic.takes_operands) {
      const bool immediate = statement.operands.size() == 3 && !parse_register(statement.operands[2].text);
      if (immediate &&
          (mnemonic.operation == Operation::kAddRegister || mnemonic.operation == Operation::kAndRegister)) {
        mnemonic.operation =
            mnemonic.operation == Operation::kAddRegister ? Operation::kAddImmediate : Operation::kAndImmediate;
        mnemonic.word = info(mnemonic.operation).fixed_match;
      }
      for (const OperandKind kind : info(mnemonic.operation).operands) {
        if (kind != OperandKind::kNone && kind != OperandKind::kNzp) kinds[count++] = kind;
      }
    }
    if (statement.operands.size() != count) {
      const std::string message = fmt::format("{} takes {} operand{}, found {}", upper(statement.name.text), count,
                                              count == 1 ? "" : "s", statement.operands.size());
      if (statement.operands.size() > count) {
        error(statement, statement.operands[count], message);
      } else {
        error_at_end(statement, message);
      }
      return 0;
    }
    std::uint16_t word = mnemonic.word;
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto value = operand_value_of(statement, statement.operands[i], kinds[i])) {
        word = with_operand(word, kinds[i], *value);
      }
    }
    return word;
  }

  std::optional<int> operand_value_of(const Statement& statement, const Token& token, OperandKind kind) {
    const OperandField field = operand_field(kind);
    const int least = field.is_signed ? -(1 << (field.width - 1)) : 0;
    const int most = field.is_signed ? (1 << (field.width - 1)) - 1 : (1 << field.width) - 1;
    std::optional<std::int64_t> value;
    switch (kind) {
      case OperandKind::kDr:
      case OperandKind::kSr:
      case OperandKind::kSr1:
      case OperandKind::kBase:
      case OperandKind::kSr2:
        if (token.kind == TokenKind::kWord) {
          if (const auto reg = parse_register(token.text)) return static_cast<int>(*reg);
        }
        error(statement, token, fmt::format("expected a register R0-R7, found '{}'", printable(token.text)));
        return std::nullopt;
      case OperandKind::kImm5:
        // One message for both forms: the third operand was neither.
        if (token.kind != TokenKind::kWord || !parse_number(token.text)) {
          error(statement, token,
                fmt::format("expected a register R0-R7 or a number, found '{}'", printable(token.text)));
          return std::nullopt;
        }
        value = number(statement, token, "a 5-bit immediate", least, most);
        break;
      case OperandKind::kOffset6: value = number(statement, token, "a 6-bit offset", least, most); break;
      case OperandKind::kTrapVect8: value = number(statement, token, "a trap vector", least, most); break;
      case OperandKind::kPcOffset9:
      case OperandKind::kPcOffset11: {
        const std::string_view what = kind == OperandKind::kPcOffset9 ? "a 9-bit PC offset" : "an 11-bit PC offset";
        if (token.kind == TokenKind::kWord && (parse_number(token.text) || token.text.front() == '#')) {
          value = number(statement, token, what, least, most);
          break;
        }
        const Label* label = find(statement, token);
        if (label == nullptr) return std::nullopt;
        const int distance = static_cast<int>(label->address) - static_cast<int>(statement.address) - 1;
        // Offsets wrap as addresses do: x0001 is 2 words after xFFFF.
        const int wrapped = static_cast<std::int16_t>(static_cast<std::uint16_t>(distance));
        if (wrapped < least || wrapped > most) {
          error(statement, token,
                fmt::format("'{}' at x{:04X} is {} words away: {} reaches from {} to {}", token.text, label->address,
                            wrapped, what, least, most));
          return std::nullopt;
        }
        value = wrapped;
        break;
      }
      default: break;
    }
    if (!value) return std::nullopt;
    return static_cast<int>(*value);
  }

  std::string_view source_;
  std::string filename_;
  std::vector<Diagnostic> diagnostics_;
  std::size_t dropped_ = 0;
  std::vector<Statement> statements_;
  std::vector<OpenSegment> segments_;
  std::optional<OpenSegment> open_;
  bool outside_reported_ = false;
  bool past_end_reported_ = false;
  std::unordered_map<std::string, Label> labels_;
  Program program_;
};

}  // namespace

std::string format_diagnostic(const Diagnostic& diagnostic) {
  // Long lines are shown around the column.
  constexpr std::size_t kShown = 160;
  const std::size_t at = diagnostic.column - 1;
  const std::size_t start = at > kShown / 2 && diagnostic.source_line.size() > kShown ? at - kShown / 2 : 0;
  std::string shown = diagnostic.source_line.substr(std::min(start, diagnostic.source_line.size()), kShown);
  std::string caret;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const auto byte = static_cast<unsigned char>(shown[i]);
    const bool continuation = (byte & 0xC0) == 0x80;  // of UTF-8: no column of its own
    if (start + i < at && !continuation) caret.push_back(shown[i] == '\t' ? '\t' : ' ');
  }
  shown = without_controls(shown);
  if (at > start + shown.size()) caret.append(at - start - shown.size(), ' ');  // just after the line's end
  while (!shown.empty() && shown.back() == ' ') shown.pop_back();
  return fmt::format("{}:{}:{}: {}\n{}\n{}^", diagnostic.file, diagnostic.line, diagnostic.column, diagnostic.message,
                     shown, caret);
}

Assembly assemble_with_diagnostics(std::string_view source, const std::string& filename) {
  return Assembler(source, filename).run();
}

Result<Program> assemble(std::string_view source, const std::string& filename) {
  Assembly assembly = assemble_with_diagnostics(source, filename);
  if (assembly.diagnostics.empty()) return std::move(assembly.program);
  constexpr std::size_t kMost = 100;
  std::string text;
  for (std::size_t i = 0; i < std::min(kMost, assembly.diagnostics.size()); ++i) {
    text += format_diagnostic(assembly.diagnostics[i]);
    text += '\n';
  }
  const std::size_t count = assembly.diagnostics.size() + assembly.dropped_diagnostics;
  text += fmt::format("{}: {} error{}", filename, count, count == 1 ? "" : "s");
  if (count > kMost) text += fmt::format(", the first {} shown", kMost);
  return Failure(Error{ErrorKind::kInput, std::move(text)});
}

}  // namespace warmfork::lc3
