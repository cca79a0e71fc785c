// warmfork snapshot: save, info, call, and what goes wrong.
#include "process.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class SnapshotCliTest : public CliKvmTest {
 protected:
  std::string save(Arguments more = {}) {
    Arguments arguments{"snapshot", "save", WARMFORK_FORKS_GUEST, "-o", path("a.snap")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_THAT(ended.out, IsEmpty());
    return path("a.snap");
  }
  static void expect(const Arguments& arguments, int code, const std::string& message) {
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, code) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(message));
    EXPECT_THAT(ended.out, IsEmpty());
  }
};

TEST_F(SnapshotCliTest, AWarmProgramIsSavedAndCalled) {
  const std::string file = save({"--call", "count", "--call", "touch:1,0x2,-3", "--memory", "4M", "--", "16"});
  for (int i = 0; i < 2; ++i) {  // each run starts from the same state
    const Ended called = run_cli({"snapshot", "call", file, "count"});
    EXPECT_EQ(called.code, 0) << called.err;
    EXPECT_EQ(called.out, "count() = 1002 (0x3ea)\n");
    EXPECT_THAT(called.err, HasSubstr("loaded in"));
  }
  const json result = json::parse(run_cli({"snapshot", "call", file, "touch", "1", "7", "0x10", "--json"}).out);
  EXPECT_EQ(result.at("result"), 7);
  EXPECT_EQ(result.at("arguments"), json({1, 7, 16}));
  EXPECT_GT(result.at("load_ns"), 0);
  const json info = json::parse(run_cli({"snapshot", "info", file, "--json"}).out);
  EXPECT_EQ(info.at("format_version"), 3);
  EXPECT_EQ(info.at("program"), WARMFORK_FORKS_GUEST);
  EXPECT_EQ(info.at("file_bytes"), fs::file_size(file));
  EXPECT_TRUE(info.at("base").is_null());
  EXPECT_TRUE(info.at("vmcalls").contains("sum_block"));
  EXPECT_THAT(run_cli({"snapshot", "info", file}).out, HasSubstr(info.at("id").get<std::string>()));
}

TEST_F(SnapshotCliTest, WhatACallLeavesBehindBecomesALayer) {
  const std::string file = save();
  const std::string layer = path("b.snap");
  EXPECT_EQ(run_cli({"snapshot", "call", file, "count", "--save", layer}).code, 0);
  EXPECT_LT(fs::file_size(layer), fs::file_size(file));
  EXPECT_EQ(run_cli({"snapshot", "call", layer, "count", "--base", file}).out, "count() = 1002 (0x3ea)\n");
  const json info = json::parse(run_cli({"snapshot", "info", layer, "--json"}).out);
  EXPECT_EQ(info.at("base"), json::parse(run_cli({"snapshot", "info", file, "--json"}).out).at("id"));
  expect({"snapshot", "call", layer, "count"}, 3, "which has to be given");
  expect({"snapshot", "call", layer, "count", "--base", layer}, 3, "given is");
}

TEST_F(SnapshotCliTest, WhatGoesWrongIsOneMessageAndItsCode) {
  const std::string file = save();
  expect({"snapshot"}, 2, "subcommand");
  expect({"snapshot", "save", WARMFORK_FORKS_GUEST}, 2, "--output");
  expect({"snapshot", "call", file, "count", "x1"}, 2, "no 64-bit number");
  expect({"snapshot", "call", file, "count", "1", "2", "3", "4", "5", "6", "7"}, 2, "at most 6");
  expect({"snapshot", "call", file, "nothing_like_it"}, 3, "no vmcall or function");
  expect({"snapshot", "call", path("missing"), "count"}, 3, "No such file");
  expect({"snapshot", "info", this->file("text", "hello")}, 3, "not a snapshot file");
  expect({"snapshot", "info", this->file("half", read_text(file).substr(0, 20000))}, 3, "cut off");
  expect({"snapshot", "call", file, "peek", "8"}, 5, "page fault");
  expect({"snapshot", "call", file, "spin", "--timeout", "50ms"}, 7, "");
  expect({"snapshot", "save", path("missing"), "-o", file}, 3, "No such file");
  expect({"snapshot", "save", WARMFORK_FORKS_GUEST, "-o", "/dev/full"}, 2, "not a regular file");
  expect({"snapshot", "save", WARMFORK_FORKS_GUEST, "-o", path("no/where")}, 4, "No such file");
  expect({"snapshot", "save", WARMFORK_FORKS_GUEST, "-o", path("c.snap"), "--call", "leave:3"}, 5,
         "exited with code 3");
  EXPECT_FALSE(fs::exists(path("c.snap")));
  expect({"snapshot", "call", file, "count", "--kvm", path("none")}, 4, "no KVM");
  EXPECT_EQ(run_cli({"--kvm", path("none"), "snapshot", "info", file}).code, 0) << "needs no KVM";
}

}  // namespace
}  // namespace warmfork::test
