// warmfork replay: a capture file again, in real time.
#include "feed/replay.hpp"

#include "console.hpp"
#include "exit_codes.hpp"
#include "feed/certificate.hpp"
#include "feed/local_readers.hpp"
#include "feed/pcap.hpp"
#include "feed_report.hpp"
#include "terminal.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace warmfork::cli {
namespace {

struct Options {
  std::string file;
  std::optional<double> speed;
  std::string line_rate;
  std::string rate;
  bool unpaced = false;
  std::string max_late;
  std::string decode = "raw";
  std::uint64_t loops = 0;
  std::string seconds;
  std::optional<int> cpu;
  unsigned readers = 1;
  std::string memory = "1G";
  bool json = false;
};

/// What the options mean, checked.
struct Plan {
  feed::Pace pace;
  feed::ReplayLimits limits;
  std::optional<double> max_late_ns;
  std::size_t memory_bytes = 0;
  int cpu = -1, reader_cpu = -1;
};

/// What is replayed, all of it made ahead.
struct Feed {
  feed::Tape tape;
  feed::Schedule schedule;
  std::optional<std::string> truncated;
  std::optional<feed::DecodeCounters> decoded;
  std::string first_malformed;
  double decode_ns_per_message = 0;
};

/// What the replaying thread leaves behind.
struct Replayed {
  feed::ReplayCounters counters;
  feed::Disturbances disturbances;
};

Result<feed::Pace> pace_of(const Options& options) {
  feed::Pace pace;
  if (options.speed) {
    pace.speed = *options.speed;
    if (!(pace.speed > 0 && std::isfinite(pace.speed))) {
      return fail(ErrorKind::kUsage, "--speed {}: more than 0 is needed", pace.speed);
    }
  }
  if (options.unpaced) pace.kind = feed::Pace::Kind::kUnpaced;
  constexpr std::string_view kBits = "bps", kPackets = "pps";
  std::string text = options.rate;
  if (!options.line_rate.empty())
    text = options.line_rate + std::string(options.line_rate.ends_with(kBits) ? "" : kBits);
  if (!text.empty()) {
    const bool bits = text.ends_with(kBits);
    pace.kind = bits ? feed::Pace::Kind::kBits : feed::Pace::Kind::kPackets;
    if (bits || text.ends_with(kPackets)) text.resize(text.size() - kBits.size());
    WARMFORK_TRY_ASSIGN(pace.per_second, parse_count(text, bits ? "rate in bits/s" : "rate in packets/s"));
    if (pace.per_second == 0) return fail(ErrorKind::kUsage, "a rate of 0; at least 1 is needed");
  }
  return pace;
}

Result<Plan> make_plan(const Options& options) {
  Plan plan;
  WARMFORK_TRY_ASSIGN(plan.pace, pace_of(options));
  WARMFORK_TRY_ASSIGN(plan.memory_bytes, parse_size(options.memory));
  if (plan.memory_bytes == 0) return fail(ErrorKind::kUsage, "--memory 0: at least 1 is needed");
  if (options.loops != 0) plan.limits.loops = options.loops;
  if (!options.seconds.empty()) {
    WARMFORK_TRY_ASSIGN(const std::uint64_t ns, parse_duration(options.seconds));
    plan.limits.ticks = ns_to_tsc(static_cast<double>(ns));
    if (options.loops == 0) plan.limits.loops = ~std::uint64_t{0};
  }
  if (!options.max_late.empty()) {
    if (options.unpaced) return fail(ErrorKind::kUsage, "--max-late: with --max nothing has a time to be late from");
    WARMFORK_TRY_ASSIGN(const std::uint64_t ns, parse_duration(options.max_late));
    plan.max_late_ns = static_cast<double>(ns);
    plan.limits.max_late = ns_to_tsc(static_cast<double>(ns));
  }
  const auto [last, first] = choose_cpus();
  plan.cpu = options.cpu.value_or(last);
  plan.reader_cpu = plan.cpu == first ? last : first;
  return plan;
}

Result<Feed> load(const Options& options, const Plan& plan) {
  WARMFORK_TRY_ASSIGN(feed::Recording recording, feed::read_pcap(options.file, {.memory_bytes = plan.memory_bytes}));
  Feed feed;
  feed.truncated = std::move(recording.truncated);
  feed.tape = std::move(recording.tape);
  if (options.decode == "itch") {
    WARMFORK_TRY_ASSIGN(feed::DecodedTape decoded, feed::decode_itch(feed.tape, plan.memory_bytes));
    if (decoded.counters.messages == 0) {
      return fail(ErrorKind::kInput, "{}: no ITCH message in {} packets{}{}", options.file, decoded.counters.frames,
                  decoded.first_malformed.empty() ? "" : "; ", decoded.first_malformed);
    }
    feed.tape = std::move(decoded.tape);
    feed.decoded = decoded.counters;
    feed.first_malformed = std::move(decoded.first_malformed);
    feed.decode_ns_per_message = decoded.decode_ns / static_cast<double>(decoded.counters.messages);
  }
  const auto ticks_per_second = static_cast<std::uint64_t>(std::llround(1e9 / tsc_ns_per_tick()));
  WARMFORK_TRY_ASSIGN(feed.schedule, feed::Schedule::make(feed.tape, plan.pace, ticks_per_second));
  if (feed.schedule.paced() && feed.schedule.period() == 0 && plan.limits.loops > 1) {
    return fail(ErrorKind::kUsage,
                "{}: all packets have the same time, so they cannot be repeated as captured; "
                "say how fast: --rate, --line-rate or --max",
                options.file);
  }
  return feed;
}

Status pin_this_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu < 0 || cpu >= CPU_SETSIZE)
    return fail(ErrorKind::kUsage, "CPU {}: 0 to {} are possible", cpu, CPU_SETSIZE - 1);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0) {
    return fail(ErrorKind::kHost, "CPU {} cannot be used: {}", cpu, std::strerror(error));
  }
  return {};
}

