// --metrics of every verb: what it serves while it runs, and that its numbers are those of the verb's own report.
#include "process.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

namespace warmfork::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kPrograms = WARMFORK_LC3_PROGRAMS "/";
constexpr const char* kEndless = ".ORIG x3000\nLOOP BRnzp LOOP\n.END\n";

sockaddr_in local(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// One that was free a moment ago.
int free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = local(0);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

// The whole answer; empty: nobody listens.
std::string get(int port, const std::string& path) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in address = local(port);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return "";
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  if (::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return "";
  std::string all;
  char buffer[4096];
  for (ssize_t got; (got = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;)
    all.append(buffer, static_cast<std::size_t>(got));
  return all;
}

bool comes_to_say(int port, const std::string& path, const std::string& text) {
  for (const double end = seconds_now() + 60; seconds_now() < end; ::usleep(20'000)) {
    if (get(port, path).find(text) != std::string::npos) return true;
  }
  return false;
}

// "name{labels}" -> value.
std::map<std::string, double> series_of(const std::string& text) {
  std::map<std::string, double> series;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t blank = line.rfind(' ');
    if (line.empty() || line[0] == '#' || blank == std::string::npos) continue;
    series[line.substr(0, blank)] = std::stod(line.substr(blank + 1));
  }
  return series;
}

class MetricsCli : public CliKvmTest {};
class MetricsOption : public CliTest {};

TEST_F(MetricsOption, EveryVerbThatRunsForLongHasIt) {
  const std::string hello = kPrograms + "hello.asm";
  for (const Arguments& verb : std::vector<Arguments>{{"run", hello},
                                                      {"debug", hello},
                                                      {"exec", "--metrics", "nonsense", "/bin/true"},
                                                      {"fleet", "f.toml"},
                                                      {"grade", "s", "--tests", "t.toml"},
                                                      {"replay", "x.pcap"},
                                                      {"ivshmem"},
                                                      {"bench", "floors"},
                                                      {"lockstep"},
                                                      {"verify-reset"},
                                                      {"study", "branches", hello},
                                                      {"compare"},
                                                      {"snapshot", "save", "x", "-o", "x.snap"},
                                                      {"snapshot", "call", "x.snap", "f"}}) {
    Arguments arguments = verb;
    if (verb.front() != "exec") arguments.insert(arguments.end(), {"--metrics", "nonsense"});
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, 2) << verb.front() << ": " << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("--metrics nonsense: no address")) << verb.front();
  }
}

