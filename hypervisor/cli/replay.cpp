// warmfork replay: a capture file again, in real time.
#include "feed/replay.hpp"

#include "console.hpp"
#include "exit_codes.hpp"
#include "feed/certificate.hpp"
#include "feed/local_readers.hpp"
#include "feed/pcap.hpp"
#include "feed_report.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/feed/feed_readers.hpp"
#include "lc3/feed/words.hpp"
#include "metrics.hpp"
#include "terminal.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::cli {
namespace {

struct Options {
  MetricsOptions metrics;
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
  std::vector<std::string> programs;
  std::string fork = "vm";
  std::string engine = "auto";
  std::string ring = "64M";
  std::string transmit;
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
  std::uint64_t ring_bytes = 0;
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
  if (options.programs.empty() && !options.transmit.empty()) {
    return fail(ErrorKind::kUsage, "--transmit: without --program nobody answers");
  }
  std::error_code no_such_file;
  if (!options.transmit.empty() && std::filesystem::equivalent(options.transmit, options.file, no_such_file)) {
    return fail(ErrorKind::kUsage, "--transmit {}: that is the file to be replayed", options.transmit);
  }
  if (options.programs.size() > 1 && options.readers != 1) {
    return fail(ErrorKind::kUsage, "--readers {} with {} programs: each program is one reader", options.readers,
                options.programs.size());
  }
  if (!options.programs.empty() && options.readers == 0) {
    return fail(ErrorKind::kUsage, "--readers 0: --program would never run");
  }
  WARMFORK_TRY_ASSIGN(plan.ring_bytes, parse_size(options.ring));
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
  if (!options.programs.empty() && options.decode == "raw") {
    WARMFORK_TRY_ASSIGN(feed.tape, lc3::frames_to_words(feed.tape, plan.memory_bytes));
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
  metrics_ready();
  const UniqueFd done(::eventfd(0, EFD_CLOEXEC));
  if (!done) return fail_errno("eventfd");
  feed::ReplayControl control;
  std::optional<metrics::Source> numbers;
  if (metrics::on()) {
    numbers.emplace([&control](metrics::Collector& collector) {
      collector.count(metrics::Family::kFeedPackets, {}, control.published.load(std::memory_order_relaxed));
      collector.count(metrics::Family::kFeedBytes, {}, control.bytes.load(std::memory_order_relaxed));
    });
  }
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

// All that may be used but the replay's own; that one, if there is no other.
std::vector<int> reader_cpus(int replay_cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set) && cpu != replay_cpu) cpus.push_back(cpu);
  }
  if (cpus.empty()) cpus.push_back(replay_cpu);
  return cpus;
}

/// What is left of a replay when its readers have ended.
struct Ended {
  Replayed replayed;
  std::vector<feed::ReaderReport> readers;
  std::optional<feed::Certificate::Answers> answers;
  std::vector<std::string> notes;
  Status transmitted;  // the file of answers
};

Result<Ended> replay_to_threads(const Options& options, const Plan& plan, const Feed& feed,
                                const SignalWatch& signals) {
  WARMFORK_TRY_ASSIGN(
      const std::unique_ptr<feed::LocalReaders> readers,
      feed::LocalReaders::start(feed.tape.longest(), {.readers = options.readers, .cpu = plan.reader_cpu}));
  Ended ended;
  WARMFORK_TRY_ASSIGN(ended.replayed, replay_into(*readers, feed, plan, signals));
  ended.readers = readers->finish();
  return ended;
}

