// A feed into guests: the highest rate at which nothing is lost, and what a message costs an LC-3 handler that looks
// into it, by engine. Beside them a thread of the host that reads the same ring and does nothing with it.
#include "base/tsc_clock.hpp"
#include "bench/suites.hpp"
#include "feed/certificate.hpp"
#include "feed/generator.hpp"
#include "feed/replay.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/feed/feed_readers.hpp"
#include "lc3/feed/words.hpp"

#include <sched.h>

#include <array>
#include <atomic>
#include <cmath>
#include <map>
#include <memory>
#include <thread>

namespace warmfork::bench {
namespace {

constexpr std::size_t kMemory = std::size_t{64} << 20;
constexpr std::uint64_t kRing = std::uint64_t{64} << 20;  // some 50 ms of a full line of 10 Gbps
constexpr double kLineRate10G = 14'880'952;               // shortest frames a second
constexpr std::uint64_t kGraceNs = 2'000'000'000;
constexpr double kTrialSeconds = 0.1;
constexpr std::uint64_t kReplayRate = 100'000;  // packets a second of feed/replay: what guests everywhere keep up with

// Looks into every packet as payloads/lc3/programs/feed_inspect.asm: length, EtherType, the UDP header's length and the
// low word of the number that generated frames have, which must follow the one before. R3: how often it did not.
constexpr const char* kHandler = R"(
        .ORIG x3000
        LD  R0, BURST
        STI R0, IN_BURST
        LD  R5, STRIDE
        STI R5, IN_STRIDE
        LD  R7, MINUS_IPV4
        AND R1, R1, #0
        AND R2, R2, #0
        AND R3, R3, #0
NEXT    STI R0, IN_WAIT
        LD  R4, BUFFER
        STI R4, IN_RECEIVE
        LDI R6, IN_COUNT
        BRz DONE
MESSAGE LDR R0, R4, #0
        BRz SAME
        LDR R0, R4, #7
        ADD R0, R0, R7
        BRnp SAME
        LDR R0, R4, #20
        ADD R1, R1, R0
        LDR R0, R4, #25
        ADD R0, R0, R2
        BRnp BREAK
        ADD R2, R2, #-1
SAME    ADD R4, R4, R5
        ADD R6, R6, #-1
        BRp MESSAGE
        BR  NEXT
BREAK   LDR R2, R4, #25
        NOT R2, R2
        ADD R3, R3, #1
        BR  SAME
DONE    HALT
BUFFER  .FILL x4000
BURST   .FILL #256
STRIDE  .FILL #32
MINUS_IPV4 .FILL xF800
IN_RECEIVE .FILL xFE27
IN_BURST   .FILL xFE28
IN_STRIDE  .FILL xFE29
IN_COUNT   .FILL xFE2A
IN_WAIT    .FILL xFE2E
        .END
)";

/// The same ring, read by a thread of this process: the floor.
class HostReader {
 public:
  static Result<std::unique_ptr<HostReader>> start(int cpu) {
    std::unique_ptr<HostReader> self(new HostReader);
    WARMFORK_TRY_ASSIGN(self->feed_, Feed::create(kRing));
    self->writer_.emplace(self->feed_->page(), kRing);
    self->thread_ = std::thread([owner = self.get(), cpu] { owner->read(cpu); });
    return self;
  }
  ~HostReader() { (void)lost(); }
  HostReader(const HostReader&) = delete;
  HostReader& operator=(const HostReader&) = delete;
  void put(std::span<const std::byte> payload, std::uint64_t /*timestamp*/) noexcept {
    if (writer_->put(payload)) return;
    writer_->publish();  // half of the ring is not
    (void)writer_->put(payload);
  }
  void flush() noexcept { writer_->publish(); }
  void publish(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept {
    put(payload, timestamp);
    flush();
  }
  /// After the last packet.
  Result<std::uint64_t> lost() {
    if (thread_.joinable()) {
      (void)writer_->push({}, lc3::kEndOfStream);
      thread_.join();
    }
    if (!pinned_) return Failure(pinned_.error());
    return lost_;
  }

 private:
  HostReader() = default;
  void read(int cpu) {
    pinned_ = pin_to(cpu);
    ring::BroadcastReader<ring::Trusted> reader(feed_->page(), kRing);
    std::array<std::byte, 2 * lc3::kPortMessageWords> copy;
    bool over = false;
    while (!over) {
      bool end = false;
      std::uint32_t taken = 0;
      const ring::Found found =
          reader.read_some(reader.kSome, taken, [&](const ring::BroadcastRecord& record, const std::byte* payload) {
            ring::Trusted::copy_racing(copy.data(), payload, std::min<std::size_t>(copy.size(), record.size));
            end = record.type == lc3::kEndOfStream;
            return true;
          });
      over = found == ring::Found::kRecord && end;
    }
    lost_ = reader.lost();
  }
  std::shared_ptr<Feed> feed_;
  std::optional<ring::BroadcastWriter> writer_;
  std::thread thread_;
  Status pinned_;
  std::uint64_t lost_ = 0;
};

struct Trial {
  bool sustained = false;  // nothing lost, and the replay kept up
  double lateness_p50_ns = 0, lateness_p99_ns = 0, lateness_p999_ns = 0;
  double rate = 0;  // packets a second, as sent
};

template <class Sink>
Result<Trial> replay_at(const feed::Tape& tape, std::uint64_t rate, Sink& sink) {
  const auto ticks_per_second = static_cast<std::uint64_t>(std::llround(1e9 / tsc_ns_per_tick()));
  WARMFORK_TRY_ASSIGN(
      const feed::Schedule schedule,
      feed::Schedule::make(tape, {.kind = feed::Pace::Kind::kPackets, .per_second = rate}, ticks_per_second));
  feed::ReplayControl control;
  feed::ReplayCounters counters;
  feed::TscTicks clock;
  feed::replay(
      tape, schedule, sink, clock,
      {.loops = ~std::uint64_t{0}, .ticks = static_cast<std::uint64_t>(kTrialSeconds * 1e9 / tsc_ns_per_tick())},
      control, counters);
  const double seconds = tsc_to_ns(counters.end - counters.begin) / 1e9;
  return Trial{.sustained = static_cast<double>(counters.packets) >= 0.98 * seconds * static_cast<double>(rate) &&
                            seconds < 1.02 * kTrialSeconds,
               .lateness_p50_ns = counters.lateness.quantile(0.5) * tsc_ns_per_tick(),
               .lateness_p99_ns = counters.lateness.quantile(0.99) * tsc_ns_per_tick(),
               .lateness_p999_ns = counters.lateness.quantile(0.999) * tsc_ns_per_tick(),
               .rate = static_cast<double>(counters.packets) / seconds};
}

struct Best {
  double rate = 0, lateness_p99_ns = 0;
};

// Bisects, by factors: to about 4 %. A smoke test needs no such answer.
template <class Try>
Result<Best> highest_rate(const SuiteOptions& options, double low, double high, Try&& attempt) {
  const bool smoke = options.effort < 0.01;
  const int steps = smoke ? 1 : 7;
  Best best;
  for (int i = 0; i < steps; ++i) {
    const double rate = std::sqrt(low * high);
    // What else runs on this machine must not decide: one sustained run of three is enough.
    Trial trial;
    for (int again = 0; again < (smoke ? 1 : 3) && !trial.sustained; ++again) {
      WARMFORK_TRY_ASSIGN(trial, attempt(static_cast<std::uint64_t>(rate)));
    }
    if (trial.sustained) best = {rate, trial.lateness_p99_ns};
    (trial.sustained ? low : high) = rate;
  }
  return best;
}

Result<std::unique_ptr<lc3::FeedReaders>> start_readers(const SuiteOptions& options, const feed::Tape& tape,
                                                        lc3::Engine engine, unsigned readers) {
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::assemble(kHandler, "handler.asm"));
  const std::vector<lc3::Program> programs(readers, program);
  std::vector<int> cpus;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  (void)::sched_getaffinity(::getpid(), sizeof allowed, &allowed);
  cpus.push_back(options.other_cpu);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &allowed) && cpu != options.cpu && cpu != options.other_cpu) {
      cpus.push_back(cpu);
    }
  }
  return lc3::FeedReaders::start(
      *options.kvm, programs, tape,
      {.engine = engine, .feed_bytes = kRing, .cpus = std::move(cpus), .grace_ns = kGraceNs});
}

