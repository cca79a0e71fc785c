#include "feed/certificate.hpp"

#include "base/printable.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>

namespace warmfork::feed {
namespace {

// "cpu  user nice system idle iowait irq softirq steal …", in ticks of USER_HZ: proc(5).
std::optional<double> steal_now() {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen("/proc/stat", "re"));
  unsigned long long steal = 0;
  // NOLINTNEXTLINE(cert-err34-c): the kernel writes it
  if (!file || std::fscanf(file.get(), "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &steal) != 1) return std::nullopt;
  return static_cast<double>(steal) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string time_text(double ns) {
  if (ns < 1e3) return fmt::format("{:.0f} ns", ns);
  if (ns < 1e6) return fmt::format("{:.2f} µs", ns / 1e3);
  if (ns < 1e9) return fmt::format("{:.2f} ms", ns / 1e6);
  return fmt::format("{:.2f} s", ns / 1e9);
}

}  // namespace

Disturbances disturbances_now() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return {.involuntary_switches = static_cast<std::uint64_t>(usage.ru_nivcsw),
          .voluntary_switches = static_cast<std::uint64_t>(usage.ru_nvcsw),
          .major_faults = static_cast<std::uint64_t>(usage.ru_majflt),
          .minor_faults = static_cast<std::uint64_t>(usage.ru_minflt),
          .steal_seconds = steal_now()};
}

Disturbances operator-(const Disturbances& after, const Disturbances& before) {
  Disturbances between{.involuntary_switches = after.involuntary_switches - before.involuntary_switches,
                       .voluntary_switches = after.voluntary_switches - before.voluntary_switches,
                       .major_faults = after.major_faults - before.major_faults,
                       .minor_faults = after.minor_faults - before.minor_faults,
                       .steal_seconds = std::nullopt};
  if (after.steal_seconds && before.steal_seconds) between.steal_seconds = *after.steal_seconds - *before.steal_seconds;
  return between;
}

Certificate::Lateness quantiles_of(const Histogram& ticks, double ns_per_tick) {
  const auto quantile = [&](double fraction) { return ticks.quantile(fraction) * ns_per_tick; };
  return {.p50_ns = quantile(0.5),
          .p90_ns = quantile(0.9),
          .p99_ns = quantile(0.99),
          .p999_ns = quantile(0.999),
          .max_ns = static_cast<double>(ticks.max()) * ns_per_tick,
          .mean_ns = ticks.mean() * ns_per_tick};
}

Certificate make_certificate(ReplayFacts facts) {
  const ReplayCounters& counters = facts.counters;
  Certificate certificate;
  certificate.sent = totals_of(facts.tape, counters.packets);
  certificate.seconds = static_cast<double>(counters.end - counters.begin) * facts.ns_per_tick / 1e9;
  if (certificate.seconds > 0) {
    certificate.packets_per_second = static_cast<double>(counters.packets) / certificate.seconds;
    certificate.wire_gbps = static_cast<double>(certificate.sent.wire_bits) / certificate.seconds / 1e9;
  }
  if (facts.schedule.period() != 0) {
    certificate.wanted_packets_per_second = static_cast<double>(facts.tape.totals().packets) * 1e9 /
                                            (static_cast<double>(facts.schedule.period()) * facts.ns_per_tick);
  }
  if (facts.schedule.paced() && counters.packets != 0) {
    certificate.lateness = quantiles_of(counters.lateness, facts.ns_per_tick);
  }
  if (const Waiting& waiting = counters.waiting; waiting.ticks() != 0) {
    const double ns = facts.ns_per_tick;
    const Histogram& stalls = waiting.stalls();
    certificate.floor = {.waited_seconds = static_cast<double>(waiting.ticks()) * ns / 1e9,
                         .stalls = stalls.count(),
                         .stalled_seconds = stalls.mean() * static_cast<double>(stalls.count()) * ns / 1e9,
                         .resolution_ns = static_cast<double>(Waiting::kShortestStall) * ns,
                         .p99_ns = waiting.lateness(0.99) * ns,
                         .p999_ns = waiting.lateness(0.999) * ns,
                         .max_ns = static_cast<double>(stalls.max()) * ns};
  }
  certificate.interrupted = counters.interrupted;
  certificate.max_late_ns = facts.max_late_ns;
  if (facts.max_late_ns) {
    certificate.late = counters.late;
    if (counters.late != 0) {
      certificate.failures.push_back(fmt::format("{} packets were late by more than {} (at most by {})", counters.late,
                                                 time_text(*facts.max_late_ns),
                                                 time_text(certificate.lateness ? certificate.lateness->max_ns : 0)));
    }
  }
  const std::uint64_t checksum = expected_checksum(facts.tape, counters.packets);
  for (const ReaderReport& reader : facts.readers) {
    if (reader.program) {
      const ProgramReport& program = *reader.program;
      if (reader.dropped != 0) {
        certificate.failures.push_back(
            fmt::format("reader {} lost {} of {} messages", reader.name, reader.dropped, program.published));
      }
      if (!program.failure.empty()) {
        certificate.failures.push_back(fmt::format("reader {}: {}", reader.name, program.failure));
      }
      continue;
    }
    if (reader.dropped != 0) {
      certificate.failures.push_back(
          fmt::format("reader {} lost {} of {} packets", reader.name, reader.dropped, counters.packets));
    } else if (reader.received != counters.packets || reader.checksum != checksum) {
      certificate.failures.push_back(
          fmt::format("reader {} got {} packets with checksum {:016x}; {} with {:016x} were sent", reader.name,
                      reader.received, reader.checksum, counters.packets, checksum));
    }
  }
  certificate.readers = std::move(facts.readers);
  return certificate;
}

std::string to_text(const DecodeCounters& decoded) {
  std::string types;
  for (std::size_t type = 0; type < decoded.by_type.size(); ++type) {
    if (decoded.by_type[type] == 0) continue;
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", static_cast<char>(type), decoded.by_type[type]);
  }
  return fmt::format(
      "{} messages{}{}, {} heartbeats, {} ends of session\n"
      "              missing {} in {} gaps, duplicates {}, malformed {}, other frames {}\n",
      decoded.messages, types.empty() ? "" : ": ", types, decoded.heartbeats, decoded.ends_of_session, decoded.missing,
      decoded.gaps, decoded.duplicates, decoded.malformed, decoded.other);
}

namespace {

std::string to_text(const Certificate::Lateness& times) {
  return fmt::format("p50 {}, p90 {}, p99 {}, p99.9 {}, max {}", time_text(times.p50_ns), time_text(times.p90_ns),
                     time_text(times.p99_ns), time_text(times.p999_ns), time_text(times.max_ns));
}

std::string to_text(const Certificate::Floor& floor) {
  const auto quantile = [&](double ns) {
    return (ns == 0 ? "< " : "") + time_text(ns == 0 ? floor.resolution_ns : ns);
  };
  return fmt::format("p99 {}, p99.9 {}, max {}: the CPU was away {} times, {:.2f} % of the {:.2f} s of waiting",
                     quantile(floor.p99_ns), quantile(floor.p999_ns), quantile(floor.max_ns), floor.stalls,
                     100 * floor.stalled_seconds / floor.waited_seconds, floor.waited_seconds);
}

std::string to_text(const ReaderReport& reader, const ProgramReport& program) {
  std::string text = fmt::format("{}: {} received, {} lost", reader.name, reader.received, reader.dropped);
  if (reader.received != 0) {
    text += fmt::format("; {:.1f} instructions",
                        static_cast<double>(program.instructions) / static_cast<double>(reader.received));
    if (program.ns_per_message) text += fmt::format(", {:.1f} ns", *program.ns_per_message);
    text += " a message";
  }
  if (program.registers) {
    text += fmt::format("\n{:<14}", "");
    for (std::size_t i = 0; i < program.registers->size(); ++i) {
      text += fmt::format("{}R{} x{:04X}", i == 0 ? "" : " ", i, (*program.registers)[i]);
    }
  }
  std::string_view output = program.output;
  while (!output.empty() && output.back() == '\n') output.remove_suffix(1);
  for (std::size_t at = 0; at < output.size();) {
    const std::size_t end = std::min(output.find('\n', at), output.size());
    text += fmt::format("\n{:<14}{}", "", printable(output.substr(at, end - at)));
    at = end + 1;
  }
  return text;
}

}  // namespace

std::string to_text(const Certificate& certificate) {
  std::string text = fmt::format("{}, {}\n", certificate.source, certificate.pace);
  const auto line = [&](const char* name, const std::string& value) {
    text += fmt::format("  {:<12}{}\n", name, value);
  };
  line("sent", fmt::format("{} packets, {} bytes in {:.3f} s{}", certificate.sent.packets, certificate.sent.frame_bytes,
                           certificate.seconds, certificate.interrupted ? ", interrupted" : ""));
  line("rate",
       fmt::format("{:.0f} packets/s, {:.3f} Gbps on the wire{}", certificate.packets_per_second, certificate.wire_gbps,
                   certificate.wanted_packets_per_second
                       ? fmt::format("; wanted {:.0f} packets/s", *certificate.wanted_packets_per_second)
                       : ""));
  if (certificate.lateness) {
    line("lateness", to_text(*certificate.lateness));
  }
  if (certificate.floor) line("its floor", to_text(*certificate.floor));
  if (certificate.max_late_ns) {
    line("late", fmt::format("{} packets by more than {}", certificate.late, time_text(*certificate.max_late_ns)));
  }
  for (const ReaderReport& reader : certificate.readers) {
    if (reader.program) {
      line("reader", to_text(reader, *reader.program));
      continue;
    }
    line("reader", fmt::format("{}: {} received, {} lost, checksum {:016x}", reader.name, reader.received,
                               reader.dropped, reader.checksum));
  }
  if (certificate.answers) {
    const Certificate::Answers& answers = *certificate.answers;
    line("answers", fmt::format("{}, {} to no packet{}; in {}", answers.count, answers.unnamed,
                                answers.unkept != 0 ? fmt::format(", {} not kept", answers.unkept) : "", answers.file));
    if (answers.latency) line("", to_text(*answers.latency) + " after their packets");
  }
  for (const std::string& note : certificate.notes) line("note", note);
  if (certificate.decoded) {
    text += fmt::format("  {:<12}{}", "decoded", to_text(*certificate.decoded));
    if (!certificate.first_malformed.empty()) line("malformed", "the first in " + certificate.first_malformed);
    line("decoder", fmt::format("{:.1f} ns a message, ahead of the replay", certificate.decode_ns_per_message));
  }
  line("disturbed",
       fmt::format("{} involuntary switches, {} page faults{}", certificate.disturbances.involuntary_switches,
                   certificate.disturbances.major_faults + certificate.disturbances.minor_faults,
                   certificate.disturbances.steal_seconds ? fmt::format(", {:.2f} s stolen from this machine's CPUs",
                                                                        *certificate.disturbances.steal_seconds)
                                                          : ""));
  if (certificate.truncated) line("file", "1 packet is cut off and was not sent: " + *certificate.truncated);
  for (const std::string& failure : certificate.failures) line("failed", failure);
  text += certificate.interrupted ? "interrupted\n" : certificate.passed() ? "passed\n" : "failed\n";
  return text;
}

}  // namespace warmfork::feed
