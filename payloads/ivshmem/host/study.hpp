// The shared-memory study: which messages are sent, through whom, and what is known of each afterwards. What comes of
// it for people and files is report.hpp's.
//
// Threads: one, pinned by the caller if it likes.
#pragma once

#include "base/result.hpp"
#include "ivshmem/host/counters.hpp"
#include "ivshmem/host/host_side.hpp"
#include "ivshmem/host/runner.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::ivshmem {

/// An uncompressed picture.
struct Frame {
  std::string name;
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t bits = 24;  // per pixel
  [[nodiscard]] std::uint64_t bytes() const { return std::uint64_t{width} * height * bits / 8; }
};
[[nodiscard]] std::vector<Frame> standard_frames();  // 1080p, 1440p, 4k

/// Who answers, and how the two wake each other.
enum class Mode : std::uint8_t { kThreads, kPolling, kDoorbell };
inline constexpr Mode kModes[] = {Mode::kThreads, Mode::kPolling, Mode::kDoorbell};
[[nodiscard]] constexpr std::string_view name_of(Mode mode) {
  switch (mode) {
    case Mode::kThreads: return "threads";
    case Mode::kPolling: return "polling";
    case Mode::kDoorbell: return "doorbell";
  }
  return "unknown";
}

enum class Part : std::uint8_t { kLatency, kBandwidth };

/// One message. Times in ns.
struct Row {
  Part part = Part::kLatency;
  Mode mode = Mode::kPolling;
  std::size_t frame = 0;        // of StudyOptions::frames
  std::uint64_t iteration = 0;  // from 1, for each part, mode and frame
  std::uint64_t round = 0;      // in which the modes took their turns
  double host_write = 0, round_trip = 0;
  double hot = 0, cold = 0, copy = 0, verify = 0, guest_total = 0;
  Counts host_counts, guest_counts;
  bool success = false;  // the guest found the hash that the host had made
  [[nodiscard]] double notification() const { return round_trip > guest_total ? round_trip - guest_total : 0; }
  [[nodiscard]] double total() const { return host_write + round_trip; }
};

/// What the two sides' threads have used in all sessions of a mode.
struct CpuUse {
  std::uint64_t wall_ns = 0;
  std::uint64_t host_ns = 0;
  std::optional<std::uint64_t> guest_ns;
};

struct StudyOptions {
  std::vector<Frame> frames = standard_frames();
  std::size_t latency_frame = 2;
  std::vector<Mode> modes;
  std::uint64_t messages = 100;   // of the latency part, per mode
  std::uint64_t iterations = 10;  // of the bandwidth part, per frame and mode
  /// The modes take turns so often, each time another one first: what disturbs one disturbs all.
  std::uint64_t rounds = 5;
  std::function<bool()> cancelled = [] { return false; };
  std::function<void(std::string_view what, std::uint64_t done, std::uint64_t of)> progress;
  /// For tests: called before each message with the frame and the hash that the guest will be told.
  std::function<void(std::span<unsigned char>, unsigned char (&)[kHashBytes])> tamper;
};

struct StudyResult {
  std::vector<Row> rows;
  std::array<CpuUse, 3> cpu;          // by Mode
  std::optional<Error> ended;         // why it is not complete; rows are those before
  std::string ended_where;            // "polling, 4k, message 7"
  std::string why_not_counted;        // empty: all counters of both sides are there
  std::array<std::string, 3> guests;  // by Mode: what the guest calls itself; empty: none has joined, or it has no name
};

/// Who answers in a mode, and in which memory; without a runner, nobody does.
struct Partner {
  Runner* runner = nullptr;
  Meeting meeting;
};
using Partners = std::array<Partner, 3>;  // by Mode

/// Runs all of it; what goes wrong on the way is in the result, with all rows before. Each block of messages is a
/// session of its own. Errors (kUsage): a frame that the memory has no room for, nothing to do.
[[nodiscard]] Result<StudyResult> run_study(const StudyOptions& options, const Partners& partners);

}  // namespace warmfork::ivshmem
