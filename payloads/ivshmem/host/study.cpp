#include "ivshmem/host/study.hpp"

#include "base/entropy.hpp"
#include "base/tsc_clock.hpp"
#include "ivshmem/sha256.hpp"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstring>

namespace warmfork::ivshmem {
namespace {

std::uint64_t thread_cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

Row to_row(const HostSide::Sample& sample) {
  Row row;
  row.host_write = tsc_to_ns(sample.host_write);
  row.round_trip = tsc_to_ns(sample.round_trip);
  row.hot = tsc_to_ns(sample.guest.times.hot);
  row.cold = tsc_to_ns(sample.guest.times.cold);
  row.copy = tsc_to_ns(sample.guest.times.copy);
  row.verify = tsc_to_ns(sample.guest.times.verify);
  row.guest_total = tsc_to_ns(sample.guest.times.total);
  row.success = sample.guest.error == GuestError::kNone;
  return row;
}

class Study {
 public:
  Study(const StudyOptions& options, const Partners& partners) : options_(options), partners_(partners) {
    counters_.open(0);
    result_.why_not_counted = counters_.why();
    std::uint64_t most = 0;
    for (const Frame& frame : options.frames) most = std::max(most, frame.bytes());
    data_.resize(most);
    const std::uint64_t modes = options.modes.size();
    of_ = modes * (options.messages + options.iterations * options.frames.size());
  }

  StudyResult run() {
    // Parts one after the other, modes in turn.
    const std::uint64_t rounds = std::max<std::uint64_t>(options_.rounds, 1);
    const auto share = [&](std::uint64_t all, std::uint64_t round) {
      return all * (round + 1) / rounds - all * round / rounds;
    };
    for (std::uint64_t round = 0; round < rounds && !result_.ended; ++round) {
      each_mode(round, [&](Mode mode) {
        block(Part::kLatency, mode, options_.latency_frame, share(options_.messages, round));
      });
    }
    for (std::size_t frame = 0; frame < options_.frames.size(); ++frame) {
      for (std::uint64_t round = 0; round < rounds && !result_.ended; ++round) {
        each_mode(round, [&](Mode mode) { block(Part::kBandwidth, mode, frame, share(options_.iterations, round)); });
      }
    }
    return std::move(result_);
  }

 private:
  template <class Turn>
  void each_mode(std::uint64_t round, const Turn& turn) {
    round_ = round;
    const std::size_t modes = options_.modes.size();
    for (std::size_t i = 0; i < modes; ++i) turn(options_.modes[(i + round) % modes]);
  }
  void block(Part part, Mode mode, std::size_t frame, std::uint64_t messages) {
    if (result_.ended || messages == 0) return;
    std::string where = fmt::format("{}, {}", name_of(mode), options_.frames[frame].name);
    const Partner& partner = partners_[static_cast<std::size_t>(mode)];
    Runner& runner = *partner.runner;
    Status done = session(part, mode, frame, messages, partner, where);
    const Status finished = runner.finish(!done);
    // What the host has seen first says more than how the guest then ended.
    if (done && !finished) done = finished;
    CpuUse& cpu = result_.cpu[static_cast<std::size_t>(mode)];
    if (const auto used = runner.cpu_ns()) cpu.guest_ns = cpu.guest_ns.value_or(0) + *used;
    if (result_.why_not_counted.empty()) result_.why_not_counted = runner.why_not_counted();
    if (!done) {
      result_.ended = done.error();
      result_.ended_where = std::move(where);
    }
  }