Result<feed::Tape> make_tape(std::uint32_t frame_bytes) {
  WARMFORK_TRY_ASSIGN(const feed::Tape frames,
                      feed::generate_feed({.packets = std::min<std::uint64_t>(20'000, (8U << 20) / frame_bytes),
                                           .content = feed::Content::kRaw,
                                           .frame_bytes = frame_bytes},
                                          kMemory));
  return lc3::frames_to_words(frames, kMemory);
}

Figure rate_figure(const std::string& name, std::uint32_t frame_bytes, unsigned readers,
                   const std::vector<double>& rates, double lateness_p99_ns) {
  Figure figure = from_values(name, "packets/s", rates);
  figure.params["frame_bytes"] = frame_bytes;
  figure.params["readers"] = readers;
  figure.counters["lateness_p99_ns"] = lateness_p99_ns;
  return figure;
}

Status measure_rates(const SuiteOptions& options, std::vector<Figure>& out) {
  for (const std::uint32_t frame_bytes : {64U, 1500U}) {
    WARMFORK_TRY_ASSIGN(const feed::Tape tape, make_tape(frame_bytes));
    const double most = frame_bytes == 64 ? 60e6 : 20e6;
    options.say(fmt::format("feed: {}-byte frames, two threads of the host", frame_bytes));
    std::vector<double> rates;
    double lateness = 0;
    const std::uint64_t rounds = options.samples(3, 1);
    for (std::uint64_t round = 0; round < rounds; ++round) {
      WARMFORK_TRY_ASSIGN(const Best best, highest_rate(options, 1e5, most, [&](std::uint64_t rate) -> Result<Trial> {
                            WARMFORK_TRY_ASSIGN(const auto reader, HostReader::start(options.other_cpu));
                            WARMFORK_TRY_ASSIGN(Trial trial, replay_at(tape, rate, *reader));
                            WARMFORK_TRY_ASSIGN(const std::uint64_t lost, reader->lost());
                            trial.sustained = trial.sustained && lost == 0;
                            return trial;
                          }));
      rates.push_back(best.rate);
      lateness = best.lateness_p99_ns;
    }
    const std::string name = fmt::format("feed/rate/{}", frame_bytes);
    Figure floor = rate_figure(name + "/host_thread", frame_bytes, 1, rates, lateness);
    struct Guests {
      unsigned readers;
      lc3::Engine engine;
    };
    std::vector<Guests> all{{1, lc3::Engine::kXbyak}};
    if (frame_bytes == 64) {
      all.push_back({1, lc3::Engine::kInterpreter});
      all.push_back({1, lc3::Engine::kOrc});
    } else {
      all.push_back({2, lc3::Engine::kXbyak});
      all.push_back({8, lc3::Engine::kXbyak});
    }
    for (const auto [readers, engine] : all) {
      const char* const engine_name = lc3::kEngineNames.at(static_cast<std::size_t>(engine));
      options.say(fmt::format("feed: {}-byte frames, {} guest{}, {}", frame_bytes, readers, readers == 1 ? "" : "s",
                              engine_name));
      rates.clear();
      for (std::uint64_t round = 0; round < rounds; ++round) {
        WARMFORK_TRY_ASSIGN(const Best best, highest_rate(options, 1e4, most, [&](std::uint64_t rate) -> Result<Trial> {
                              WARMFORK_TRY_ASSIGN(const auto guests, start_readers(options, tape, engine, readers));
                              WARMFORK_TRY_ASSIGN(Trial trial, replay_at(tape, rate, *guests));
                              for (const feed::ReaderReport& report : guests->finish()) {
                                if (!report.program->failure.empty()) {
                                  return fail(ErrorKind::kHost, "feed: {}", report.program->failure);
                                }
                                trial.sustained = trial.sustained && report.dropped == 0;
                              }
                              return trial;
                            }));
        rates.push_back(best.rate);
        lateness = best.lateness_p99_ns;
      }
      const std::string variant = readers > 1                     ? fmt::format("s_{}", readers)
                                  : engine == lc3::Engine::kXbyak ? ""
                                                                  : fmt::format("_{}", engine_name);
      Figure figure = rate_figure(name + "/guest" + variant, frame_bytes, readers, rates, lateness);
      if (frame_bytes == 64) figure.counters["of_10G_line"] = figure.p50 / kLineRate10G;
      set_floor(figure, floor);
      out.push_back(std::move(figure));
    }
    out.push_back(std::move(floor));
  }
  return {};
}

// A replay at a rate that is kept up with: how late packets are, and whether all arrive.
Status measure_replay(const SuiteOptions& options, std::vector<Figure>& out) {
  options.say(fmt::format("feed: replay of {} packets/s", kReplayRate));
  constexpr std::uint32_t kFrameBytes = 64;
  WARMFORK_TRY_ASSIGN(const feed::Tape tape, make_tape(kFrameBytes));
  std::vector<double> rates;
  std::map<std::string, double> counters;
  const std::uint64_t rounds = options.samples(10, 1);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    WARMFORK_TRY_ASSIGN(const auto guests, start_readers(options, tape, lc3::Engine::kXbyak, 1));
    WARMFORK_TRY_ASSIGN(const Trial trial, replay_at(tape, kReplayRate, *guests));
    const feed::ReaderReport& report = guests->finish().front();
    if (!report.program->failure.empty()) return fail(ErrorKind::kHost, "feed: {}", report.program->failure);
    rates.push_back(trial.rate);
    const auto share = [&](double value) { return value / static_cast<double>(rounds); };
    counters["dropped"] += static_cast<double>(report.dropped);
    counters["lateness_p50_ns"] += share(trial.lateness_p50_ns);
    counters["lateness_p99_ns"] += share(trial.lateness_p99_ns);
    counters["lateness_p999_ns"] += share(trial.lateness_p999_ns);
  }
  Figure figure = from_values("feed/replay", "packets/s", rates);
  // The floor of a rate that is given is the rate itself: a clock that is never late.
  Figure floor = from_values("floors/feed/pace", "packets/s", {static_cast<double>(kReplayRate)});
  set_floor(figure, floor);
  figure.params["frame_bytes"] = kFrameBytes;
  figure.counters = std::move(counters);
  out.push_back(std::move(figure));
  out.push_back(std::move(floor));
  return {};
}

