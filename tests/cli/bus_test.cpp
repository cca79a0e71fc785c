// warmfork fleet with links: machines that send each other messages, and what becomes of them when one ends.
#include "process.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;

const std::string kBus = WARMFORK_LC3_PROGRAMS "/bus/";

struct How {
  const char* fork;
  const char* wake;
};

class Bus : public CliKvmTest, public ::testing::WithParamInterface<How> {
 protected:
  static std::string machine(const std::string& name, const std::string& program, const std::string& more = "") {
    return fmt::format("[[machine]]\nname = \"{}\"\nprogram = \"{}\"\nfork = \"{}\"\nengine = \"interp\"\n{}\n", name,
                       program.front() == '/' ? program : kBus + program, GetParam().fork, more);
  }
  static std::string link(const std::string& from, const std::string& to) {
    return fmt::format("[[link]]\nfrom = \"{}\"\nto = \"{}\"\ncapacity = \"4K\"\nwake = \"{}\"\n", from, to,
                       GetParam().wake);
  }
  std::string program(const std::string& name, const std::string& body) const {
    return file(name, ".ORIG x3000\n" + body +
                          "\nHALT\nSTATUS0 .FILL xFE20\nDATA0 .FILL xFE22\nNEXT0 .FILL xFE26\nWAIT0 .FILL xFE2E\n"
                          "PUT1 .FILL xFE3C\nFLUSH1 .FILL xFE3D\n.END\n");
  }
  nlohmann::json run_fleet(const std::string& text, int code) const {
    const Ended ended = run_cli({"fleet", file("f.toml", text), "--json"});
    EXPECT_EQ(ended.code, code) << ended.out << ended.err;
    auto json = nlohmann::json::parse(ended.out, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << ended.out << ended.err;
    return json;
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, Bus,
                         ::testing::Values(How{"vm", "poll"}, How{"vm", "doorbell"}, How{"space", "poll"},
                                           How{"space", "doorbell"}),
                         [](const auto& how) { return fmt::format("{}_{}", how.param.fork, how.param.wake); });

class BusExamples : public CliKvmTest {};

TEST_F(BusExamples, TheExamplesOfLinksDoWhatTheySay) {
  for (const char* name : {"pipeline", "fan", "ring"}) {
    const Ended ended = run_cli({"fleet", kBus + name + ".toml"});
    EXPECT_EQ(ended.code, 0) << name << ended.out << ended.err;
    EXPECT_THAT(ended.out, HasSubstr("sent     received"));
  }
}

TEST_P(Bus, FanOutFanInAndARing) {
  std::string text = machine("deal", "deal.asm") + machine("square", "square.asm", "count = 3") +
                     machine("sum", "sum.asm", "output = \"22140\\n\"");
  for (int i = 0; i < 3; ++i) {
    text += link(fmt::format("deal:{}", i + 1), fmt::format("square.{}:0", i + 1));
    text += link(fmt::format("square.{}:1", i + 1), fmt::format("sum:{}", i));
  }
  text += machine("first", "token_first.asm", "output = \"ok\\n\"") + machine("token", "token.asm", "count = 2") +
          link("first:1", "token.1:0") + link("token.1:1", "token.2:0") + link("token.2:1", "first:0");
  const auto json = run_fleet(text, 0);
  ASSERT_EQ(json["links"].size(), 9U);
  for (const auto& one : json["links"]) {
    EXPECT_EQ(one["sent"], one["received"]) << one;
    EXPECT_TRUE(one["violations"].empty()) << one;
  }
  EXPECT_EQ(json["links"][0]["sent"], 14);
  EXPECT_EQ(json["links"][8]["sent"], 100);
}

// What happens between host threads is the same for all; two of the four are enough.
class BusEnds : public Bus {};
INSTANTIATE_TEST_SUITE_P(Kinds, BusEnds, ::testing::Values(How{"vm", "poll"}, How{"space", "doorbell"}),
                         [](const auto& how) { return fmt::format("{}_{}", how.param.fork, how.param.wake); });

// What a machine that dies has sent is read, then comes the end of the stream; what is sent to it does not pile up.
TEST_P(BusEnds, AMachineThatDiesEndsItsStreamsAndNothingElse) {
  const std::string dies = program("dies.asm", R"(
        AND R1, R1, #0
        ADD R1, R1, #7
        STI R1, PUT1
        STI R1, FLUSH1
        .FILL xD000)");
  const std::string floods = program("floods.asm", R"(
        LD  R2, COUNT
LOOP    STI R2, PUT1
        STI R2, FLUSH1
        ADD R2, R2, #-1
        BRp LOOP
        HALT
COUNT   .FILL #2000)");
  const auto json =
      run_fleet(machine("floods", floods) + machine("dies", dies) + machine("sum", "sum.asm", "output = \"7\\n\"") +
                    machine("numbers", "numbers.asm") + machine("square", "square.asm") +
                    machine("other", "sum.asm", "output = \"22140\\n\"") + link("floods:1", "dies:0") +
                    link("dies:1", "sum:0") + link("numbers:1", "square:0") + link("square:1", "other:0"),
                1);
  ASSERT_EQ(json["machines"].size(), 6U);
  EXPECT_EQ(json["machines"][0]["verdict"], "passed") << "2000 messages are more than a ring holds";
  EXPECT_EQ(json["machines"][1]["verdict"], "fault");
  for (const std::size_t i : {2U, 3U, 4U, 5U})
    EXPECT_EQ(json["machines"][i]["verdict"], "passed") << json["machines"][i];
  EXPECT_EQ(json["links"][0]["sent"], 2000);
  EXPECT_EQ(json["links"][0]["received"], 0);
  EXPECT_EQ(json["links"][1]["received"], 1);
}

TEST_P(BusEnds, ADeadlockIsFoundAndTold) {
  // Each waits for the other's first word; one more waits for them; a pipeline beside them is none of their business.
  const std::string text = machine("a", "token.asm", "deadline = \"20s\"") +
                           machine("b", "token.asm", "deadline = \"20s\"") + machine("numbers", "numbers.asm") +
                           machine("sum", "sum.asm", "output = \"820\\n\"") +
                           machine("late", "sum.asm", "deadline = \"20s\"") + link("a:1", "b:0") + link("b:1", "a:0") +
                           link("numbers:1", "sum:0") + link("b:2", "late:0");
  const double begin = seconds_now();
  const auto json = run_fleet(text, 1);
  EXPECT_LT(seconds_now() - begin, 10);
  ASSERT_EQ(json["machines"].size(), 5U);
  EXPECT_EQ(json["machines"][0]["verdict"], "deadlock");
  EXPECT_EQ(json["machines"][0]["detail"],
            "deadlock: it waits for a message at port 0, from b:1, and whoever could change that waits as well");
  EXPECT_EQ(json["machines"][1]["verdict"], "deadlock");
  EXPECT_EQ(json["machines"][3]["verdict"], "passed");
  EXPECT_THAT(std::string(json["machines"][4]["verdict"]), ::testing::AnyOf("deadlock", "passed"))
      << "the end of the stream, or no hope: which is seen first is not said";
}

TEST_P(BusEnds, FullRingsThatWaitForEachOtherAreADeadlock) {
  const std::string floods = program("floods.asm", "LOOP STI R2, PUT1\nSTI R2, FLUSH1\nBR LOOP");
  const auto json = run_fleet(machine("a", floods, "deadline = \"20s\"") + machine("b", floods, "deadline = \"20s\"") +
                                  link("a:1", "b:0") + link("b:1", "a:0"),
                              1);
  EXPECT_THAT(std::string(json["machines"][0]["detail"]), HasSubstr("it waits for room at port 1, to b:0"));
  EXPECT_EQ(json["links"][0]["sent"], json["links"][1]["sent"]);
}

// It waits at port 0 for "c", which waits for it; what ends that is the interrupt of a message from "b" at port 1.
TEST_P(BusEnds, AnInterruptMovesAMachineThatWaits) {
  const std::string a = file("a.asm", R"(
        .ORIG x3000
        LEA R1, ISR
        STI R1, VECTOR
        LD  R1, ENABLE
        STI R1, STATUS1
        STI R1, WAIT0
        LDI R0, DATA0
        OUT
        HALT
ISR     STI R1, NEXT1
        LD  R1, STAR
        STI R1, PUT2
        STI R1, FLUSH2
        RTI
VECTOR  .FILL x0181
ENABLE  .FILL x4000
STAR    .FILL x2A
DATA0   .FILL xFE22
WAIT0   .FILL xFE2E
STATUS1 .FILL xFE30
NEXT1   .FILL xFE36
PUT2    .FILL xFE4C
FLUSH2  .FILL xFE4D
        .END
)");
  const std::string b = program("b.asm", R"(
        LD  R1, LONG
LOOP    ADD R2, R2, #1
        BRnp LOOP
        ADD R1, R1, #-1
        BRp LOOP
        STI R1, PUT1
        STI R1, FLUSH1
        HALT
LONG    .FILL #500)");
  const auto json = run_fleet(machine("a", a, "output = \"+\"\ndeadline = \"20s\"") + machine("b", b) +
                                  machine("c", "token.asm", "deadline = \"20s\"") + link("c:1", "a:0") +
                                  link("b:1", "a:1") + link("a:2", "c:0"),
                              0);
  EXPECT_EQ(json["machines"][0]["output"], "+") << json["machines"];
}

// One polls a port for ever and sends nothing; the others wait for it.
TEST_P(BusEnds, CtrlCStopsThoseThatWait) {
  const std::string spins = program("spins.asm", "LOOP LDI R1, STATUS0\nBR LOOP");
  Process process({"fleet",
                   file("f.toml", machine("spins", spins, "budget = \"900G\"") + machine("token", "token.asm") +
                                      machine("sum", "sum.asm") + link("spins:1", "token:0") +
                                      link("token:1", "sum:0") + link("token:2", "spins:0")),
                   "--json"});
  ::usleep(300'000);
  process.send(SIGINT);
  const Ended ended = process.wait(20);
  EXPECT_EQ(ended.code, 130) << ended.err;
  const auto json = nlohmann::json::parse(ended.out, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << ended.out;
  for (const auto& one : json["machines"]) EXPECT_EQ(one["verdict"], "interrupted") << one;
}

// More machines than CPUs, all in one line, and a deadline that ends one of them.
TEST_P(BusEnds, ManyMachinesAndADeadline) {
  std::string text = machine("numbers", "numbers.asm") + machine("token", "token.asm", "count = 9") +
                     machine("sum", "sum.asm", "output = \"1180\\n\"") + link("numbers:1", "token.1:0") +
                     link("token.9:1", "sum:0");  // 820 and 9 for each of 40
  for (int i = 1; i < 9; ++i) text += link(fmt::format("token.{}:1", i), fmt::format("token.{}:0", i + 1));
  const std::string spins = program("spins.asm", "LOOP BR LOOP");
  text += machine("spins", spins, "budget = \"900G\"\ndeadline = \"200ms\"") + machine("ends", "sum.asm") +
          link("spins:1", "ends:0");
  const auto json = run_fleet(text, 1);
  ASSERT_EQ(json["machines"].size(), 13U);
  for (std::size_t i = 0; i < 11; ++i) EXPECT_EQ(json["machines"][i]["verdict"], "passed") << json["machines"][i];
  EXPECT_EQ(json["machines"][11]["verdict"], "timeout");
  EXPECT_EQ(json["machines"][12]["output"], "0\n") << "its sender was stopped in the middle, and the stream ended";
  EXPECT_TRUE(json["links"][10]["sent"].is_null() || json["links"][10]["sent"] == 0);
}

}  // namespace
}  // namespace warmfork::test