Result<Ended> replay_to_programs(const Options& options, const Plan& plan, const Feed& feed,
                                 const SignalWatch& signals) {
  std::vector<lc3::Program> programs;
  for (const std::string& path : options.programs) {
    WARMFORK_TRY_ASSIGN(lc3::Program program, lc3::load_program(std::span(&path, 1)));
    programs.push_back(std::move(program));
  }
  while (programs.size() < options.readers) programs.push_back(programs.front());
  WARMFORK_TRY_ASSIGN(const kvm::Kvm kvm, open_kvm());
  lc3::FeedReaderOptions how{.fork = options.fork == "vm" ? ForkKind::kVm : ForkKind::kSpace,
                             .engine = *lc3::engine_named(options.engine),
                             .feed_bytes = plan.ring_bytes,
                             .record_bytes = feed.decoded ? std::uint32_t{sizeof(feed::ItchRecord)} : 0,
                             .answers = !options.transmit.empty(),
                             .cpus = reader_cpus(plan.cpu),
                             .hurry = [&] { return signals.signal() != 0; }};
  Ended ended;
  if (how.cpus.front() == plan.cpu) {
    ended.notes.push_back(
        fmt::format("the replay and its readers share CPU {}: lateness is the scheduler's", plan.cpu));
  } else if (how.cpus.size() < programs.size()) {
    ended.notes.push_back(fmt::format("{} readers share {} CPU{}: one waits while another reads", programs.size(),
                                      how.cpus.size(), how.cpus.size() == 1 ? "" : "s"));
  }
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::FeedReaders> readers,
                      lc3::FeedReaders::start(kvm, programs, feed.tape, how));
  // When nothing else can go wrong, as it replaces what is there; before the replay, which would be in vain.
  std::optional<feed::PcapWriter> answers_file;
  if (!options.transmit.empty()) {
    WARMFORK_TRY_ASSIGN(answers_file, feed::PcapWriter::create(options.transmit));
  }
  const std::uint64_t epoch = tsc_now();
  const auto epoch_ns =
      static_cast<std::uint64_t>(std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count());
  WARMFORK_TRY_ASSIGN(ended.replayed, replay_into(*readers, feed, plan, signals));
  ended.readers = readers->finish([&] { return signals.signal() != 0; });
  ended.replayed.counters.interrupted |= signals.signal() != 0;  // also while programs came to their end
  if (answers_file) {
    ended.transmitted = readers->answers().write(std::move(*answers_file), epoch, epoch_ns);
    const lc3::Answers& answers = readers->answers().counts();
    ended.answers = feed::Certificate::Answers{.count = answers.count,
                                               .unnamed = answers.unnamed,
                                               .unkept = answers.unkept,
                                               .file = options.transmit,
                                               .latency = std::nullopt};
    if (answers.ticks.count() != 0) ended.answers->latency = feed::quantiles_of(answers.ticks, tsc_ns_per_tick());
    if (answers.broken != 0) {
      ended.notes.push_back(fmt::format("{} readers broke the rules of the ring for answers", answers.broken));
    }
  }
  return ended;
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(const Plan plan, make_plan(options));
  WARMFORK_TRY_ASSIGN(const Feed feed, load(options, plan));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  WARMFORK_TRY_ASSIGN(Ended ended, options.programs.empty() ? replay_to_threads(options, plan, feed, *signals)
                                                            : replay_to_programs(options, plan, feed, *signals));
  feed::Certificate certificate = feed::make_certificate({.tape = feed.tape,
                                                          .schedule = feed.schedule,
                                                          .counters = ended.replayed.counters,
                                                          .readers = std::move(ended.readers),
                                                          .ns_per_tick = tsc_ns_per_tick(),
                                                          .max_late_ns = plan.max_late_ns});
  certificate.source = options.file;
  certificate.pace = plan.pace.to_text();
  certificate.answers = std::move(ended.answers);
  certificate.notes = std::move(ended.notes);
  certificate.disturbances = ended.replayed.disturbances;
  certificate.truncated = feed.truncated;
  certificate.decoded = feed.decoded;
  certificate.first_malformed = feed.first_malformed;
  certificate.decode_ns_per_message = feed.decode_ns_per_message;
  if (!ended.transmitted) {
    certificate.failures.push_back(
        fmt::format("the answers are not in their file: {}", ended.transmitted.error().message));
  }
  constexpr int kSignalBase = 128;
  int code = certificate.interrupted ? kSignalBase + signals->signal() : (certificate.passed() ? kSuccess : kFailure);
  // What was measured is not lost with the file.
  if (!ended.transmitted) code = report(ended.transmitted.error());
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
      "waits; readers follow it, and lose what they are too slow for: threads of this process, which count and "
      "checksum,\n"
      "or LC-3 programs, each in a fork of its own that can only read the ring.\n\n"
      "  warmfork feed generate day.pcap                      make a feed first\n"
      "  warmfork replay day.pcap                             with the distances it was captured with\n"
      "  warmfork replay day.pcap --speed 10                  ten times as fast\n"
      "  warmfork replay day.pcap --line-rate 10G             a full line of 10 Gbps: 14,880,952 packets/s if "
      "shortest\n"
      "  warmfork replay day.pcap --rate 1M --seconds 5       a million packets a second, over and over for 5 s\n"
      "  warmfork replay day.pcap --rate 250Mbps --max-late 50us    fail if a packet is late by more\n"
      "  warmfork replay day.pcap --max --loop 10 --json      as fast as this machine can\n"
      "  warmfork replay day.pcap --decode itch               readers get records of 16 words instead of frames\n"
      "  warmfork replay day.pcap --program feed_count.asm --readers 2\n"
      "  warmfork replay day.pcap --decode itch --program feed_trigger.asm --transmit orders.pcap\n\n"
      "A program finds the feed at port 0 (registers from xFE20; payloads/lc3/programs/feed_*.asm show how): a frame "
      "is "
      "a\n"
      "message of words in network byte order, at most 1,024; a decoded record is a message of 16 words. Bit 12 of "
      "STATUS\n"
      "says that the stream has ended: then it should halt. With --transmit what it sends from port 1 is written with "
      "the\n"
      "time of its arrival; its first two words are the number of the packet it answers (SEQUENCE, SEQ_HIGH), from "
      "whose\n"
      "time the answer's counts.\n\n"
      "Bits on the wire: each frame with 8 bytes of preamble, 4 of check sequence, 12 of gap, and at least 64 long.\n"
      "A reader fails the replay by losing packets; --max-late by packets that are late. What disturbed it stands in "
      "the\n"
      "certificate: switches to other processes, faults, time that the machine below has stolen. Its floor is how "
      "late\n"
      "packets would be if sending them took no time: how long the CPU was away while the replay only looked at the\n"
      "clock. Ctrl-C ends it, with a certificate of what has been sent.\n\n"
      "Keys of --json: verdict (passed, failed, interrupted), exit_code, interrupted, failures, source, pace, sent\n"
      "(packets, frame_bytes, payload_bytes, wire_bits), seconds, packets_per_second, wire_gbps,\n"
      "wanted_packets_per_second, lateness_ns (p50, p90, p99, p999, max, mean), lateness_floor_ns (p99, p999,\n"
      "max; 0: less than resolution), waiting (seconds, stalls, stalled_seconds), max_late_ns and late, readers "
      "(name,\n"
      "received, dropped; bytes and checksum, or published, instructions, instructions_per_message, ns_per_message,\n"
      "end, failure, output, registers), answers (count, unnamed, unkept, file, latency_ns), notes,\n"
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
  verb->add_option("--readers", options->readers, "Threads that read, or forks of the one --program")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  verb->add_option("--program", options->programs,
                   "Read by this LC-3 program (.asm, .obj); again for more, each a reader")
      ->type_name("FILE")
      ->take_all()
      ->expected(1);
  verb->add_option("--fork", options->fork, "What separates programs: vm (a KVM VM each) or space (page tables)")
      ->check(CLI::IsMember({"space", "vm"}))
      ->capture_default_str();
  verb->add_option("--engine", options->engine, "What executes programs")
      ->check(CLI::IsMember({"interp", "xbyak", "orc", "auto"}))
      ->capture_default_str();
  verb->add_option("--ring", options->ring,
                   "The ring that programs read, a power of two: how far they may fall behind (64M: 56 ms at 10 Gbps)")
      ->type_name("SIZE")
      ->capture_default_str();
  verb->add_option("--transmit", options->transmit, "Write what programs send from port 1 here, a nanosecond pcap")
      ->type_name("FILE");
  verb->add_option("--memory", options->memory, "For packets, and again for records; a file that needs more is refused")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "The certificate as one JSON object");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, "replay " + options->file, [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
