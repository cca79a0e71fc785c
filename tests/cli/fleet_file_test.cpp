// Test sets and fleets as files, outputs compared and shown, results as XML: all that needs no KVM.
#include "lc3/fleet/config.hpp"
#include "lc3/fleet/grade.hpp"
#include "lc3/fleet/judge.hpp"
#include "lc3/fleet/junit.hpp"
#include "process.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

namespace warmfork::test {
namespace {

using lc3::Compare;
using lc3::parse_fleet;
using lc3::parse_tests;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string error_of_tests(const std::string& text) {
  const auto set = parse_tests(text, "t.toml");
  return set ? "accepted" : set.error().message;
}
std::string error_of_fleet(const std::string& text) {
  const auto fleet = parse_fleet(text, "f.toml");
  return fleet ? "accepted" : fleet.error().message;
}

constexpr const char* kTest = "[[test]]\nname = \"a\"\noutput = \"1\"\n";
constexpr const char* kMachine = "[[machine]]\nname = \"a\"\nprogram = \"a.asm\"\n";

TEST(TestSetFile, DefaultsComeFromTheTopAndATestHasItsOwn) {
  const auto set = parse_tests(
      "budget = \"2k\"\ndeadline = \"250ms\"\noutput_limit = \"1K\"\ncompare = \"trailing\"\nseeds = [5, 0]\n"
      "edition = 2\nprivilege = \"strict\"\ntraps = \"os\"\n"
      "[[test]]\nname = \"a\"\ninput = \"x\"\noutput_file = \"a.out\"\n"
      "[[test]]\nname = \"b\"\noutput = \"\"\nbudget = 7\ncompare = \"exact\"\nend = \"input\"\n",
      "t.toml");
  ASSERT_TRUE(set) << set.error().message;
  ASSERT_EQ(set->tests.size(), 2U);
  EXPECT_EQ(set->tests[0].limits.instructions, 2000U);
  EXPECT_EQ(set->tests[0].limits.wall_ns, 250'000'000U);
  EXPECT_EQ(set->tests[0].limits.output_bytes, 1024U);
  EXPECT_EQ(set->tests[0].compare, Compare::kTrailing);
  EXPECT_EQ(set->tests[0].output.path, "a.out");
  EXPECT_EQ(set->tests[1].limits.instructions, 7U);
  EXPECT_EQ(set->tests[1].compare, Compare::kExact);
  EXPECT_EQ(set->tests[1].end, lc3::ExpectedEnd::kInput);
  EXPECT_EQ(set->machine.edition, 2);
  EXPECT_TRUE(set->machine.strict_privilege);
  EXPECT_EQ(set->machine.traps, lc3::TrapMode::kOs);
  EXPECT_EQ(set->seeds.size(), 2U);
}

TEST(TestSetFile, ErrorsNameFileLineKeyValueAndLimit) {
  EXPECT_EQ(error_of_tests(""), "t.toml: no tests: there is no [[test]]");
  EXPECT_THAT(error_of_tests("budget = -3\n"), StartsWith("t.toml:1: budget = -3: has to be 1 … "));
  EXPECT_THAT(error_of_tests("deadline = 5\n"), StartsWith("t.toml:1: deadline = 5: has to be "));
  EXPECT_THAT(error_of_tests("budget = \"2X\"\n"), HasSubstr("budget = \"2X\""));
  EXPECT_THAT(error_of_tests("budget = \"99999999999G\"\n"), HasSubstr("t.toml:1: budget"));
  EXPECT_THAT(error_of_tests("seeds = []\n"), HasSubstr("t.toml:1: seeds = an array: has to be an array of 1 … 16"));
  EXPECT_THAT(error_of_tests("compare = \"loose\"\n"), HasSubstr("has to be one of \"exact\", \"trailing\""));
  EXPECT_THAT(error_of_tests("\nbugdet = 1\n" + std::string(kTest)), StartsWith("t.toml:2: bugdet = 1: no such key"));
  EXPECT_THAT(error_of_tests("[[test]]\nname = \"a\"\n"), StartsWith("t.toml:1: test: output is missing"));
  EXPECT_THAT(error_of_tests("[[test]]\noutput = \"a\"\n"), StartsWith("t.toml:1: test: name is missing"));
  EXPECT_THAT(error_of_tests(std::string(kTest) + "input = \"\"\ninput_file = \"x\"\n"), HasSubstr("one of them"));
  EXPECT_EQ(error_of_tests(std::string(kTest) + kTest), "t.toml:4: test: name = \"a\": line 1 has it already");
  EXPECT_THAT(error_of_tests("[[test]]\nname = \"a\\u001b\"\n"), HasSubstr("control characters"));
  EXPECT_THAT(error_of_tests("[test]\n"), HasSubstr("is written [[test]]"));
  EXPECT_THAT(error_of_tests("x = [\n"), StartsWith("t.toml:"));
  EXPECT_THAT(error_of_tests("[[["), StartsWith("t.toml: not TOML"));
  EXPECT_EQ(error_of_tests("# \u02a4\n[[test]]\nname = \"\u02a4 \u00e4\"\noutput = \"\"\n"), "accepted");
  EXPECT_THAT(error_of_tests(std::string(2 << 20, '#')), HasSubstr("larger than the limit of 1048576"));
}

TEST(FleetFile, ErrorsNameFileLineKeyValueAndLimit) {
  EXPECT_EQ(error_of_fleet(kMachine), "accepted");
  EXPECT_EQ(error_of_fleet(""), "f.toml: no machines: there is no [[machine]]");
  EXPECT_EQ(error_of_fleet("[[machine]]\nname = \"a\"\n"),
            "f.toml:1: machine: program is missing: an .asm or .obj file, or an array of them");
  EXPECT_THAT(error_of_fleet(std::string(kMachine) + "count = 5000\n"),
              StartsWith("f.toml:4: machine: count = 5000: has to be 1 … 4096"));
  EXPECT_THAT(error_of_fleet(std::string(kMachine) + "engine = \"fast\"\n"), HasSubstr("\"interp\", \"xbyak\""));
  EXPECT_THAT(error_of_fleet(std::string(kMachine) + "fork = \"process\"\n"), HasSubstr("\"vm\", \"space\""));
  EXPECT_THAT(error_of_fleet(std::string(kMachine) + "output_limit = \"64M\"\ncount = 17\n"),
              HasSubstr("more than 1073741824 bytes in all"));
  EXPECT_EQ(error_of_fleet(std::string(kMachine) + kMachine), "f.toml:4: machine: name = \"a\": line 1 has it already");
  // A replica's name may be another machine's.
  EXPECT_THAT(error_of_fleet(std::string(kMachine) + "count = 3\n[[machine]]\nname = \"a.2\"\nprogram = \"b.asm\"\n"),
              StartsWith("f.toml:5: machine: name = \"a.2\": line 1 has it"));
}

TEST(FleetFile, LinksAreChecked) {
  const std::string two = std::string(kMachine) + "[[machine]]\nname = \"b\"\nprogram = \"b.asm\"\n";
  const auto link = [](const char* from, const char* to, const char* more = "") {
    return fmt::format("[[link]]\nfrom = \"{}\"\nto = \"{}\"\n{}", from, to, more);
  };
  // There and back, and a second link the same way from other ports.
  const auto fleet = parse_fleet(
      two + link("a:0", "b:0") + link("b:0", "a:0", "capacity = \"64K\"\nwake = \"doorbell\"\n") + link("a:7", "b:7"),
      "f.toml");
  ASSERT_TRUE(fleet) << fleet.error().message;
  ASSERT_EQ(fleet->links.size(), 3U);
  EXPECT_EQ(fleet->links[0].capacity, 65536U);
  EXPECT_EQ(fleet->links[0].wake, lc3::Wake::kPoll);
  EXPECT_EQ(fleet->links[1].wake, lc3::Wake::kDoorbell);
  EXPECT_EQ(fleet->links[1].from.index, 1U);
  EXPECT_EQ(fleet->links[2].to.port, 7U);
  const auto replicas = parse_fleet("[[machine]]\nname = \"x\"\nprogram = \"x.asm\"\n" + std::string(kMachine) +
                                        "count = 3\n" + link("a.2:1", "a.3:0"),
                                    "f.toml");
  ASSERT_TRUE(replicas) << replicas.error().message;
  EXPECT_EQ(replicas->links[0].from.index, 2U);
  EXPECT_EQ(replicas->links[0].from.spec, 1U);

  EXPECT_EQ(error_of_fleet(two + link("a:0", "c:0")), "f.toml:9: link: to = \"c:0\": no such machine");
  EXPECT_EQ(error_of_fleet(two + link("a:0", "a:1")),
            "f.toml:9: link: to = \"a:1\": a link leads to another machine than it comes from");
  EXPECT_EQ(error_of_fleet(two + link("a:0", "b:0") + link("a:0", "b:1")),
            "f.toml:10: link: from = \"a:0\": that port sends to the link of line 7");
  EXPECT_EQ(error_of_fleet(two + link("a:0", "b:0") + link("a:1", "b:0")),
            "f.toml:10: link: to = \"b:0\": that port receives from the link of line 7");
  EXPECT_EQ(error_of_fleet(two + link("a:8", "b:0")), "f.toml:8: link: from = \"a:8\": a machine has the ports 0 … 7");
  EXPECT_THAT(error_of_fleet(two + link("a:", "b:0")), HasSubstr("the ports 0 … 7"));
  EXPECT_THAT(error_of_fleet(two + link("a:1x", "b:0")), HasSubstr("the ports 0 … 7"));
  EXPECT_THAT(error_of_fleet(two + link("a", "b:0")), HasSubstr("from = \"a\": the port is missing"));
  EXPECT_THAT(error_of_fleet(std::string(kMachine) + "count = 2\n" + link("a:0", "a.1:0")),
              HasSubstr("2 machines have that name, a link needs one: \"a.1:0\""));
  EXPECT_THAT(error_of_fleet(two + "[[link]]\nfrom = \"a:0\"\n"), HasSubstr("f.toml:7: link: to is missing"));
  EXPECT_THAT(error_of_fleet(two + link("a:0", "b:0", "capacity = 12288\n")),
              HasSubstr("f.toml:10: link: capacity = 12288: has to be a power of two"));
  EXPECT_THAT(error_of_fleet(two + link("a:0", "b:0", "capacity = 2048\n")), HasSubstr("has to be 4096 … 16777216"));
  EXPECT_THAT(error_of_fleet(two + link("a:0", "b:0", "wake = \"loud\"\n")), HasSubstr("\"poll\", \"doorbell\""));
  EXPECT_THAT(error_of_fleet(two + link("a:0", "b:0") + link("b:0", "a:0", "capacity = \"8K\"\n")),
              HasSubstr("f.toml:10: link: capacity = 8192: machine \"b\" has a link of 65536 in line 7"));
}

TEST(Judge, ComparesExactlyOrWithoutWhatTrails) {
  using lc3::same_output;
  EXPECT_TRUE(same_output("a\n", "a\n", Compare::kExact));
  EXPECT_FALSE(same_output("a\n", "a", Compare::kExact));
  EXPECT_TRUE(same_output("a\n", "a", Compare::kTrailing));
  EXPECT_TRUE(same_output("a\nb", "a \t\r\nb\n\n \n", Compare::kTrailing));
  EXPECT_TRUE(same_output("", "\n\n", Compare::kTrailing));
  EXPECT_FALSE(same_output("a\nb", "a\n\nb", Compare::kTrailing));
  EXPECT_FALSE(same_output(" a", "a", Compare::kTrailing));
  EXPECT_FALSE(same_output("", "x", Compare::kTrailing));
}

TEST(Judge, ADiffShowsTheFirstLineThatDiffersAndIsShort) {
  using lc3::short_diff;
  EXPECT_EQ(short_diff("a\n", "a\n", Compare::kExact), "");
  EXPECT_EQ(short_diff("a\nb\n", "a\nc\n", Compare::kExact), "line 2, - expected, + actual\n- b\n+ c");
  EXPECT_EQ(short_diff("a\n", "a", Compare::kExact), "line 1, - expected, + actual\n- a\n+ a (no newline)");
  EXPECT_EQ(short_diff("a\nb\n", "a\n", Compare::kTrailing),
            "line 2, - expected, + actual\n- b\n+ (end of the output)");
  const std::string hostile = short_diff("x", std::string("\x1b[2J\0\xff]]>", 9), Compare::kExact);
  EXPECT_THAT(hostile, HasSubstr("\\x1b[2J\\x00\\xff]]>"));
  EXPECT_LT(short_diff(std::string(100'000, '\x01'), std::string(100'000, '\n'), Compare::kExact).size(), 2048U);
}

TEST(Junit, WhateverIsSaidStaysText) {
  lc3::TestSet set;
  set.name = "<set> & \"more\"";
  set.tests.resize(5);
  for (auto& test : set.tests) test.name = "t'<";
  lc3::GradeReport report;
  report.submissions.resize(1);
  auto& one = report.submissions[0];
  one.submission.name = "a\x1b\xff]]><.asm";
  one.cells.resize(5);
  using lc3::Verdict;
  const Verdict verdicts[] = {Verdict::kPassed, Verdict::kWrongOutput, Verdict::kNotAssembled, Verdict::kInterrupted,
                              Verdict::kTimeout};
  for (std::size_t i = 0; i < 5; ++i) one.cells[i].verdict = verdicts[i];
  one.cells[1].detail = "line 1\n</failure> ]]> \xed\xa0\x80 \xef\xbf\xbe \x02";
  one.error = "a.asm:1:1: &";
  const std::string xml = lc3::junit_xml(report, set);
  EXPECT_THAT(xml, HasSubstr("<testsuites name=\"&lt;set&gt; &amp; &quot;more&quot;\" tests=\"5\" failures=\"2\" "
                             "errors=\"1\" skipped=\"1\""));
  EXPECT_THAT(xml, HasSubstr("<testsuite name=\"a\\x1b\\xff]]&gt;&lt;.asm\""));
  EXPECT_THAT(xml, HasSubstr("<failure type=\"wrong_output\" message=\"wrong output\">line 1\n&lt;/failure&gt; ]]&gt; "
                             "\\xed\\xa0\\x80 \\xef\\xbf\\xbe \\x02</failure>"));
  EXPECT_THAT(xml, HasSubstr("<error type=\"not_assembled\" message=\"does not assemble\">a.asm:1:1: &amp;</error>"));
  EXPECT_THAT(xml, HasSubstr("<skipped message=\"interrupted\"/>"));
  for (const char c : xml) EXPECT_TRUE(static_cast<unsigned char>(c) >= ' ' || c == '\n');
}

class GradeOffline : public CliTest {};

TEST_F(GradeOffline, TestSetsAndSubmissionsThatAreOffAreNamed) {
  const std::string work = file("work.asm", ".ORIG x3000\nHALT\n.END\n");
  const std::string tests = file("tests.toml", kTest);
  EXPECT_EQ(run_cli({"grade", work}).code, 2);
  EXPECT_EQ(run_cli({"grade", work, "--tests", path("none.toml")}).code, 3);
  EXPECT_THAT(run_cli({"grade", path("none.asm"), "--tests", tests}).err, HasSubstr("none.asm: No such file"));
  EXPECT_THAT(run_cli({"grade", tests, "--tests", tests}).err, HasSubstr("a submission is an .asm or .obj file"));
  EXPECT_EQ(run_cli({"grade", work, work, "--tests", tests}).code, 2);
  EXPECT_THAT(
      run_cli({"grade", work, "--tests", file("missing.toml", "[[test]]\nname = \"a\"\noutput_file = \"no\"\n")}).err,
      HasSubstr("missing.toml:3: "));
  ASSERT_EQ(::mkdir(path("pairs").c_str(), 0700), 0);
  EXPECT_THAT(run_cli({"grade", work, "--tests", path("pairs")}).err, HasSubstr("no tests"));
  EXPECT_THAT(run_cli({"grade", path("pairs"), "--tests", tests}).err, HasSubstr("no submissions"));
  file("pairs/a.in", "x");
  EXPECT_THAT(run_cli({"grade", work, "--tests", path("pairs")}).err, HasSubstr("a.in: there is no a.out beside it"));
  file("pairs/a.out", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(run_cli({"grade", work, "--tests", path("pairs")}).err, HasSubstr("larger than the limit of 1048576"));
  const Ended no_kvm = run_cli({"--kvm", "/nonexistent", "grade", work, "--tests", tests});
  EXPECT_EQ(no_kvm.code, 4);
  EXPECT_THAT(no_kvm.err, HasSubstr("/nonexistent"));
}

TEST_F(GradeOffline, AFleetThatIsOffIsNamed) {
  EXPECT_EQ(run_cli({"fleet", path("none.toml")}).code, 3);
  const Ended linked = run_cli(
      {"fleet", file("f.toml", std::string(kMachine) + "[[link]]\nfrom = \"a:0\"\nto = \"a:0\"\ncapacity = 1\n")});
  EXPECT_EQ(linked.code, 3);
  EXPECT_THAT(linked.err, HasSubstr("f.toml:7: link: capacity = 1: has to be"));
}

}  // namespace
}  // namespace warmfork::test
