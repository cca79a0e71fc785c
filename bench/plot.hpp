// Draws figures: lines over two axes, as FILE.png and FILE.svg, by gnuplot. Owns nothing; gnuplot runs as a child
// process for as long as a call does.
//
// Names and labels are shown as they are, whatever is in them: they reach gnuplot as escaped literals without markup,
// and file names never reach it (it writes to descriptors that are opened here). The files appear whole or not at all.
// Threads: any; two calls must not write the same file at a time.
#pragma once

#include "base/result.hpp"

#include <optional>
#include <string>
#include <vector>

namespace warmfork::bench {

struct PlotPoint {
  double x = 0;
  double y = 0;
  // Together the ends of an error bar; one alone ends at y. Initialised, so that {x, y} is a point.
  std::optional<double> low = std::nullopt;
  std::optional<double> high = std::nullopt;
};

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;  // joined in this order
};

struct Plot {
  std::string title;
  std::string x_label;  // with its unit: "dirty pages", "time [µs]"
  std::string y_label;
  bool log_x = false;
  bool log_y = false;
  std::vector<PlotSeries> series;
};

/// Writes `base`.png and `base`.svg, replacing what is there. Errors: kUnsupported, gnuplot is not installed: figures
/// are no worse for it, so say so and go on; kUsage, nothing to draw, a value that is not finite, or one that is not
/// positive on a logarithmic axis; kHost, a file that cannot be written (names it), or what gnuplot complained of.
[[nodiscard]] Status write_plot(const Plot& plot, const std::string& base);

/// The same with up to four plots in one figure, two in a row. Errors: as write_plot(); kUsage, none or more than four.
[[nodiscard]] Status write_panels(const std::vector<Plot>& plots, const std::string& base);
/// The same drawing as an SVG document. Errors: those of write_plot() without a file.
[[nodiscard]] Result<std::string> draw_svg(const Plot& plot);

}  // namespace warmfork::bench
