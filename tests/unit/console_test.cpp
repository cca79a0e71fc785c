#include "console.hpp"

#include <gtest/gtest.h>

#include <string>

namespace warmfork::cli {
namespace {

TEST(Duration, HasUnitsAndIsSecondsWithout) {
  struct Case {
    const char* text;
    std::uint64_t ns;
  };
  for (const Case& c : {Case{"250ms", 250'000'000}, Case{"2s", 2'000'000'000}, Case{"1.5m", 90'000'000'000},
                        Case{"800us", 800'000}, Case{"7ns", 7}, Case{"3", 3'000'000'000}, Case{"0.5", 500'000'000},
                        Case{"1e3us", 1'000'000}, Case{"0.1ms", 100'000}, Case{"9e18ns", 9'000'000'000'000'000'000}}) {
    const auto parsed = parse_duration(c.text);
    ASSERT_TRUE(parsed) << c.text;
    EXPECT_EQ(*parsed, c.ns) << c.text;
  }
}

TEST(Duration, NoTimeAtAllIsRefused) {
  for (const char* text : {"0", "0ms", "0.1ns", "-0"}) EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Duration, RefusesEverythingElseAndSaysWhat) {
  for (const std::string text :
       {"",     "s",   "ms",   "1h",     "1 s",   " 1s",      "1s ",   "-1s",  "+1s",   "1S", "1mss", "nan",
        "nans", "inf", "infs", "1e400s", "1e30s", "9.1e18ns", "0x10s", "1,5s", "1..5s", "--", "1M"}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage);
    EXPECT_EQ(parsed.error().message, "\"" + text + "\" is not a duration (examples: 250ms, 2s, 1.5m)");
  }
}

TEST(Size, HasBinaryUnitsAndIsBytesWithout) {
  struct Case {
    const char* text;
    std::uint64_t bytes;
  };
  for (const Case& c : {Case{"4096", 4096}, Case{"128K", 131072}, Case{"64M", 67108864}, Case{"1G", 1073741824},
                        Case{"0.5G", 536870912}, Case{"1.5K", 1536}}) {
    const auto parsed = parse_size(c.text);
    ASSERT_TRUE(parsed) << c.text;
    EXPECT_EQ(*parsed, c.bytes) << c.text;
  }
}

TEST(Size, RefusesEverythingElseAndSaysWhat) {
  for (const std::string text :
       {"", "M", "64MB", "64m", "64k", "-1", "1T", "lots", "nan", "inf", "9e9G", "1 M", "0x1000"}) {
    const auto parsed = parse_size(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage);
    EXPECT_EQ(parsed.error().message, "\"" + text + "\" is not a size (examples: 4096, 128K, 64M, 1G)");
  }
}

}  // namespace
}  // namespace warmfork::cli
