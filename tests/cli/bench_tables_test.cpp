// The tables of the README that `warmfork bench` fills, against a result file that is kept for this: what is measured
// is not looked at, and nothing is. Any result with these figures does; the one kept is that of the README's numbers,
// without distributions and rounds.
#include "process.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;

class BenchTables : public CliTest {
 protected:
  // Exit code and message of a check of the README after `edit`.
  Ended check(const std::function<void(std::string&)>& edit) {
    std::string text = read_text(WARMFORK_README);
    edit(text);
    return run_cli(
        {"bench", "--readme-tables", WARMFORK_README_RESULT, "--check", "--readme", file("edited.md", text)});
  }
  // What is not between a mark and its end.
  static std::string outside_tables(const std::string& text) {
    std::istringstream lines(text);
    std::string out, line;
    for (bool inside = false; std::getline(lines, line);) {
      if (line.starts_with("<!-- bench-table end")) inside = false;
      if (!inside) out += line + "\n";
      if (line.starts_with("<!-- bench-table: ") || line.starts_with("<!-- bench-matrix: ")) inside = true;
    }
    return out;
  }
  static void replace(std::string& text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
};

TEST_F(BenchTables, AreThoseThatTheCommandMakes) {
  const Ended same = check([](std::string&) {});
  EXPECT_EQ(same.code, 0) << same.err;
  const Ended numbers = check([](std::string& text) { replace(text, "\n| boot it | ", "\n| boot it | 9"); });
  EXPECT_EQ(numbers.code, 0) << "numbers are whatever was measured: " << numbers.err;
  const Ended label = check([](std::string& text) { replace(text, "\n| boot it | ", "\n| boot | "); });
  EXPECT_EQ(label.code, 3);
  EXPECT_THAT(label.err, HasSubstr("| boot … with 5 cells\", and should be \"| boot it"));
  EXPECT_EQ(check([](std::string& text) { replace(text, "\n| boot it | ", "\n| boot it | more | "); }).code, 3);
  EXPECT_EQ(check([](std::string& text) { replace(text, "| what | p50 | 95 % |", "| what | p50 | 95% |"); }).code, 3);
  EXPECT_EQ(check([](std::string& text) {
              replace(text, "|---|---|---|---|---|\n", "|---|---|---|---|---|\n| a | 1 |\n");
            }).code,
            3);
  const Ended gone =
      check([](std::string& text) { replace(text, "= lifecycle/vmcall/warm;", "= lifecycle/call/warm;"); });
  EXPECT_EQ(gone.code, 3);
  EXPECT_THAT(gone.err, HasSubstr("lacks lifecycle/call/warm"));
}

TEST_F(BenchTables, AreFilledBetweenTheMarksOnly) {
  std::string before = read_text(WARMFORK_README);
  replace(before, "\n| boot it | ", "\n| boot it | 9");
  const std::string copy = file("README.md", before);
  const Ended filled = run_cli({"bench", "--readme-tables", WARMFORK_README_RESULT, "--readme", copy});
  ASSERT_EQ(filled.code, 0) << filled.err;
  const std::string after = read_text(copy);
  EXPECT_EQ(outside_tables(after), outside_tables(before));
  EXPECT_EQ(after.find("\n| boot it | 9"), std::string::npos) << "it says what the result file says";
  EXPECT_EQ(std::ranges::count(after, '\n'), std::ranges::count(before, '\n')) << "the same rows";
  auto lacking = nlohmann::json::parse(read_text(WARMFORK_README_RESULT));
  lacking.at("results").clear();
  const Ended refused = run_cli({"bench", "--readme-tables", file("r.json", lacking.dump()), "--readme", copy});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("lifecycle/vmcall/warm"));
  EXPECT_EQ(read_text(copy), after) << "not touched";
  EXPECT_EQ(run_cli({"bench", "--check"}).code, 2);
}

}  // namespace
}  // namespace warmfork::test
