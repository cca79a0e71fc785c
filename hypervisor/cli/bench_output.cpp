#include "bench_output.hpp"

#include "base/file.hpp"
#include "bench/figure_text.hpp"
#include "bench/lifecycle_report.hpp"
#include "bench/outliers.hpp"
#include "bench/readme_tables.hpp"
#include "bench/result_file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace warmfork::cli {
namespace {

// The lifecycle report has shown those.
std::vector<bench::Figure> others_than_lifecycle(std::vector<bench::Figure> figures) {
  std::erase_if(figures, [](const bench::Figure& figure) { return figure.name.starts_with("lifecycle/"); });
  return figures;
}

// Whole or not at all; a device or pipe is written as it is, and so is what we print to (/dev/stdout).
Status write_report(const std::string& path, const std::string& text) {
  struct stat status{};
  const bool as_it_is = ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
  if (as_it_is || printed_into(path)) return write_file(path, text.data(), text.size());
  WARMFORK_TRY(replace_file(path, [&](int fd) { return write_all(fd, std::as_bytes(std::span(text)), path); }));
  ::chmod(path.c_str(), 0644);  // results are for everyone; that this fails changes nothing
  return {};
}

// The files of options' reports.
std::vector<std::string> report_files(const BenchOptions& options) {
  std::vector<std::string> files;
  for (const std::string* file : {&options.json, &options.markdown, &options.csv, &options.google_benchmark,
                                  &options.verdicts, &options.html, &options.plot}) {
    if (!file->empty() && (file != &options.json || *file != "-")) files.push_back(*file);
  }
  return files;
}

}  // namespace

void print_result(const BenchOptions& options, const bench::ResultFile& result) {
  const bench::Context& context = result.context;
  const std::vector<bench::Figure>& figures = result.figures;
  const std::string lifecycle = options.filter.empty() ? bench::lifecycle_report(figures) : "";
  fmt::print("{} · {} · kernel {} · KVM backend {} · pinned to CPU {}{}\n\n{}{}{}", context.date, context.cpu,
             context.kernel, context.kvm_backend, context.pinned.empty() ? -1 : context.pinned[0],
             context.rounds > 1 ? fmt::format(" · {} rounds", context.rounds) : "", lifecycle,
             lifecycle.empty() ? "" : "\n",
             bench::to_table(lifecycle.empty() || options.all_figures ? figures : others_than_lifecycle(figures)));
  if (const std::string outliers = bench::outlier_table(figures); !outliers.empty()) fmt::print("\n{}", outliers);
}

Status check_report_files(const BenchOptions& options) {
  std::set<std::filesystem::path> taken;
  for (const std::string& file : report_files(options)) {
    std::string folder = std::filesystem::path(file).parent_path();
    if (folder.empty()) folder = ".";
    struct stat status{};
    if (::stat(folder.c_str(), &status) != 0) return fail_errno("{}: {}", file, folder);
    if (!S_ISDIR(status.st_mode)) return fail(ErrorKind::kHost, "{}: {} is no directory", file, folder);
    if (::stat(file.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
      return fail(ErrorKind::kHost, "{}: is a directory", file);
    }
    // What is no regular file (a device, a pipe) is opened when it is written.
    const bool there = ::stat(file.c_str(), &status) == 0;
    if (!there && ::access(folder.c_str(), W_OK) != 0) return fail_errno("{}", folder);
    if ((there && !S_ISREG(status.st_mode)) || printed_into(file)) continue;  // those take as many as there are
    std::error_code ignored;
    if (!taken.insert(std::filesystem::weakly_canonical(std::filesystem::absolute(file), ignored)).second) {
      return fail(ErrorKind::kUsage, "{}: two reports would go there", file);
    }
  }
  return {};
}

Status write_reports(const BenchOptions& options, const bench::ResultFile& result, const bench::Comparison* comparison,
                     const bench::Baselines* baselines) {
  Status first;
  const auto note = [&](const Status& written) {
    if (written) return;
    if (first) {
      first = written;
    } else {
      report(written.error());
    }
  };
  const std::string json = bench::to_json(result.context, result.figures);
  if (options.json == "-") {
    fmt::print("{}", json);
  } else if (!options.json.empty()) {
    note(write_report(options.json, json));
  }
  if (!options.markdown.empty()) note(write_report(options.markdown, bench::to_markdown(result, comparison)));
  if (!options.csv.empty()) note(write_report(options.csv, bench::to_csv(result)));
  if (!options.google_benchmark.empty()) {
    note(write_report(options.google_benchmark, bench::to_google_benchmark(result)));
  }
  if (!options.verdicts.empty() && comparison != nullptr) {
    note(write_report(options.verdicts, bench::to_json(*comparison)));
  }
  if (!options.html.empty()) {
    std::vector<std::pair<std::string, bench::ResultFile>> history;
    const auto names = baselines != nullptr ? baselines->names() : Result<std::vector<std::string>>();
    if (!names) note(Failure(names.error()));
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
      auto saved = baselines->load(name);
      // One that is broken or foreign is no reason to have no page.
      if (saved && bench::foreign(saved->context, result.context).empty())
        history.emplace_back(name, std::move(*saved));
    }
    const auto page = bench::to_html(result, comparison, history);
    note(page ? write_report(options.html, *page) : Status(Failure(page.error())));
  }
  if (!options.plot.empty()) {
    if (const auto drawn = bench::plot_lifecycle(result.figures, options.plot); !drawn) {
      const Error error{drawn.error().kind, "no plot: " + drawn.error().message};
      // Figures are no worse without gnuplot; and why a run has ended early is a better answer than what it lacks.
      if (error.kind == ErrorKind::kUnsupported || (error.kind == ErrorKind::kUsage && result.context.partial)) {
        print_message("{}\n", error.message);
      } else {
        note(Failure(error));
      }
    }
  }
  return first;
}

int fill_tables(const BenchOptions& options) {
  const auto result = bench::read_result(options.readme_tables);
  if (!result) return report(result.error());
  const auto bytes = read_file(options.readme, std::size_t{16} << 20);
  if (!bytes) return report(bytes.error());
  // SAFETY: bytes viewed as characters, for as long as the vector lives.
  const std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  if (options.check_tables) {
    const auto same = bench::check_readme(text, *result);
    if (!same) return report({same.error().kind, options.readme + ": " + same.error().message});
    fmt::print("{}: the tables are those that {} gives\n", options.readme, options.readme_tables);
    return kSuccess;
  }
  const auto filled = bench::fill_readme(text, *result);
  if (!filled) return report({filled.error().kind, options.readme + ": " + filled.error().message});
  if (const auto written = write_report(options.readme, *filled); !written) return report(written.error());
  return kSuccess;
}

}  // namespace warmfork::cli
