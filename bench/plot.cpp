#include "bench/plot.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

namespace warmfork::bench {
namespace {

// Okabe and Ito's colours, which people with any colour vision tell apart; the yellow is left out, being hard to see on
// white. Series also differ by mark, and from the eighth on by dashes.
constexpr std::array<const char*, 7> kColours{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                              "#000000", "#E69F00", "#56B4E9"};
constexpr std::array<int, 7> kMarks{7, 5, 9, 13, 11, 6, 4};  // of gnuplot: filled ones first

struct Format {
  const char* extension;
  const char* terminal;
  std::string_view end;  // of every such file; blank lines may follow
};
// The bitmap has twice the pixels for sharp screens; sizes within it are doubled to match.
constexpr std::array<Format, 2> kFormats{
    {{"png", "set terminal pngcairo noenhanced size 1920,1200 font 'DejaVu Sans,24' linewidth 2 pointscale 1.6",
      std::string_view("IEND\xae\x42\x60\x82", 8)},
     {"svg", "set terminal svg noenhanced size 960,600 dynamic background '#ffffff' font 'DejaVu Sans,13' linewidth 1",
      "</svg>"}}};

// The length of the UTF-8 sequence of a printable character at the beginning of `text`; 0: there is none.
std::size_t printable_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  unsigned code = first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fU);
  }
  constexpr std::array<unsigned, 5> kLeast{0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  const bool control = code < 0xa0 || code == 0xfffe || code == 0xffff;  // the last two: not in XML
  return code < kLeast[length] || code > 0x10ffff || surrogate || control ? 0 : length;
}

// A literal of gnuplot in which nothing can be special, be it to its lexer, which looks for `commands` and '' even
// inside quotes, or to its parser: all that is not a letter is an octal escape. What cannot be drawn becomes a space.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = printable_length(text);
    const bool letter = length > 1 || (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z');
    if (letter) {
      out += text.substr(0, length);
    } else {
      out += fmt::format("\\{:03o}", length == 0 ? unsigned{' '} : static_cast<unsigned>(text[0]));
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out + "\"";
}

Status check(const Plot& plot) {
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      const auto drawable = [](double value, bool log) { return std::isfinite(value) && (!log || value > 0); };
      if (!drawable(point.x, plot.log_x))
        return fail(ErrorKind::kUsage, "series {}: x = {} cannot be drawn on this axis", series.name, point.x);
      for (const double y : {point.y, point.low.value_or(point.y), point.high.value_or(point.y)}) {
        if (!drawable(y, plot.log_y))
          return fail(ErrorKind::kUsage, "series {}: y = {} at x = {} cannot be drawn on this axis", series.name, y,
                      point.x);
      }
    }
  }
  if (std::ranges::all_of(plot.series, [](const PlotSeries& series) { return series.points.empty(); }))
    return fail(ErrorKind::kUsage, "plot {}: no points to draw", plot.title);
  return {};
}

bool has_bars(const PlotSeries& series) {
  return std::ranges::any_of(series.points, [](const PlotPoint& point) { return point.low || point.high; });
}

double lowest(const Plot& plot) {
  double low = std::numeric_limits<double>::infinity();
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) low = std::min({low, point.y, point.low.value_or(point.y)});
  }
  return low;
}

std::string preamble(const char* terminal) { return fmt::format("set encoding utf8\n{}\n", terminal); }

// Begins with everything that the panel before it may have set.
std::string panel(const Plot& plot) {
  std::string text = "unset logscale\nset yrange [*:*]\nset title " + quoted(plot.title) + "\nset xlabel " +
                     quoted(plot.x_label) + "\nset ylabel " + quoted(plot.y_label) +
                     "\nset key outside top center horizontal\n"
                     "set border 3 linecolor rgb '#606060'\nset tics nomirror out textcolor rgb '#000000'\n"
                     "set grid xtics ytics linetype 1 linecolor rgb '#DDDDDD' linewidth 0.5\n";
  // Numbers as people write them: 4096 or 0.5, and 1e+06 where that is shorter.
  text += "set format '%g'\n";
  if (plot.log_x) text += "set logscale x\n";
  if (plot.log_y) text += "set logscale y\n";
  // Heights compare only above a common zero.
  if (!plot.log_y && lowest(plot) >= 0) text += "set yrange [0:*]\n";
  std::string lines;
  for (std::size_t i = 0, drawn = 0; i < plot.series.size(); ++i) {
    const PlotSeries& series = plot.series[i];
    if (series.points.empty()) continue;
    text += fmt::format("$data{} << END\n", i);
    for (const PlotPoint& point : series.points) {
      text += fmt::format("{:.17g} {:.17g} {:.17g} {:.17g}\n", point.x, point.y, point.low.value_or(point.y),
                          point.high.value_or(point.y));
    }
    text += "END\n";
    lines +=
        fmt::format("{} $data{} using {} with {} title {} linecolor rgb '{}' linewidth 2 pointtype {} dashtype {}",
                    drawn == 0 ? "plot" : ",", i, has_bars(series) ? "1:2:3:4" : "1:2",
                    has_bars(series) ? "yerrorlines" : "linespoints", quoted(series.name),
                    kColours[drawn % kColours.size()], kMarks[drawn % kMarks.size()], drawn / kColours.size() % 4 + 1);
    ++drawn;
  }
  return text + lines + "\n";
}