TEST_F(MetricsOption, TheTableIsTheOneInTheReadme) {
  const Ended ended = run_cli({"metrics"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(read_text(WARMFORK_METRICS_README), HasSubstr(ended.out))
      << "hypervisor/metrics/README.md: its table is what `warmfork metrics` prints";
}

TEST_F(MetricsCli, AFileThatCannotBeIsRefusedBeforeTheRun) {
  const std::string program = file("endless.asm", kEndless);
  for (const std::string where : {"/dev/full", "/nonexistent/m", "/tmp", ""}) {
    const Ended ended = run_cli({"run", "--metrics-file", where, "--timeout", "30s", program});
    EXPECT_THAT(ended.code, ::testing::AnyOf(2, 4)) << where;
    EXPECT_THAT(ended.err, HasSubstr("--metrics-file")) << where;
    EXPECT_LT(ended.seconds, 25) << where;
  }
  EXPECT_EQ(run_cli({"run", "--metrics", "", program}).code, 2) << "no server where one was asked for";
}

TEST_F(MetricsCli, TheFileIsReadableByWhomTheUmaskLets) {
  const std::string program = file("endless.asm", kEndless), numbers = path("m");
  const mode_t before = ::umask(022);
  EXPECT_EQ(run_cli({"run", "--metrics-file", numbers, "--budget", "1k", program}).code, 6);
  ::umask(before);
  EXPECT_EQ(static_cast<unsigned>(std::filesystem::status(numbers).permissions()), 0644U);
}

TEST_F(MetricsCli, AFileThatCannotBeWrittenInTheEndLeavesTheExitCode) {
  const std::string program = file("endless.asm", kEndless), directory = path("gone");
  std::filesystem::create_directory(directory);
  const int port = free_port();
  Process process({"run", "--metrics", std::to_string(port), "--metrics-file", directory + "/m", program});
  ASSERT_TRUE(comes_to_say(port, "/readyz", "200 OK"));
  std::filesystem::remove(directory);
  process.send(SIGINT);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 130);
  EXPECT_THAT(ended.err, HasSubstr("--metrics-file"));
}

TEST_F(MetricsCli, ServesWhileAProgramRuns) {
  const int port = free_port();
  Process running({"run", file("endless.asm", kEndless), "--metrics", std::to_string(port)});
  ASSERT_TRUE(comes_to_say(port, "/readyz", "ready\n"));
  ASSERT_TRUE(comes_to_say(port, "/readyz", "HTTP/1.1 200"));
  const std::string text = get(port, "/metrics");
  EXPECT_THAT(text,
              AllOf(HasSubstr("warmfork_vm_state{vm="), HasSubstr("warmfork_lc3_instructions_total{engine=\"auto\"}"),
                    HasSubstr("warmfork_vmcall_duration_seconds_bucket{mode=\"vm\"")));
  const std::string live = get(port, "/live.json");
  const auto json = nlohmann::json::parse(live.substr(live.find("\r\n\r\n") + 4));
  EXPECT_THAT(json["command"].get<std::string>(), HasSubstr("run "));
  // Somebody else cannot have the port meanwhile.
  const Ended second = run_cli({"run", kPrograms + "hello.asm", "--metrics", std::to_string(port)});
  EXPECT_EQ(second.code, 4);
  EXPECT_THAT(second.err,
              HasSubstr(fmt::format("--metrics 127.0.0.1:{}: cannot listen there: Address already in use", port)));
  EXPECT_EQ(second.out, "");
  running.send(SIGINT);
  EXPECT_EQ(running.wait().code, 130);
}

TEST_F(MetricsCli, NumbersAreThoseOfTheReportOfARun) {
  const Ended ended = run_cli({"run", kPrograms + "sieve.asm", "--json", "--metrics-file", path("m.txt")});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto report = nlohmann::json::parse(ended.out);
  auto series = series_of(read_text(path("m.txt")));
  EXPECT_EQ(series["warmfork_lc3_instructions_total{engine=\"auto\"}"], report["executed"].get<double>());
  EXPECT_EQ(series["warmfork_vm_instructions_total{vm=\"" + kPrograms + "sieve.asm\"}"],
            report["executed"].get<double>());
  EXPECT_EQ(series["warmfork_vm_state{vm=\"" + kPrograms + "sieve.asm\",state=\"done\"}"], 1);
  const double calls = series["warmfork_vmcalls_total{mode=\"vm\",result=\"ok\"}"] +
                       series["warmfork_vmcalls_total{mode=\"vm\",result=\"budget\"}"];
  EXPECT_GT(calls, 0);
  EXPECT_EQ(series["warmfork_vmcall_duration_seconds_count{mode=\"vm\"}"], calls);
  EXPECT_EQ(series["warmfork_exits_total{reason=\"return\"}"], calls);
}

TEST_F(MetricsCli, ADebuggerCountsInstructionsAlsoThoseExecutedAgain) {
  const std::string program = file("endless.asm", kEndless);
  const Ended ended = run_cli({"debug", program, "--metrics-file", path("m.txt"), "--command", "step 1000", "--command",
                               "back 400", "--command", "step 10"});
  ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  auto series = series_of(read_text(path("m.txt")));
  EXPECT_EQ(series["warmfork_vm_instructions_total{vm=\"" + program + "\"}"], 1000 + 600 + 10)
      << "back means: from the beginning again";
  EXPECT_EQ(series["warmfork_lc3_instructions_total{engine=\"auto\"}"], 1000 + 600 + 10);
  EXPECT_EQ(series["warmfork_vm_state{vm=\"" + program + "\",state=\"done\"}"], 1);
}

TEST_F(MetricsCli, ADebuggerServesWhileItsProgramRuns) {
  const std::string program = file("endless.asm", kEndless);
  const int port = free_port();
  Process running({"debug", program, "--command", "continue", "--metrics", std::to_string(port)});
  ASSERT_TRUE(comes_to_say(port, "/readyz", "200 OK"));
  EXPECT_TRUE(comes_to_say(port, "/metrics", "warmfork_vm_state{vm=\"" + program + "\",state=\"running\"} 1"));
  running.send(SIGINT);
  EXPECT_EQ(running.wait().code, 130);
}

TEST_F(MetricsCli, SavingASnapshotCountsTheCallsThatWarmIt) {
  const Ended ended = run_cli({"snapshot", "save", WARMFORK_FORKS_GUEST, "-o", path("a.snap"), "--call", "count",
                               "--call", "count", "--metrics-file", path("m.txt")});
  ASSERT_EQ(ended.code, 0) << ended.err;
  auto series = series_of(read_text(path("m.txt")));
  EXPECT_EQ(series["warmfork_vmcalls_total{mode=\"vm\",result=\"ok\"}"], 2);
  EXPECT_EQ(series["warmfork_vm_state{vm=\"" WARMFORK_FORKS_GUEST "\",state=\"done\"}"], 1);
}

TEST_F(MetricsCli, NumbersAreThoseOfTheReportOfAFleet) {
  const std::string fleet =
      file("f.toml", fmt::format("[[machine]]\nname = \"a\"\nprogram = \"{0}hello.asm\"\ncount = 3\n"
                                 "[[machine]]\nname = \"b\"\nprogram = \"{1}\"\nbudget = \"50k\"\n"
                                 "[[machine]]\nname = \"c\"\nprogram = \"{2}\"\nfork = \"vm\"\n",
                                 kPrograms, file("endless.asm", kEndless),
                                 file("fault.asm", ".ORIG x3000\n.FILL xD000\n.END\n")));
  const Ended ended = run_cli({"fleet", fleet, "--json", "--metrics", "0", "--metrics-file", path("m.txt")});
  EXPECT_THAT(ended.err, HasSubstr("metrics: http://127.0.0.1:"));
  const auto report = nlohmann::json::parse(ended.out);
  auto series = series_of(read_text(path("m.txt")));
  double all = 0;
  for (const auto& machine : report["machines"]) {
    const auto name = machine["name"].get<std::string>();
    const auto executed = machine["instructions"].get<double>();
    EXPECT_EQ(series["warmfork_vm_instructions_total{vm=\"" + name + "\"}"], executed) << name;
    all += executed;
  }
  EXPECT_EQ(series["warmfork_lc3_instructions_total{engine=\"auto\"}"], all);
  EXPECT_EQ(series["warmfork_vm_state{vm=\"a.2\",state=\"done\"}"], 1);
  EXPECT_EQ(series["warmfork_vm_state{vm=\"b\",state=\"stopped\"}"], 1);
  EXPECT_EQ(series["warmfork_vm_faults_total{vm=\"c\"}"], 1);
  EXPECT_EQ(series["warmfork_vm_state{vm=\"c\",state=\"faulted\"}"], 1);
  EXPECT_EQ(series["warmfork_guest_instruction_budget{vm=\"b\"}"], 50'000);
  EXPECT_EQ(series["warmfork_forks_total{kind=\"space\"}"], 4);
  EXPECT_EQ(series["warmfork_forks_total{kind=\"vm\"}"], 1);
}

TEST_F(MetricsCli, LinksCountTheMessagesOfTheReport) {
  const Ended ended = run_cli({"fleet", kPrograms + "bus/pipeline.toml", "--json", "--metrics-file", path("m.txt")});
  ASSERT_EQ(ended.code, 0) << ended.err;
  auto series = series_of(read_text(path("m.txt")));
  for (const auto& link : nlohmann::json::parse(ended.out)["links"]) {
    const std::string name = link["from"].get<std::string>() + "->" + link["to"].get<std::string>();
    EXPECT_GT(link["sent"].get<double>(), 0);
    EXPECT_EQ(series["warmfork_link_messages_total{link=\"" + name + "\"}"], link["sent"].get<double>()) << name;
  }
}

TEST_F(MetricsCli, NumbersAreThoseOfTheReportOfGrading) {
  file("a.asm", ".ORIG x3000\nHALT\n.END\n");
  std::string tests;
  for (int i = 0; i < 20; ++i) tests += fmt::format("[[test]]\nname = \"t{}\"\noutput = \"\"\n", i);
  const Ended ended =
      run_cli({"grade", path("a.asm"), "--tests", file("t.toml", tests), "--json", "--metrics-file", path("m.txt")});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const double runs = nlohmann::json::parse(ended.out)["runs"].get<double>();
  auto series = series_of(read_text(path("m.txt")));
  EXPECT_EQ(runs, 20);
  EXPECT_EQ(series["warmfork_pool_acquire_duration_seconds_count"], runs);
  double resets = 0, timed = 0;
  for (const char* const strategy : {"full_copy", "dirty_log", "dirty_ring", "cow_remap"}) {
    resets += series[fmt::format("warmfork_resets_total{{strategy=\"{}\"}}", strategy)];
    timed += series[fmt::format("warmfork_reset_duration_seconds_count{{strategy=\"{}\"}}", strategy)];
  }
  EXPECT_EQ(resets, runs);
  EXPECT_EQ(timed, runs);
}

TEST_F(MetricsCli, AReplayCountsItsPacketsAndReaders) {
  ASSERT_EQ(run_cli({"feed", "generate", path("day.pcap"), "--packets", "2k"}).code, 0);
  const Ended ended = run_cli(
      {"replay", path("day.pcap"), "--rate", "100k", "--readers", "2", "--json", "--metrics-file", path("m.txt")});
  const auto report = nlohmann::json::parse(ended.out);
  auto series = series_of(read_text(path("m.txt")));
  const auto packets = report["sent"]["packets"].get<double>();
  EXPECT_GT(packets, 0);
  EXPECT_EQ(series["warmfork_feed_packets_total"], packets);
  EXPECT_EQ(series["warmfork_feed_lateness_seconds_count"], packets);
  EXPECT_EQ(series["warmfork_feed_bytes_total"], report["sent"]["payload_bytes"].get<double>());
  for (const auto& reader : report["readers"]) {
    const auto name = reader["name"].get<std::string>();
    EXPECT_EQ(series["warmfork_feed_read_packets_total{reader=\"" + name + "\"}"], reader["received"].get<double>());
    EXPECT_EQ(series["warmfork_feed_dropped_packets_total{reader=\"" + name + "\"}"], reader["dropped"].get<double>());
  }
}

}  // namespace
}  // namespace warmfork::test
