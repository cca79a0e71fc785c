#include "metrics.hpp"

#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "exposition/formats.hpp"
#include "exposition/server.hpp"
#include "machine/backend_probe.hpp"
#include "metrics/table.hpp"
#include "option_checks.hpp"
#include "output_file.hpp"
#include "terminal.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

namespace warmfork::cli {
namespace {

// Of the verb that runs. There is one.
exposition::Server* server = nullptr;

std::string backend_name() {
  const auto kvm = open_kvm();
  if (!kvm) return "none";
  const auto backend = probe_backend(*kvm);
  return backend ? backend->name : "unknown";
}

Status write_last(const std::string& file) {
  const std::string text = exposition::to_text(metrics::scrape());
  return write_output_file("--metrics-file", file,
                           [&](int fd) { return write_all(fd, std::as_bytes(std::span(text)), file); });
}

Status linger(std::uint64_t ns) {
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  constexpr std::uint64_t kLongest = 1'000'000'000;  // ms
  pollfd signal{.fd = signals->fd(), .events = POLLIN, .revents = 0};
  ::poll(&signal, 1, static_cast<int>(std::min(ns / 1'000'000, kLongest)));
  return {};
}

Result<int> run_with(const MetricsOptions& options, const std::string& command, const std::function<int()>& run) {
  std::uint64_t linger_ns = 0;
  if (!options.linger.empty()) {
    WARMFORK_TRY_ASSIGN(linger_ns, parse_duration(options.linger));
  }
  if (!options.file.empty()) WARMFORK_TRY(check_output_file("--metrics-file", options.file));
  std::unique_ptr<exposition::Server> serving;
  std::optional<exposition::Address> address;
  if (!options.address.empty()) {
    WARMFORK_TRY_ASSIGN(address, exposition::parse_address(options.address));
  }
  metrics::set_build(WARMFORK_VERSION, backend_name());
  metrics::enable();
  if (address) {
    WARMFORK_TRY_ASSIGN(serving, exposition::Server::start({.address = *address, .command = command}));
    print_message("metrics: http://{}/metrics\n", serving->address().to_text());
  }
  server = serving.get();
  struct Gone {
    ~Gone() { server = nullptr; }
  } const gone;
  const int code = run();
  // Who waits for what the verb has printed need not wait for more.
  std::fflush(stdout);
  if (serving != nullptr && linger_ns != 0) WARMFORK_TRY(linger(linger_ns));
  if (options.file.empty()) return code;
  const Status written = write_last(options.file);
  if (written) return code;
  // How the verb itself has ended is the better answer, if it is not well.
  const int failed = report(written.error());
  return code == kSuccess ? failed : code;
}

}  // namespace

void add_metrics_options(CLI::App& verb, MetricsOptions& options) {
  constexpr const char* kGroup = "Metrics";
  auto* const address =
      verb.add_option(
              "--metrics", options.address,
              "Serve metrics over HTTP while this runs: 127.0.0.1:9464, [::1]:9464, or the port alone; port 0 is "
              "any,\nand printed. Prometheus reads /metrics, people /; warmfork metrics lists them")
          ->type_name("ADDRESS")
          ->check(not_empty())
          ->group(kGroup);
  verb.add_option("--metrics-linger", options.linger, "Go on serving for so long after the end (5s; Ctrl-C ends it)")
      ->type_name("TIME")
      ->check(not_empty())
      ->needs(address)
      ->group(kGroup);
  verb.add_option("--metrics-file", options.file, "Write the metrics here at the end, in Prometheus's text format")
      ->type_name("FILE")
      ->check(not_empty())
      ->group(kGroup);
}

int with_metrics(const MetricsOptions& options, const std::string& command, const std::function<int()>& run) {
  if (options.address.empty() && options.file.empty()) return run();
  const auto code = run_with(options, command, run);
  return code ? *code : report(code.error());
}

void metrics_ready() {
  if (server != nullptr) server->ready();
}

void add_metrics(CLI::App& app, Outcome& outcome) {
  CLI::App* verb = app.add_subcommand("metrics", "List the metrics that --metrics serves, as a table in Markdown");
  verb->callback([&outcome] {
    fmt::print("{}", metrics::table_markdown());
    outcome.code = kSuccess;
  });
}

}  // namespace warmfork::cli
