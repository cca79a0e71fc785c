// Commands and expressions of the debugger: whatever is typed is refused with a message, or gives a command whose
// expressions can be evaluated and whose text parses to the same value again.
#include "lc3/debugger/command.hpp"
#include "require.hpp"

#include <cstdint>
#include <string_view>

using namespace warmfork;
using namespace warmfork::lc3;

namespace {

class Machine : public ExpressionContext {
 public:
  Result<std::uint16_t> value_of(Name name) override {
    return static_cast<std::uint16_t>(static_cast<int>(name) * 777);
  }
  Result<std::uint16_t> memory_at(std::uint16_t address) override {
    return static_cast<std::uint16_t>(address * 31 + 7);
  }
};

std::optional<std::uint16_t> label(std::string_view name) {
  if (name == "LOOP" || name == "N") return 0x3005;
  return std::nullopt;
}

void check(const std::optional<Expression>& expression) {
  if (!expression) return;
  Machine machine;
  const auto value = expression->evaluate(machine);
  WARMFORK_REQUIRE(value);
  const auto again = Expression::parse(expression->text(), label);
  WARMFORK_REQUIRE(again && *again->evaluate(machine) == *value);
  if (expression->is_memory()) WARMFORK_REQUIRE(expression->memory_address(machine));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Program program = [] {
    Program made;
    made.files = {"folder/main.asm"};
    made.segments = {{.origin = 0x3000, .words = {1, 2, 3}}};
    made.lines = {{.address = 0x3000, .word_count = 1, .line = 3, .text = "LOOP"}};
    return made;
  }();
  // SAFETY: bytes viewed as characters.
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto command = parse_command(line, program, label);
  if (!command) {
    WARMFORK_REQUIRE(command.error().kind == ErrorKind::kUsage && !command.error().message.empty());
    for (const char c : command.error().message) WARMFORK_REQUIRE(c == '\n' || static_cast<unsigned char>(c) >= ' ');
    return 0;
  }
  if (!*command) return 0;
  check((*command)->target);
  check((*command)->value);
  check((*command)->condition);
  return 0;
}
