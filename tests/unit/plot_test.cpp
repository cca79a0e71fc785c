// Plots: the files are there and hold what was asked for; what cannot be drawn or written is said.
#include "bench/plot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

namespace warmfork::bench {
namespace {

using ::testing::HasSubstr;

// Not a matcher: a failure need not show the whole file.
bool holds(const std::string& file, const std::string& text) { return file.find(text) != std::string::npos; }

class PlotTest : public ::testing::Test {
 protected:
  PlotTest() {
    std::string pattern = ::testing::TempDir() + "/warmfork-plot-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    directory_ = pattern;
  }
  ~PlotTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ / name; }
  [[nodiscard]] std::string content(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] std::size_t files() const {
    const std::filesystem::directory_iterator all(directory_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }
  static Plot example() {
    return {.title = "A request, by pages it dirties",
            .x_label = "dirty pages",
            .y_label = "latency [µs]",
            .series = {{"forked VM", {{1, 30}, {2, 31}, {4, 33}}},
                       {"forked process", {{1, 70, 60, 90}, {2, 75, 65, {}}, {4, 80}}}}};
  }
  // False, and the test is skipped, where there is no gnuplot.
  static bool can_draw(const Status& drawn) { return drawn || drawn.error().kind != ErrorKind::kUnsupported; }

  std::filesystem::path directory_;
};

#define SKIP_WITHOUT_GNUPLOT(drawn) \
  if (!can_draw(drawn)) GTEST_SKIP() << (drawn).error().message

TEST_F(PlotTest, DrawsBothFiles) {
  const Status drawn = write_plot(example(), path("plot"));
  SKIP_WITHOUT_GNUPLOT(drawn);
  ASSERT_TRUE(drawn) << drawn.error().message;
  EXPECT_EQ(files(), 2U) << "and nothing else";
  const std::string png = content("plot.png");
  EXPECT_GT(png.size(), 5000U);
  EXPECT_TRUE(png.starts_with("\x89PNG\r\n"));
  const std::string svg = content("plot.svg");
  for (const char* text : {"<svg", "</svg>", "forked VM", "forked process", "A request, by pages it dirties",
                           "dirty pages", "latency [µs]"}) {
    EXPECT_TRUE(holds(svg, text)) << text;
  }
}

TEST_F(PlotTest, DrawsLogarithmicAxesManySeriesAndSinglePoints) {
  Plot plot = example();
  plot.log_x = plot.log_y = true;
  plot.series.clear();
  for (int i = 0; i < 20; ++i) plot.series.push_back({"series " + std::to_string(i), {{1.0 + i, 1000.0 * (i + 1)}}});
  plot.series.push_back({"empty", {}});
  const Status drawn = write_plot(plot, path("plot"));
  SKIP_WITHOUT_GNUPLOT(drawn);
  ASSERT_TRUE(drawn) << drawn.error().message;
  const std::string svg = content("plot.svg");
  EXPECT_TRUE(holds(svg, "series 19"));
  EXPECT_FALSE(holds(svg, "empty"));
}

TEST_F(PlotTest, DrawsAxesOfOneValue) {
  for (const double value : {0.0, 5.0, -5.0, 1e300}) {
    const Status drawn = write_plot({.series = {{"one", {{value, value}}}}}, path("plot"));
    SKIP_WITHOUT_GNUPLOT(drawn);
    EXPECT_TRUE(drawn) << value << ": " << drawn.error().message;
  }
}

TEST_F(PlotTest, NamesAreShownAsTheyAreWhateverIsInThem) {
  Plot plot = example();
  const std::string trap = path("trap");
  plot.title = "'1'2it's 3 $(touch " + trap + ") `touch " + trap + "`";
  plot.x_label = "a\nsystem('touch " + trap + "')\n";
  plot.y_label = "x_{1}^2 @y \\n %s %d";
  plot.series = {{"'; system('touch " + trap + "'); '", {{1, 2}, {2, 3}}},
                 {"END\n!touch " + trap, {{1, 3}, {2, 4}}},
                 {"<b>&\"\x01\xff\xc3", {{1, 4}, {2, 5}}},
                 {"", {{1, 5}, {2, 6}}},
                 {"`touch " + trap + "`", {{1, 6}, {2, 7}}},
                 {"'' \\101\\", {{1, 7}, {2, 8}}}};
  const Status drawn = write_plot(plot, path("it's |a \"plot\""));
  SKIP_WITHOUT_GNUPLOT(drawn);
  ASSERT_TRUE(drawn) << drawn.error().message;
  EXPECT_EQ(files(), 2U);
  EXPECT_FALSE(std::filesystem::exists(trap));
  const std::string svg = content("it's |a \"plot\".svg");
  EXPECT_TRUE(holds(svg, "x_{1}^2 @y \\n %s %d"));
  EXPECT_TRUE(holds(svg, "'1'2it's 3 $(touch"));
  EXPECT_TRUE(holds(svg, "'; system('touch"));
  EXPECT_TRUE(holds(svg, "'' \\101\\<"));
  EXPECT_TRUE(holds(svg, "&lt;b>&amp;"));
  EXPECT_FALSE(holds(svg, "<b>"));
  EXPECT_EQ(svg.find_first_of("\x01\xff"), std::string::npos);
}

TEST_F(PlotTest, RefusesWhatCannotBeDrawn) {
  const auto refused = [&](const Plot& plot) {
    const Status drawn = write_plot(plot, path("plot"));
    EXPECT_FALSE(drawn);
    return !drawn && drawn.error().kind == ErrorKind::kUsage;
  };
  EXPECT_TRUE(refused({.title = "nothing"}));
  EXPECT_TRUE(refused({.title = "nothing", .series = {{"empty", {}}}}));
  EXPECT_TRUE(refused({.series = {{"nan", {{1, std::nan("")}}}}}));
  EXPECT_TRUE(refused({.series = {{"infinite", {{std::numeric_limits<double>::infinity(), 1}}}}}));
  EXPECT_TRUE(refused({.log_x = true, .series = {{"zero", {{0, 1}}}}}));
  EXPECT_TRUE(refused({.log_y = true, .series = {{"low", {{1, 1, -1, 2}}}}}));
  EXPECT_EQ(files(), 0U);
}

TEST_F(PlotTest, PanelsShareAFigure) {
  Plot logarithmic = example();
  logarithmic.title = "second panel";
  logarithmic.log_y = true;
  logarithmic.series = {{"one", {{1, 1}, {2, 10}}}};
  Plot third = example();
  third.title = "third panel";
  const Status drawn = write_panels({example(), logarithmic, third}, path("panels"));
  SKIP_WITHOUT_GNUPLOT(drawn);
  ASSERT_TRUE(drawn) << drawn.error().message;
  EXPECT_TRUE(holds(content("panels.svg"), "second panel"));
  EXPECT_TRUE(holds(content("panels.svg"), "third panel"));
  EXPECT_EQ(files(), 2U);
  for (const std::size_t count : {0U, 5U}) {
    const Status refused = write_panels(std::vector<Plot>(count, example()), path("none"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, fmt::format("{} panels in a figure, 1 to 4 fit", count));
  }
}

TEST_F(PlotTest, AFileThatCannotBeWrittenIsNamed) {
  const Status drawn = write_plot(example(), path("missing/plot"));
  ASSERT_FALSE(drawn);
  EXPECT_EQ(drawn.error().kind, ErrorKind::kHost);
  EXPECT_THAT(drawn.error().message, HasSubstr("missing/plot.png"));
  EXPECT_THAT(drawn.error().message, HasSubstr("No such file or directory"));
}

// With another PATH: what is found there instead of gnuplot.
class PlotPathTest : public PlotTest {
 protected:
  PlotPathTest() {
    std::filesystem::create_directory(directory_ / "bin");
    if (const char* before = std::getenv("PATH")) before_ = before;
    ::setenv("PATH", path("bin").c_str(), 1);
  }
  ~PlotPathTest() override { ::setenv("PATH", before_.c_str(), 1); }
  void install(const std::string& text) {
    std::ofstream(path("bin/gnuplot")) << text;
    std::filesystem::permissions(path("bin/gnuplot"), std::filesystem::perms::owner_all);
  }

  std::string before_;
};

TEST_F(PlotPathTest, WithoutGnuplotItSaysWhatToInstall) {
  const Status drawn = write_plot(example(), path("plot"));
  ASSERT_FALSE(drawn);
  EXPECT_EQ(drawn.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(drawn.error().message, HasSubstr("gnuplot is not installed"));
  EXPECT_THAT(drawn.error().message, HasSubstr("gnuplot-nox"));
  EXPECT_EQ(files(), 1U) << "only bin";
}

TEST_F(PlotPathTest, WhatGnuplotComplainsOfIsPassedOnAndOldFilesStay) {
  std::ofstream(path("plot.png")) << "old";
  install("#!/bin/sh\necho half a picture\nprintf '\\n  ^\\nline 7: cannot draw this\\n\\n' >&2\nexit 3\n");
  const Status drawn = write_plot(example(), path("plot"));
  ASSERT_FALSE(drawn);
  EXPECT_EQ(drawn.error().kind, ErrorKind::kHost);
  EXPECT_EQ(drawn.error().message, "gnuplot exited with 3: line 7: cannot draw this");
  EXPECT_EQ(content("plot.png"), "old");
  EXPECT_EQ(files(), 2U);
}

// As it does on a full disk.
TEST_F(PlotPathTest, DrawingHalfIsAnErrorAndOldFilesStay) {
  std::ofstream(path("plot.png")) << "old";
  for (const char* half : {"printf '\\211PNG'", "printf 'IEND\\256\\102\\140\\202'"}) {  // the first file, the second
    install(std::string("#!/bin/sh\n") + half + "\n");
    const Status drawn = write_plot(example(), path("plot"));
    ASSERT_FALSE(drawn);
    EXPECT_EQ(drawn.error().kind, ErrorKind::kHost);
    EXPECT_THAT(drawn.error().message, HasSubstr("gnuplot has drawn half of it"));
    EXPECT_EQ(content("plot.png"), "old");
    EXPECT_EQ(files(), 2U);
  }
}

TEST_F(PlotPathTest, DrawingNothingIsAnError) {
  install("#!/bin/sh\nexit 0\n");
  const Status drawn = write_plot(example(), path("plot"));
  ASSERT_FALSE(drawn);
  EXPECT_THAT(drawn.error().message, HasSubstr("drawn nothing"));
  EXPECT_EQ(files(), 1U);
}

}  // namespace
}  // namespace warmfork::bench