void show_progress(std::uint64_t packets, std::uint64_t before, double seconds) {
  print_message("\r\033[K{} packets, {:.0f}/s", packets, static_cast<double>(packets - before) / seconds);
}

/// Replays on a thread of its own, and waits: for its end, for signals, and once a second to say how far it is.
template <feed::FeedSink Sink>
Result<Replayed> replay_into(Sink& sink, const Feed& feed, const Plan& plan, const SignalWatch& signals) {
  const UniqueFd done(::eventfd(0, EFD_CLOEXEC));
  if (!done) return fail_errno("eventfd");
  feed::ReplayControl control;
  Replayed result;
  Status pinned;
  std::thread thread([&] {
    pinned = pin_this_thread(plan.cpu);
    if (pinned) {
      feed::TscTicks clock;
      const feed::Disturbances before = feed::disturbances_now();
      feed::replay(feed.tape, feed.schedule, sink, clock, plan.limits, control, result.counters);
      result.disturbances = feed::disturbances_now() - before;
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(done.get(), &one, sizeof one);
  });
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  std::uint64_t shown = 0;
  for (;;) {
    std::array<pollfd, 2> ready{pollfd{.fd = done.get(), .events = POLLIN, .revents = 0},
                                pollfd{.fd = control.stop.load() ? -1 : signals.fd(), .events = POLLIN, .revents = 0}};
    const int count = ::poll(ready.data(), ready.size(), 1000);
    if (count > 0 && ready[0].revents != 0) break;
    if (signals.signal() != 0) control.stop.store(true);
    if (count == 0 && terminal) {
      const std::uint64_t packets = control.published.load(std::memory_order_relaxed);
      show_progress(packets, shown, 1);
      shown = packets;
    }
  }
  thread.join();
  if (shown != 0) print_message("\r\033[K");
  WARMFORK_TRY(std::move(pinned));
  return result;
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(const Plan plan, make_plan(options));
  WARMFORK_TRY_ASSIGN(const Feed feed, load(options, plan));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  // Readers of another kind are another sink: replay_into() takes any.
  WARMFORK_TRY_ASSIGN(
      const std::unique_ptr<feed::LocalReaders> readers,
      feed::LocalReaders::start(feed.tape.longest(), {.readers = options.readers, .cpu = plan.reader_cpu}));
  WARMFORK_TRY_ASSIGN(const Replayed replayed, replay_into(*readers, feed, plan, *signals));
  feed::Certificate certificate = feed::make_certificate({.tape = feed.tape,
                                                          .schedule = feed.schedule,
                                                          .counters = replayed.counters,
                                                          .readers = readers->finish(),
                                                          .ns_per_tick = tsc_ns_per_tick(),
                                                          .max_late_ns = plan.max_late_ns});
  certificate.source = options.file;
  certificate.pace = plan.pace.to_text();
  certificate.disturbances = replayed.disturbances;
  certificate.truncated = feed.truncated;
  certificate.decoded = feed.decoded;
  certificate.first_malformed = feed.first_malformed;
  certificate.decode_ns_per_message = feed.decode_ns_per_message;
  constexpr int kSignalBase = 128;
  const int code =
      certificate.interrupted ? kSignalBase + signals->signal() : (certificate.passed() ? kSuccess : kFailure);
  options.json ? print_json(to_json(certificate, code)) : fmt::print("{}", feed::to_text(certificate));
  return code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  return code ? *code : report(code.error());
}

}  // namespace