// What is left of a message's time when it is there already: no waiting, no other thread.
Status measure_handlers(const SuiteOptions& options, std::vector<Figure>& out) {
  for (const std::uint32_t frame_bytes : {64U, 1500U}) {
    WARMFORK_TRY_ASSIGN(const feed::Tape tape, make_tape(frame_bytes));
    for (const lc3::Engine engine : {lc3::Engine::kInterpreter, lc3::Engine::kXbyak, lc3::Engine::kOrc}) {
      const char* const engine_name = lc3::kEngineNames.at(static_cast<std::size_t>(engine));
      options.say(fmt::format("feed: {} bytes, handler by {}", frame_bytes, engine_name));
      std::vector<double> ns;
      for (std::uint64_t i = 0; i < options.samples(10, 1); ++i) {
        WARMFORK_TRY_ASSIGN(const auto guests, start_readers(options, tape, engine, 1));
        const feed::ReaderReport& report = guests->finish().front();
        if (!report.program->ns_per_message) return fail(ErrorKind::kHost, "feed: {}", report.program->failure);
        ns.push_back(*report.program->ns_per_message);
      }
      Figure figure = from_values(fmt::format("feed/handler/{}/{}", frame_bytes, engine_name), "ns", ns);
      figure.params["frame_bytes"] = frame_bytes;
      out.push_back(std::move(figure));
    }
  }
  return {};
}

}  // namespace

SuiteResult run_feed(const SuiteOptions& options) {
  std::vector<Figure> figures;
  WARMFORK_TRY(pin_to(options.cpu));
  WARMFORK_TRY(measure_handlers(options, figures));
  if (options.cpu == options.other_cpu) {
    options.remark("feed: one CPU; a replay and its reader need one each");
    return figures;
  }
  WARMFORK_TRY(measure_replay(options, figures));
  WARMFORK_TRY(measure_rates(options, figures));
  return figures;
}

}  // namespace warmfork::bench