// A file without a name, to be read by one process after another has written it.
Result<UniqueFd> scratch(std::string_view content) {
  UniqueFd fd(::memfd_create("warmfork-plot", MFD_CLOEXEC));
  if (!fd) return fail_errno("memory file for gnuplot");
  while (!content.empty()) {
    const ssize_t put = ::write(fd.get(), content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return fail_errno("memory file for gnuplot");
    content.remove_prefix(static_cast<std::size_t>(put));
  }
  ::lseek(fd.get(), 0, SEEK_SET);
  return fd;
}

std::string first_complaint(const UniqueFd& errors) {
  std::array<char, 4096> bytes{};
  const ssize_t got = ::pread(errors.get(), bytes.data(), bytes.size(), 0);
  std::string_view text(bytes.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  // It shows the command and a caret before it says what is wrong with it: the last line that says something is best.
  const auto blank = [](char c) { return c == '\n' || c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  if (const std::size_t line = text.rfind('\n'); line != std::string_view::npos) text.remove_prefix(line + 1);
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  return std::string(text);
}

Status run_gnuplot(const std::string& commands, const UniqueFd& output) {
  WARMFORK_TRY_ASSIGN(const UniqueFd input, scratch(commands));
  WARMFORK_TRY_ASSIGN(const UniqueFd errors, scratch({}));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors.get(), STDERR_FILENO);
  std::string name = "gnuplot";
  std::string defaults = "--default-settings";  // not what the user has in ~/.gnuplot
  const std::array<char*, 3> arguments{name.data(), defaults.data(), nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, name.c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    return fail(ErrorKind::kUnsupported, "no plot: gnuplot is not installed (Debian: apt-get install gnuplot-nox)");
  if (error != 0) {
    errno = error;
    return fail_errno("starting gnuplot");
  }
  int status = 0;
  pid_t waited = -1;
  while ((waited = ::waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
  }
  if (waited < 0) return fail_errno("waiting for gnuplot");
  if (status == 0) return {};
  if (WIFSIGNALED(status)) return fail(ErrorKind::kHost, "gnuplot was killed by signal {}", WTERMSIG(status));
  return fail(ErrorKind::kHost, "gnuplot exited with {}: {}", WEXITSTATUS(status), first_complaint(errors));
}

// A new file beside `path` that takes its place once it is whole.
class Replacement {
 public:
  [[nodiscard]] static Result<Replacement> create(const std::string& path) {
    Replacement made;
    made.path_ = path;
    std::string temporary = fmt::format("{}.{}.part", path, ::getpid());
    made.fd_ = UniqueFd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
    if (!made.fd_) return fail_errno("{}", path);
    made.temporary_ = std::move(temporary);
    return made;
  }
  Replacement(Replacement&& other) noexcept
      : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})), fd_(std::move(other.fd_)) {}
  Replacement& operator=(Replacement&&) = delete;
  ~Replacement() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  [[nodiscard]] const UniqueFd& fd() const { return fd_; }
  /// Whether it ends with `end`: gnuplot does not say so when a disk is full.
  [[nodiscard]] Status check_end(std::string_view end) const {
    struct stat status{};
    if (::fstat(fd_.get(), &status) != 0) return fail_errno("{}", path_);
    if (status.st_size == 0) return fail(ErrorKind::kHost, "{}: gnuplot has drawn nothing", path_);
    std::array<char, 64> last;
    const off_t from = std::max<off_t>(status.st_size - static_cast<off_t>(last.size()), 0);
    const ssize_t got = ::pread(fd_.get(), last.data(), last.size(), from);
    if (got < 0) return fail_errno("{}", path_);
    std::string_view text(last.data(), static_cast<std::size_t>(got));
    while (text.ends_with('\n')) text.remove_suffix(1);
    if (text.ends_with(end)) return {};
    return fail(ErrorKind::kHost, "{}: gnuplot has drawn half of it; is the disk full?", path_);
  }
  [[nodiscard]] Status commit() {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail_errno("{}", path_);
    temporary_.clear();
    return {};
  }

 private:
  Replacement() = default;
  std::string path_;
  std::string temporary_;  // empty: nothing to remove
  UniqueFd fd_;
};

Status draw(const std::string& commands, const std::string& base) {
  std::vector<Replacement> files;
  for (const Format& format : kFormats) {
    WARMFORK_TRY_ASSIGN(Replacement file, Replacement::create(fmt::format("{}.{}", base, format.extension)));
    WARMFORK_TRY(run_gnuplot(preamble(format.terminal) + commands, file.fd()));
    WARMFORK_TRY(file.check_end(format.end));
    files.push_back(std::move(file));
  }
  for (Replacement& file : files) WARMFORK_TRY(file.commit());
  return {};
}

}  // namespace

Status write_plot(const Plot& plot, const std::string& base) {
  WARMFORK_TRY(check(plot));
  return draw(panel(plot), base);
}

Status write_panels(const std::vector<Plot>& plots, const std::string& base) {
  constexpr std::size_t kMost = 4;
  if (plots.empty() || plots.size() > kMost) {
    return fail(ErrorKind::kUsage, "{} panels in a figure, 1 to {} fit", plots.size(), kMost);
  }
  std::string commands = "set multiplot layout 2,2\n";
  for (const Plot& plot : plots) {
    WARMFORK_TRY(check(plot));
    commands += panel(plot);
  }
  return draw(commands + "unset multiplot\n", base);
}

Result<std::string> draw_svg(const Plot& plot) {
  WARMFORK_TRY(check(plot));
  WARMFORK_TRY_ASSIGN(const UniqueFd output, scratch({}));
  WARMFORK_TRY(run_gnuplot(preamble(kFormats[1].terminal) + panel(plot), output));
  struct stat status{};
  if (::fstat(output.get(), &status) != 0) return fail_errno("drawing of gnuplot");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t got = ::pread(output.get(), text.data(), text.size(), 0);
  if (got <= 0) return fail(ErrorKind::kHost, "gnuplot has drawn nothing");
  text.resize(static_cast<std::size_t>(got));
  return text;
}

}  // namespace warmfork::bench