void add_replay(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("replay", "Replay a capture file in real time, and certify how well that went");
  verb->footer(
      "The file (pcap or pcapng, Ethernet) is read, checked and scheduled completely before the first packet is sent.\n"
      "Each packet has a time of its own, counted from the start; its lateness counts from that, whenever the packet\n"
      "before it left. A replay that falls behind catches up and leaves nothing out. Packets go into a ring that "
      "never\n"
      "waits; readers (for now threads of this process, which count and checksum) follow it, and lose what they are "
      "too\n"
      "slow for.\n\n"
      "  warmfork feed generate day.pcap                      make a feed first\n"
      "  warmfork replay day.pcap                             with the distances it was captured with\n"
      "  warmfork replay day.pcap --speed 10                  ten times as fast\n"
      "  warmfork replay day.pcap --line-rate 10G             a full line of 10 Gbps: 14,880,952 packets/s if "
      "shortest\n"
      "  warmfork replay day.pcap --rate 1M --seconds 5       a million packets a second, over and over for 5 s\n"
      "  warmfork replay day.pcap --rate 250Mbps --max-late 50us    fail if a packet is late by more\n"
      "  warmfork replay day.pcap --max --loop 10 --json      as fast as this machine can\n"
      "  warmfork replay day.pcap --decode itch               readers get records of 16 words instead of frames\n\n"
      "Bits on the wire: each frame with 8 bytes of preamble, 4 of check sequence, 12 of gap, and at least 64 long.\n"
      "A reader fails the replay by losing packets; --max-late by packets that are late. What disturbed it stands in "
      "the\n"
      "certificate: switches to other processes, faults, time that the machine below has stolen. Ctrl-C ends it, with\n"
      "a certificate of what has been sent.\n\n"
      "Keys of --json: verdict (passed, failed, interrupted), exit_code, interrupted, failures, source, pace, sent\n"
      "(packets, frame_bytes, payload_bytes, wire_bits), seconds, packets_per_second, wire_gbps,\n"
      "wanted_packets_per_second, lateness_ns (p50, p90, p99, p999, max, mean), max_late_ns and late, readers,\n"
      "disturbances, truncated_packets, decoded (of the file, once).\n\n"
      "Exit codes: 0 passed · 1 failed · 2 wrong usage · 3 bad file · 4 out of memory, CPU not usable · 130 Ctrl-C");
  verb->add_option("file", options->file, "The capture: .pcap, .pcapng")->required()->type_name("FILE");
  auto* const pace = verb->add_option_group("Pace", "One of them; without, as captured");
  pace->add_option("--speed", options->speed, "So many times as fast as captured");
  pace->add_option("--line-rate", options->line_rate, "Bits per second on the wire, without a pause")->type_name("10G");
  pace->add_option("--rate", options->rate, "Packets per second (1M), or bits on the wire (250Mbps)")
      ->type_name("RATE");
  pace->add_flag("--max", options->unpaced, "As fast as possible; no lateness then");
  pace->require_option(0, 1);
  verb->add_option("--max-late", options->max_late, "Fail if a packet is late by more (50us, 1ms)")->type_name("TIME");
  verb->add_option("--decode", options->decode, "What readers get: frames as they are, or records (ahead of time)")
      ->check(CLI::IsMember({"raw", "itch"}))
      ->capture_default_str();
  verb->add_option("--loop", options->loops, "The file so many times (default: once, or as --seconds says)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
      ->type_name("N");
  verb->add_option("--seconds", options->seconds, "Send what is due in that time (5, 250ms), repeating the file")
      ->type_name("TIME");
  verb->add_option("--cpu", options->cpu, "Where the replay runs (default: the last that may be used)")
      ->check(CLI::Range(0, CPU_SETSIZE - 1))
      ->type_name("N");
  verb->add_option("--readers", options->readers, "Threads that read")->check(CLI::Range(0, 64))->capture_default_str();
  verb->add_option("--memory", options->memory, "For packets, and again for records; a file that needs more is refused")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "The certificate as one JSON object");
  verb->callback([options, &outcome] { outcome.code = run(*options); });
}

}  // namespace warmfork::cli
