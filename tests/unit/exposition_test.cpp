// One snapshot in every form, and a server that hostile clients cannot hold up.
#include "base/unique_fd.hpp"
#include "exposition/formats.hpp"
#include "exposition/server.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <protozero/pbf_reader.hpp>
#include <protozero/varint.hpp>
#include <thread>

namespace warmfork::test {
namespace {

using namespace exposition;
using metrics::Family;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Three durations: 0.5 s exactly, a little more, and 0.
metrics::Scrape example() {
  metrics::Scrape scrape;
  scrape.time_unix_s = 1000.5;
  scrape.uptime_s = 2;
  metrics::Sample resets;
  resets.labels = {"a\"b\\c\nd"};
  resets.whole = 12;
  scrape.families.push_back({Family::kResets, {resets}});
  metrics::Sample duration;
  duration.labels = {"vm"};
  const auto half = static_cast<std::uint16_t>(29 * 32);
  duration.histogram.buckets = {{0, 1}, {half, 2}, {half + 1, 5}, {half + 3, 1}};
  duration.histogram.count = 9;
  duration.histogram.sum = (std::uint64_t{9} << (metrics::kUnitBits - 1));
  scrape.families.push_back({Family::kForkDuration, {duration}});
  metrics::Sample waiting;
  waiting.number = 3;
  scrape.families.push_back({Family::kPoolWaiting, {waiting}});
  return scrape;
}

TEST(Exposition, TextIsVersion004) {
  const std::string text = to_text(example());
  EXPECT_THAT(text, StartsWith("# HELP warmfork_resets_total Forks put back to their snapshot.\n"
                               "# TYPE warmfork_resets_total counter\n"
                               "warmfork_resets_total{strategy=\"a\\\"b\\\\c\\nd\"} 12\n"
                               "# HELP warmfork_fork_duration_seconds What making a fork took.\n"
                               "# TYPE warmfork_fork_duration_seconds histogram\n"
                               "warmfork_fork_duration_seconds_bucket{kind=\"vm\",le=\"2.9802322387695312e-08\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("{kind=\"vm\",le=\"0.25\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("{kind=\"vm\",le=\"0.5\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("{kind=\"vm\",le=\"1\"} 9\n"));
  EXPECT_THAT(text, HasSubstr("{kind=\"vm\",le=\"+Inf\"} 9\nwarmfork_fork_duration_seconds_count{kind=\"vm\"} 9\n"
                              "warmfork_fork_duration_seconds_sum{kind=\"vm\"} 4.5\n"));
  EXPECT_THAT(text, EndsWith("# TYPE warmfork_pool_waiting gauge\nwarmfork_pool_waiting 3\n"));
}

TEST(Exposition, OpenMetricsHasUnitsBareCounterNamesAndAnEnd) {
  const std::string text = to_openmetrics(example());
  EXPECT_THAT(text, StartsWith("# HELP warmfork_resets Forks put back to their snapshot.\n"
                               "# TYPE warmfork_resets counter\n"
                               "warmfork_resets_total{strategy="));
  EXPECT_THAT(text, HasSubstr("# UNIT warmfork_fork_duration_seconds seconds\n"));
  EXPECT_THAT(text, HasSubstr("le=\"1.0\"} 9\n"));
  EXPECT_THAT(text, EndsWith("# EOF\n"));
}

TEST(Exposition, ProtobufHasNativeAndClassicBuckets) {
  const std::string bytes = to_protobuf(example());
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  std::vector<std::string> names;
  while (at != end) {
    const auto size = protozero::decode_varint(&at, end);
    ASSERT_LE(size, static_cast<std::uint64_t>(end - at));
    protozero::pbf_reader family(at, size);
    at += size;
    std::string name;
    std::int32_t type = -1;
    while (family.next()) {
      if (family.tag() == 1) {
        name = family.get_string();
      } else if (family.tag() == 3) {
        type = family.get_enum();
      } else if (family.tag() != 4) {
        family.skip();
      } else {
        protozero::pbf_reader metric = family.get_message();
        while (metric.next()) {
          if (metric.tag() == 3) {
            protozero::pbf_reader counter = metric.get_message();
            ASSERT_TRUE(counter.next(1));
            EXPECT_EQ(counter.get_double(), 12);
          } else if (metric.tag() == 1) {
            protozero::pbf_reader label = metric.get_message();
            ASSERT_TRUE(label.next(2));
            EXPECT_THAT(label.get_string(), ::testing::AnyOf("a\"b\\c\nd", "vm"));
          } else if (metric.tag() == 7) {
            protozero::pbf_reader histogram = metric.get_message();
            std::vector<std::pair<int, unsigned>> spans;
            std::vector<std::int64_t> deltas;
            std::size_t classic = 0;
            while (histogram.next()) {
              switch (histogram.tag()) {
                case 1: EXPECT_EQ(histogram.get_uint64(), 9U); break;
                case 2: EXPECT_EQ(histogram.get_double(), 4.5); break;
                case 3:
                  ++classic;
                  histogram.skip();
                  break;
                case 5: EXPECT_EQ(histogram.get_sint32(), 5); break;
                case 6: EXPECT_EQ(histogram.get_double(), std::ldexp(1, -30)); break;
                case 7: EXPECT_EQ(histogram.get_uint64(), 1U); break;
                case 12: {
                  protozero::pbf_reader span = histogram.get_message();
                  ASSERT_TRUE(span.next(1));
                  const int offset = span.get_sint32();
                  ASSERT_TRUE(span.next(2));
                  spans.emplace_back(offset, span.get_uint32());
                  break;
                }
                case 13:
                  for (const std::int64_t delta : histogram.get_packed_sint64()) deltas.push_back(delta);
                  break;
                default: FAIL() << histogram.tag();
              }
            }
            // 0.5 s is 2^(-32/32): index -32; the next one; one left out; another one.
            EXPECT_EQ(spans, (std::vector<std::pair<int, unsigned>>{{-32, 2}, {1, 1}}));
            EXPECT_EQ(deltas, (std::vector<std::int64_t>{2, 3, -4}));
            EXPECT_EQ(classic, metrics::kClassicBuckets + 1);
          } else {
            metric.skip();
          }
        }
      }
    }
    names.push_back(name);
    EXPECT_EQ(type, name == "warmfork_resets_total" ? 0 : name == "warmfork_pool_waiting" ? 1 : 4);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("warmfork_resets_total", "warmfork_fork_duration_seconds",
                                            "warmfork_pool_waiting"));
}

TEST(Exposition, LiveJsonHasTheSameNumbers) {
  const auto json = nlohmann::json::parse(to_live_json(example(), "fleet \xff.toml"));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["time_unix_s"], 1000.5);
  EXPECT_EQ(json["uptime_s"], 2);
  EXPECT_THAT(json["command"].get<std::string>(), StartsWith("fleet "));
  EXPECT_EQ(json["families"][0]["name"], "warmfork_resets_total");
  EXPECT_EQ(json["families"][0]["type"], "counter");
  EXPECT_EQ(json["families"][0]["samples"][0]["labels"]["strategy"], "a\"b\\c\nd");
  EXPECT_EQ(json["families"][0]["samples"][0]["value"], 12);
  const auto& histogram = json["families"][1]["samples"][0];
  EXPECT_EQ(histogram["count"], 9);
  EXPECT_EQ(histogram["sum"], 4.5);
  ASSERT_EQ(histogram["buckets"].size(), 4U);
  EXPECT_EQ(histogram["buckets"][1], nlohmann::json::array({0.5, 3}));
  EXPECT_EQ(histogram["buckets"][3][1], 9);
}

TEST(Accept, TheHighestWeightWins) {
  EXPECT_EQ(choose_format(""), Format::kText);
  EXPECT_EQ(choose_format("*/*"), Format::kText);
  EXPECT_EQ(choose_format("application/openmetrics-text"), Format::kOpenMetrics);
  EXPECT_EQ(choose_format("application/openmetrics-text; version=1.0.0"), Format::kOpenMetrics);
  EXPECT_EQ(choose_format("application/openmetrics-text; version=9.0.0, text/plain"), Format::kText);
  EXPECT_EQ(choose_format("text/plain;q=0.5, application/openmetrics-text;q=0.6"), Format::kOpenMetrics);
  EXPECT_EQ(choose_format("text/plain;q=0.6, application/openmetrics-text;q=0.5"), Format::kText);
  EXPECT_EQ(choose_format("application/openmetrics-text;q=0, */*;q=0.001"), Format::kText);
  // As Prometheus asks, without and with native histograms.
  EXPECT_EQ(
      choose_format("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
      Format::kOpenMetrics);
  constexpr const char* kProtobuf =
      "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
      "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
  EXPECT_EQ(choose_format(kProtobuf), Format::kProtobuf);
  EXPECT_EQ(choose_format("Application/Vnd.Google.Protobuf; Proto=\"io.prometheus.client.MetricFamily\" ; "
                          "encoding=delimited"),
            Format::kProtobuf);
  EXPECT_EQ(choose_format("application/vnd.google.protobuf;encoding=text"), Format::kText);
  for (const char* const broken :
       {";", ",,,", "q=1", "text/plain;q=2", "application/openmetrics-text;q=1.0001", "\"",
        "application/openmetrics-text;q=", "a;b=\"\\", "application/openmetrics-text;q=0.5x"}) {
    EXPECT_EQ(choose_format(broken), Format::kText) << broken;
  }
}

TEST(MetricsAddress, IsAHostAndAPort) {
  const auto text = [](const char* from) {
    const auto address = parse_address(from);
    return address ? address->to_text() : address.error().message;
  };
  EXPECT_EQ(text("9464"), "127.0.0.1:9464");
  EXPECT_EQ(text(":9464"), "127.0.0.1:9464");
  EXPECT_EQ(text("0.0.0.0:0"), "0.0.0.0:0");
  EXPECT_EQ(text("[::1]:80"), "[::1]:80");
  for (const char* const wrong : {"", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "localhost:80", "::1:80",
                                  "[::1]", "[::1]80", "[127.0.0.1]:80", "1.2.3:80", "127.0.0.1:80x", "127.0.0.1:-1"}) {
    EXPECT_FALSE(parse_address(wrong)) << wrong;
  }
}

// --- The server ------------------------------------------------------------------------------------------------------

class Client {
 public:
  explicit Client(const Server& server) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(server.address().port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  [[nodiscard]] bool connected() const { return connected_; }
  bool send(std::string_view text) { return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) >= 0; }
  // Until the other side closes.
  std::string rest() {
    std::string all;
    char buffer[4096];
    for (ssize_t got; (got = ::recv(fd_.get(), buffer, sizeof buffer, 0)) > 0;) {
      all.append(buffer, static_cast<std::size_t>(got));
    }
    return all;
  }

 private:
  UniqueFd fd_;
  bool connected_ = false;
};

std::string get(const Server& server, const std::string& path, const std::string& method = "GET",
                const std::string& headers = "") {
  Client client(server);
  client.send(method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + "\r\n");
  return client.rest();
}

class MetricsServerTest : public ::testing::Test {
 protected:
  void start(std::chrono::milliseconds patience = std::chrono::seconds(20)) {
    metrics::enable();
    auto started = Server::start({.address = {}, .command = "test <b>", .patience = patience});
    ASSERT_TRUE(started) << started.error().message;
    server_ = std::move(*started);
  }
  std::unique_ptr<Server> server_;
};

TEST_F(MetricsServerTest, ServesEveryPath) {
  start();
  EXPECT_NE(server_->address().port, 0);
  EXPECT_THAT(get(*server_, "/metrics"), HasSubstr("warmfork_build_info{version="));
  EXPECT_THAT(get(*server_, "/metrics"), HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(get(*server_, "/metrics?x=1"), HasSubstr("process_open_fds"));
  EXPECT_THAT(get(*server_, "/metrics", "GET", "Accept: application/openmetrics-text\r\n"), EndsWith("# EOF\n"));
  EXPECT_THAT(get(*server_, "/live.json"), HasSubstr("\"command\":\"test <b>\""));
  EXPECT_THAT(get(*server_, "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(get(*server_, "/readyz"), StartsWith("HTTP/1.1 503"));
  server_->ready();
  EXPECT_THAT(get(*server_, "/readyz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(get(*server_, "/"), HasSubstr("text/html"));
  EXPECT_THAT(get(*server_, "/nothing"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(get(*server_, "/../etc/passwd"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(get(*server_, "/metrics", "POST", "Content-Length: 3\r\n"), StartsWith("HTTP/1.1 405"));
  const std::string head = get(*server_, "/metrics", "HEAD");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
}

TEST_F(MetricsServerTest, AConnectionServesMoreThanOneRequest) {
  start();
  Client client(*server_);
  client.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string both = client.rest();
  EXPECT_THAT(both, HasSubstr("\r\n\r\nok\n"));
  EXPECT_THAT(both, HasSubstr("HTTP/1.1 503"));
}

TEST_F(MetricsServerTest, AShortBodyIsReadAndIgnored) {
  start();
  for (const std::size_t size : {std::size_t{1}, kMostBodyBytes}) {
    // What is in it looks like a request and must not be one; the next request is behind it.
    std::string body = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    body.resize(size, 'x');
    Client client(*server_);
    client.send(fmt::format("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", size, body));
    client.send("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const std::string both = client.rest();
    EXPECT_THAT(both, StartsWith("HTTP/1.1 200")) << size;
    EXPECT_THAT(both, HasSubstr("\r\n\r\nok\nHTTP/1.1 503")) << size;
    EXPECT_THAT(both, Not(HasSubstr("404"))) << size;
  }
}

TEST_F(MetricsServerTest, ABodyMayComeInPieces) {
  start();
  Client client(*server_);
  client.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n");
  for (const char* const piece : {"a", "b", "c"}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    client.send(piece);
  }
  EXPECT_THAT(client.rest(), EndsWith("\r\n\r\nok\n"));
}

TEST_F(MetricsServerTest, ALongBodyIsRefusedWithAnAnswer) {
  start();
  for (const std::string method : {"GET", "HEAD"}) {
    for (const std::string& size : {std::to_string(kMostBodyBytes + 1), std::string("100000000")}) {
      Client client(*server_);
      client.send(method + " /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: " + size + "\r\n\r\nabc");
      const std::string answer = client.rest();
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 413")) << method << size;
      EXPECT_THAT(answer, HasSubstr("Connection: close")) << method << size;
      EXPECT_EQ(answer.find("one of more than 16384 bytes is not read\n") != std::string::npos, method == "GET");
    }
  }
}

TEST_F(MetricsServerTest, ALongBodyThatIsSentAllTheSameLosesNoAnswer) {
  start();
  Client client(*server_);
  const std::string body(1 << 20, 'x');
  client.send(fmt::format("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.size()));
  client.send(body);  // fails when the other side has closed
  EXPECT_THAT(client.rest(), StartsWith("HTTP/1.1 413"));
}

TEST_F(MetricsServerTest, ABodyWithoutALengthIsRefusedWithAnAnswer) {
  start();
  const std::string body = "5\r\nhello\r\n0\r\n\r\n";
  for (const char* const headers : {"Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n",
                                    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"}) {
    Client client(*server_);
    client.send(std::string("GET /healthz HTTP/1.1\r\nHost: x\r\n") + headers + "\r\n" + body);
    const std::string answer = client.rest();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 411")) << headers;
    EXPECT_THAT(answer, EndsWith("one without a Content-Length is not read\n")) << headers;
  }
}

TEST_F(MetricsServerTest, ALengthThatIsNoneIsRefusedWithAnAnswer) {
  start();
  for (const char* const length : {"-1", "x", "5x", "99999999999999999999999"}) {
    const std::string answer = get(*server_, "/healthz", "GET", std::string("Content-Length: ") + length + "\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 4")) << length;
  }
}

TEST_F(MetricsServerTest, ABodyThatNeverComesEndsTheConnection) {
  start(std::chrono::milliseconds(300));
  Client client(*server_);
  client.send("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab");
  EXPECT_EQ(client.rest(), "");
}

TEST_F(MetricsServerTest, RefusesHeadsThatAreTooLong) {
  start();
  const std::string answer = get(*server_, "/metrics", "GET", "X: " + std::string(2 * kMostHeadBytes, 'x') + "\r\n");
  EXPECT_THAT(answer, Not(HasSubstr("200 OK")));
  EXPECT_THAT(get(*server_, "/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, GarbageEndsTheConnectionOnly) {
  start();
  Client client(*server_);
  client.send(std::string(5000, '\xff') + "\r\n\r\n");
  EXPECT_THAT(client.rest(), Not(HasSubstr("200 OK")));
  EXPECT_THAT(get(*server_, "/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, AClientThatNeverFinishesIsSentAway) {
  start(std::chrono::milliseconds(300));
  Client slow(*server_);
  ASSERT_TRUE(slow.send("GET /metrics HTTP/1.1\r\nHost: x\r\n"));
  // It goes on sending, a byte at a time, and is sent away all the same.
  std::atomic<bool> over{false};
  std::thread drip([&] {
    while (!over.load() && slow.send("x")) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  EXPECT_EQ(slow.rest(), "");
  over.store(true);
  drip.join();
}

TEST_F(MetricsServerTest, WhoeverComesIsServedWhileOthersHoldConnections) {
  start();
  std::vector<std::unique_ptr<Client>> idle;
  for (unsigned i = 0; i < 2 * kMostConnections; ++i) {
    idle.push_back(std::make_unique<Client>(*server_));
    idle.back()->send("GET /");
  }
  EXPECT_THAT(get(*server_, "/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, SaysThatAPortIsInUse) {
  start();
  const auto again = Server::start({.address = server_->address(), .command = ""});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kHost);
  EXPECT_THAT(again.error().message, HasSubstr("Address already in use"));
  Address foreign;
  foreign.host = "192.0.2.1";  // RFC 5737: nobody's
  EXPECT_FALSE(Server::start({.address = foreign, .command = ""}));
}

TEST_F(MetricsServerTest, EndsInTheMiddleOfScrapes) {
  start();
  std::atomic<bool> over{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      while (!over.load()) {
        Client client(*server_);
        if (!client.connected()) continue;
        client.send("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        if (over.load()) break;
        (void)client.rest();
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  over.store(true);
  for (std::thread& client : clients) client.join();
  Client open(*server_);
  open.send("GET /metrics HTTP/1.1\r\n");
  server_.reset();
  EXPECT_EQ(open.rest(), "");
}

}  // namespace
}  // namespace warmfork::test
