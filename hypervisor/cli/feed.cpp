// warmfork feed: capture files of market data, made and looked into.
#include "console.hpp"
#include "exit_codes.hpp"
#include "feed/certificate.hpp"
#include "feed/decode.hpp"
#include "feed/generator.hpp"
#include "feed/pcap.hpp"
#include "feed_report.hpp"
#include "option_checks.hpp"
#include "verbs.hpp"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>

namespace warmfork::cli {
namespace {

// Where generated captures begin: 2023-11-15, 00:00:00 UTC. A constant, so that the same options give the same file.
constexpr std::uint64_t kMidnight = std::uint64_t{1'700'006'400} * 1'000'000'000;

struct GenerateOptions {
  std::string file;
  std::string packets = "100k";
  std::string rate = "1M";
  feed::GeneratorOptions feed;
  std::string memory = "1G";
  bool json = false;
};

struct InspectOptions {
  std::string file;
  std::string memory = "1G";
  bool json = false;
};

Result<int> generate(GenerateOptions options) {
  WARMFORK_TRY_ASSIGN(options.feed.packets, parse_count(options.packets, "number of packets"));
  WARMFORK_TRY_ASSIGN(options.feed.rate, parse_count(options.rate, "rate in packets/s"));
  WARMFORK_TRY_ASSIGN(const std::uint64_t memory, parse_size(options.memory));
  WARMFORK_TRY_ASSIGN(const feed::Tape tape, feed::generate_feed(options.feed, memory));
  WARMFORK_TRY(feed::write_pcap(options.file, tape, kMidnight + feed::kDayBeginsNs));
  if (options.json) {
    print_json({{"file", options.file}, {"sent", to_json(tape.totals())}, {"duration_ns", tape.duration_ns()}});
  } else {
    fmt::print("{}: {} packets, {} bytes, {:.3f} ms\n", options.file, tape.totals().packets, tape.totals().frame_bytes,
               static_cast<double>(tape.duration_ns()) / 1e6);
  }
  return kSuccess;
}

Result<int> inspect(const InspectOptions& options) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t memory, parse_size(options.memory));
  if (memory == 0) return fail(ErrorKind::kUsage, "--memory 0: at least 1 is needed");
  WARMFORK_TRY_ASSIGN(const feed::Recording recording, feed::read_pcap(options.file, {.memory_bytes = memory}));
  WARMFORK_TRY_ASSIGN(const feed::DecodedTape decoded, feed::decode_itch(recording.tape, memory));
  const feed::TapeTotals& totals = recording.tape.totals();
  const double seconds = static_cast<double>(recording.tape.duration_ns()) / 1e9;
  const double ns =
      decoded.counters.messages == 0 ? 0 : decoded.decode_ns / static_cast<double>(decoded.counters.messages);
  if (options.json) {
    nlohmann::ordered_json json{{"file", options.file},
                                {"captured", to_json(totals)},
                                {"duration_ns", recording.tape.duration_ns()},
                                {"truncated_packets", recording.truncated ? 1 : 0},
                                {"decoded", to_json(decoded.counters)}};
    json["decoded"]["ns_per_message"] = ns;
    if (recording.truncated) json["truncated"] = *recording.truncated;
    if (!decoded.first_malformed.empty()) json["decoded"]["first_malformed"] = decoded.first_malformed;
    print_json(json);
    return kSuccess;
  }
  fmt::print("{}\n  {:<12}{} packets, {} bytes in {:.6f} s\n", options.file, "captured", totals.packets,
             totals.frame_bytes, seconds);
  if (seconds > 0) {
    fmt::print("  {:<12}{:.0f} packets/s, {:.3f} Gbps on the wire\n", "rate",
               static_cast<double>(totals.packets) / seconds, static_cast<double>(totals.wire_bits) / seconds / 1e9);
  }
  fmt::print("  {:<12}{}", "decoded", feed::to_text(decoded.counters));
  if (!decoded.first_malformed.empty()) fmt::print("  {:<12}the first in {}\n", "malformed", decoded.first_malformed);
  if (decoded.counters.messages != 0) fmt::print("  {:<12}{:.1f} ns a message\n", "decoder", ns);
  if (recording.truncated) fmt::print("  {:<12}1 packet is cut off: {}\n", "file", *recording.truncated);
  return kSuccess;
}

template <class Options, class Run>
int run(const Options& options, Run verb) {
  const auto code = verb(options);
  return code ? *code : report(code.error());
}

void add_generate(CLI::App& feed_verb, Outcome& outcome) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* verb = feed_verb.add_subcommand("generate", "Make a capture file of a feed that no exchange has sent");
  verb->footer(
      "The same options give the same file. ITCH content is a day of a small market: orders are added, executed,\n"
      "cancelled, replaced and deleted only as a consistent book allows, system events open and close the day, the\n"
      "session ends. Sequence numbers count on over packets that are lost.\n\n"
      "  warmfork feed generate day.pcap                                    100,000 packets of one message, 1M/s\n"
      "  warmfork feed generate day.pcap --pattern poisson --messages 4 --symbols 100 --seed 7\n"
      "  warmfork feed generate lossy.pcap --gap-every 1000 --heartbeat-every 500\n"
      "  warmfork feed generate small.pcap --content raw --size 64 --packets 1M     the shortest frames there are\n\n"
      "Exit codes: 0 written · 2 wrong usage · 4 cannot be written, out of memory · 6 more than --memory");
  static const std::map<std::string, feed::Pattern> kPatterns{
      {"constant", feed::Pattern::kConstant}, {"poisson", feed::Pattern::kPoisson}, {"burst", feed::Pattern::kBurst}};
  static const std::map<std::string, feed::Content> kContents{{"raw", feed::Content::kRaw},
                                                              {"itch", feed::Content::kItch}};
  verb->add_option("file", options->file, "The capture file to write")->required()->type_name("OUT.pcap");
  verb->add_option("--packets", options->packets, "How many are sent, those lost included (10k, 2M)")
      ->capture_default_str();
  verb->add_option("--rate", options->rate, "Packets per second, in the mean")->capture_default_str();
  verb->add_option("--pattern", options->feed.pattern,
                   "constant: evenly; poisson: exponential distances; burst: several at 10 Gbps, then silence")
      ->transform(CLI::CheckedTransformer(kPatterns).description("{constant,poisson,burst}"))
      ->default_str("constant");
  verb->add_option("--burst", options->feed.burst, "Packets of a burst")->capture_default_str();
  verb->add_option("--content", options->feed.content, "itch: MoldUDP64 with ITCH 5.0; raw: UDP with random bytes")
      ->transform(CLI::CheckedTransformer(kContents).description("{itch,raw}"))
      ->default_str("itch");
  verb->add_option("--messages", options->feed.messages, "Of a packet (itch)")->capture_default_str();
  verb->add_option("--symbols", options->feed.symbols, "How many there are (itch)")->capture_default_str();
  verb->add_option("--size", options->feed.frame_bytes, "Bytes of a frame with its check sequence (raw)")
      ->capture_default_str();
  verb->add_option("--gap-every", options->feed.gap_every, "Lose every Nth packet; 0: none")
      ->check(whole_number())
      ->capture_default_str();
  verb->add_option("--heartbeat-every", options->feed.heartbeat_every,
                   "A heartbeat after every Nth packet (itch); 0: none")
      ->check(whole_number())
      ->capture_default_str();
  verb->add_option("--seed", options->feed.seed, "Of everything random")->check(whole_number())->capture_default_str();
  verb->add_option("--memory", options->memory, "The feed is made in memory; one that needs more is refused")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "What was made as JSON");
  verb->callback([options, &outcome] { outcome.code = run(*options, generate); });
}

void add_inspect(CLI::App& feed_verb, Outcome& outcome) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* verb = feed_verb.add_subcommand("inspect", "What is in a capture file: rates, messages, what is missing");
  verb->footer(
      "Decodes Ethernet (with a VLAN tag or without), IPv4, UDP, MoldUDP64 and ITCH 5.0. Packets of anything else are\n"
      "counted as other frames; what is not what it says it is, as malformed.\n\n"
      "  warmfork feed inspect day.pcap\n  warmfork feed inspect day.pcapng --json\n\n"
      "Exit codes: 0 read · 2 wrong usage · 3 bad file · 4 out of memory");
  verb->add_option("file", options->file, "The capture: .pcap, .pcapng")->required()->type_name("FILE");
  verb->add_option("--memory", options->memory, "For packets, and again for records; a file that needs more is refused")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "The same as JSON");
  verb->callback([options, &outcome] { outcome.code = run(*options, inspect); });
}

}  // namespace

void add_feed(CLI::App& app, Outcome& outcome) {
  CLI::App* verb = app.add_subcommand("feed", "Make and look into capture files of market data, for replay");
  verb->require_subcommand(1);
  add_generate(*verb, outcome);
  add_inspect(*verb, outcome);
}

}  // namespace warmfork::cli