  Status session(Part part, Mode mode, std::size_t frame, std::uint64_t messages, const Partner& partner,
                 std::string& where) {
    Runner& runner = *partner.runner;
    WARMFORK_TRY(runner.start(mode == Mode::kDoorbell ? Wake::kDoorbell : Wake::kPolling));
    Waiting waiting = runner.waiting();
    waiting.cancelled = options_.cancelled;
    HostSide host(partner.meeting, std::move(waiting));
    const std::uint64_t wall = tsc_now();
    const std::uint64_t used = thread_cpu_ns();
    WARMFORK_TRY(host.begin());
    result_.guests[static_cast<std::size_t>(mode)] = host.guest_name();
    std::uint64_t& iteration = iterations_[static_cast<std::size_t>(part)][static_cast<std::size_t>(mode)][frame];
    const std::string block_name = where;
    const std::span<unsigned char> data = std::span(data_).first(options_.frames[frame].bytes());
    std::uint64_t apart_cpu = 0;
    for (std::uint64_t i = 0; i < messages; ++i) {
      where = fmt::format("{}, message {}", block_name, iteration + 1);
      // A guest that answers at once never lets the host wait, which is where it is asked otherwise.
      if (options_.cancelled()) return fail(ErrorKind::kCancelled, "interrupted");
      // Making new data is no part of the host's use of its processor; meanwhile the guest waits, as it would for a
      // camera.
      const std::uint64_t apart_used = thread_cpu_ns();
      draw_entropy(std::as_writable_bytes(data));
      unsigned char hash[kHashBytes];
      sha256(data.data(), data.size(), hash);
      if (options_.tamper) options_.tamper(data, hash);
      apart_cpu += thread_cpu_ns() - apart_used;
      // That has used up this thread's time, where others want the processor: not in the midst of a copy.
      ::sched_yield();
      const Counts host_before = counters_.read();
      const Counts guest_before = runner.counts();
      WARMFORK_TRY_ASSIGN(const HostSide::Sample sample, host.send(data, hash));
      Row row = to_row(sample);
      row.host_counts = counters_.read() - host_before;
      row.guest_counts = runner.counts() - guest_before;
      row.part = part;
      row.mode = mode;
      row.frame = frame;
      row.iteration = ++iteration;
      row.round = round_;
      result_.rows.push_back(row);
      if (options_.progress) options_.progress(block_name, ++done_, of_);
    }
    WARMFORK_TRY(host.complete());
    CpuUse& cpu = result_.cpu[static_cast<std::size_t>(mode)];
    cpu.wall_ns += static_cast<std::uint64_t>(tsc_to_ns(tsc_now() - wall));
    cpu.host_ns += thread_cpu_ns() - used - apart_cpu;
    return {};
  }

  const StudyOptions& options_;
  const Partners& partners_;
  ThreadCounters counters_;
  std::vector<unsigned char> data_;
  // By part and mode, for each frame.
  std::array<std::array<std::vector<std::uint64_t>, 3>, 2> iterations_ = [this] {
    std::array<std::array<std::vector<std::uint64_t>, 3>, 2> all;
    for (auto& modes : all) {
      for (auto& frames : modes) frames.resize(options_.frames.size());
    }
    return all;
  }();
  std::uint64_t round_ = 0;
  std::uint64_t done_ = 0, of_ = 0;
  StudyResult result_;
};

}  // namespace

std::vector<Frame> standard_frames() {
  return {{.name = "1080p", .width = 1920, .height = 1080},
          {.name = "1440p", .width = 2560, .height = 1440},
          {.name = "4k", .width = 3840, .height = 2160}};
}

Result<StudyResult> run_study(const StudyOptions& options, const Partners& partners) {
  if (options.frames.empty() || options.latency_frame >= options.frames.size() || options.modes.empty()) {
    return fail(ErrorKind::kUsage, "a study of {} frames and {} modes; at least one of each is needed",
                options.frames.size(), options.modes.size());
  }
  for (const Mode mode : options.modes) {
    const Partner& partner = partners[static_cast<std::size_t>(mode)];
    if (partner.runner == nullptr) return fail(ErrorKind::kUsage, "nobody answers in the mode {}", name_of(mode));
    for (const Frame& frame : options.frames) {
      if (frame.bytes() != 0 && frame.bytes() <= partner.meeting.frame.size()) continue;
      return fail(ErrorKind::kUsage, "frame {}: {} bytes, 1 to {} fit into the shared memory", frame.name,
                  frame.bytes(), partner.meeting.frame.size());
    }
  }
  return Study(options, partners).run();
}

}  // namespace warmfork::ivshmem
