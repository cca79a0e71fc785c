// What a replay has shown: how much was sent, how fast, how late, who lost what, and whether that is good enough.
#pragma once

#include "feed/decode.hpp"
#include "feed/local_readers.hpp"
#include "feed/replay.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::feed {

/// What else went on while a replay ran: why packets may have been late.
struct Disturbances {
  std::uint64_t involuntary_switches = 0;  // of the replaying thread (getrusage)
  std::uint64_t voluntary_switches = 0;
  std::uint64_t major_faults = 0, minor_faults = 0;
  std::optional<double> steal_seconds;  // of the whole machine, all CPUs (/proc/stat); nothing if not told
};

/// Reads the counters of the calling thread and the machine now; the difference of two is what happened in between.
[[nodiscard]] Disturbances disturbances_now();
[[nodiscard]] Disturbances operator-(const Disturbances& after, const Disturbances& before);

struct Certificate {
  struct Lateness {
    double p50_ns = 0, p90_ns = 0, p99_ns = 0, p999_ns = 0, max_ns = 0, mean_ns = 0;
  };
  /// What the machine itself made of packets' times, seen while the replay only waited (Waiting).
  struct Floor {
    double waited_seconds = 0;
    std::uint64_t stalls = 0;  // longer than resolution_ns
    double stalled_seconds = 0;
    double resolution_ns = 0;
    double p99_ns = 0, p999_ns = 0, max_ns = 0;  // lateness if sending took no time; 0: less than resolution_ns
  };
  /// What readers have sent back.
  struct Answers {
    std::uint64_t count = 0;
    std::uint64_t unnamed = 0;        // that name no packet of the last ones
    std::uint64_t unkept = 0;         // that there was no room for in memory, and which are not in the file
    std::string file;                 // where they were written
    std::optional<Lateness> latency;  // from when the packet was due to when the answer had arrived, of those named
  };
  std::string source;  // the file
  std::string pace;
  TapeTotals sent;
  double seconds = 0;
  double packets_per_second = 0;
  double wire_gbps = 0;  // with preambles, check sequences and gaps
  std::optional<double> wanted_packets_per_second;
  std::optional<Lateness> lateness;  // nothing if unpaced or if nothing was sent
  std::optional<Floor> floor;        // nothing if it never waited
  std::optional<double> max_late_ns;
  std::uint64_t late = 0;  // packets by more than that
  std::vector<ReaderReport> readers;
  std::optional<Answers> answers;
  std::vector<std::string> notes;  // about how it was done, a sentence each
  Disturbances disturbances;
  std::optional<std::string> truncated;
  std::optional<DecodeCounters> decoded;  // of the tape, once
  std::string first_malformed;
  double decode_ns_per_message = 0;
  bool interrupted = false;
  std::vector<std::string> failures;  // why it is not good enough, a sentence each; never because of the interruption

  [[nodiscard]] bool passed() const { return failures.empty() && !interrupted; }
};

/// What make_certificate() needs to know.
struct ReplayFacts {
  const Tape& tape;
  const Schedule& schedule;
  const ReplayCounters& counters;
  std::vector<ReaderReport> readers;
  double ns_per_tick = 1;
  std::optional<double> max_late_ns;
};

/// Fills in everything that follows from the facts, and the failures: a packet late by more than max_late_ns, a reader
/// that lost packets, or one whose packets are not those that were sent.
[[nodiscard]] Certificate make_certificate(ReplayFacts facts);

/// The quantiles of ticks.
[[nodiscard]] Certificate::Lateness quantiles_of(const Histogram& ticks, double ns_per_tick);

/// For people; several lines.
[[nodiscard]] std::string to_text(const Certificate& certificate);

/// The same of what a decoder found, two lines or three.
[[nodiscard]] std::string to_text(const DecodeCounters& decoded);

}  // namespace warmfork::feed
