#include "exposition/server.hpp"

#include "base/quiet_thread.hpp"
#include "base/unique_fd.hpp"
#include "exposition/formats.hpp"
#include "metrics/page/live_page.hpp"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdarg>
#include <list>
#include <optional>
#include <thread>
#include <utility>

namespace warmfork::exposition {
namespace {

using Clock = std::chrono::steady_clock;

// How long the thread sleeps at most, so that it looks at connections that do nothing.
constexpr int kTickMs = 250;
// Its guests' threads come first.
constexpr int kNice = 10;

constexpr const char* kJson = "application/json";
constexpr const char* kPlain = "text/plain; charset=utf-8";
constexpr const char* kHtml = "text/html; charset=utf-8";

struct Connection {
  int fd = -1;
  Clock::time_point since;  // its last answer, or its beginning
  bool ended = false;       // told to go
};

struct Answer {
  unsigned status = MHD_HTTP_OK;
  const char* type = kPlain;
  std::string body;
  std::string policy = "default-src 'none'; frame-ancestors 'none'";  // Content-Security-Policy
};

std::optional<std::string_view> header(MHD_Connection* connection, const char* name) {
  const char* const value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? std::nullopt : std::optional<std::string_view>(value);
}

// Why a request is refused by its head alone, if it is.
std::optional<Answer> refusal(MHD_Connection* connection, std::string_view method) {
  if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD) {
    return Answer{MHD_HTTP_METHOD_NOT_ALLOWED, kPlain, "GET and HEAD only\n"};
  }
  if (header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
    return Answer{MHD_HTTP_LENGTH_REQUIRED, kPlain, "a body is not needed; one without a Content-Length is not read\n"};
  }
  const auto length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
  if (!length) return std::nullopt;
  std::size_t bytes = 0;
  const auto [end, error] = std::from_chars(length->data(), length->data() + length->size(), bytes);
  if (error == std::errc{} && end == length->data() + length->size() && bytes <= kMostBodyBytes) return std::nullopt;
  return Answer{MHD_HTTP_CONTENT_TOO_LARGE, kPlain,
                fmt::format("a body is not needed; one of more than {} bytes is not read\n", kMostBodyBytes)};
}

union AnyAddress {
  sockaddr any;
  sockaddr_in four;
  sockaddr_in6 six;
};

// Listens, and notes the port that was chosen.
Result<UniqueFd> listen_at(Address& address) {
  AnyAddress to{};
  socklen_t size = sizeof to.four;
  if (address.ipv6) {
    size = sizeof to.six;
    to.six.sin6_family = AF_INET6;
    to.six.sin6_port = htons(address.port);
    ::inet_pton(AF_INET6, address.host.c_str(), &to.six.sin6_addr);
  } else {
    to.four.sin_family = AF_INET;
    to.four.sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host.c_str(), &to.four.sin_addr);
  }
  UniqueFd socket(::socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("--metrics {}: socket", address.to_text());
  const int one = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (address.ipv6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (::bind(socket.get(), &to.any, size) != 0 || ::listen(socket.get(), SOMAXCONN) != 0) {
    return fail_errno("--metrics {}: cannot listen there", address.to_text());
  }
  if (::getsockname(socket.get(), &to.any, &size) != 0)
    return fail_errno("--metrics {}: getsockname", address.to_text());
  address.port = ntohs(address.ipv6 ? to.six.sin6_port : to.four.sin_port);
  return socket;
}

}  // namespace

std::string Address::to_text() const {
  return ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<Address> parse_address(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorKind::kUsage,
                "--metrics {}: no address; one is 127.0.0.1:9464, [::1]:9464, or the port alone (of 127.0.0.1)", text);
  };
  Address address;
  std::string_view port = text;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos || !text.substr(end + 1).starts_with(':')) return wrong();
    address.host = text.substr(1, end - 1);
    address.ipv6 = true;
    port = text.substr(end + 2);
  } else if (const std::size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    if (colon != 0) address.host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) return wrong();
  std::array<std::byte, sizeof(in6_addr)> unused;
  if (::inet_pton(address.ipv6 ? AF_INET6 : AF_INET, address.host.c_str(), unused.data()) != 1) return wrong();
  return address;
}

class Server::Impl {
 public:
  explicit Impl(const ServerOptions& options) : options_(options), address_(options.address) {}
  ~Impl() {
    if (thread_.joinable()) {
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t put = ::write(stop_.get(), &one, sizeof one);
      thread_.join();
    }
    if (daemon_ == nullptr) return;
    (void)MHD_quiesce_daemon(daemon_);  // the listening socket is ours
    MHD_stop_daemon(daemon_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Status open() {
    WARMFORK_TRY_ASSIGN(listening_, listen_at(address_));
    stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    if (!stop_) return fail_errno("--metrics: eventfd");
    daemon_ = MHD_start_daemon(MHD_USE_EPOLL, 0, nullptr, nullptr, &on_request, this,      //
                               MHD_OPTION_LISTEN_SOCKET, listening_.get(),                 //
                               MHD_OPTION_CONNECTION_LIMIT, kMostConnections,              //
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, kMostHeadBytes,         //
                               MHD_OPTION_CONNECTION_TIMEOUT, seconds(options_.patience),  //
                               MHD_OPTION_NOTIFY_CONNECTION, &on_connection, this,         //
                               MHD_OPTION_NOTIFY_COMPLETED, &on_completed, this, MHD_OPTION_EXTERNAL_LOGGER, &quiet,
                               nullptr,  //
                               MHD_OPTION_END);
    if (daemon_ == nullptr)
      return fail(ErrorKind::kHost, "--metrics {}: the server does not start", address_.to_text());
    const MHD_DaemonInfo* const info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == nullptr) return fail(ErrorKind::kHost, "--metrics {}: the server has no epoll", address_.to_text());
    events_ = info->epoll_fd;
    WARMFORK_TRY_ASSIGN(thread_, start_quiet_thread("--metrics", [this] { serve(); }));
    return {};
  }

  void ready() { ready_.store(true); }
  [[nodiscard]] const Address& address() const { return address_; }

 private:
  static unsigned seconds(std::chrono::milliseconds time) { return static_cast<unsigned>(time.count() / 1000 + 1); }
  static void quiet(void*, const char*, va_list) {}

  void serve() {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
    for (;;) {
      MHD_UNSIGNED_LONG_LONG due = kTickMs;
      int timeout = kTickMs;
      if (MHD_get_timeout(daemon_, &due) == MHD_YES) timeout = static_cast<int>(std::min<std::uint64_t>(due, kTickMs));
      std::array<pollfd, 2> wait{pollfd{.fd = stop_.get(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = events_, .events = POLLIN, .revents = 0}};
      ::poll(wait.data(), wait.size(), timeout);
      if (wait[0].revents != 0) return;
      MHD_run(daemon_);
      send_away();
    }
  }

  // A socket that is shut down looks to the library as if its client had left.
  void send_away() {
    const auto now = Clock::now();
    Connection* longest = nullptr;
    std::size_t here = 0;
    for (Connection& one : connections_) {
      if (one.ended) continue;
      if (now - one.since >= options_.patience) {
        end(one);
        continue;
      }
      ++here;
      if (longest == nullptr || one.since < longest->since) longest = &one;
    }
    if (here > kCrowded) end(*longest);
  }
  static void end(Connection& connection) {
    connection.ended = true;
    ::shutdown(connection.fd, SHUT_RDWR);
  }

  static void on_connection(void* self, MHD_Connection* connection, void** context,
                            MHD_ConnectionNotificationCode code) {
    auto& connections = static_cast<Impl*>(self)->connections_;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
      const MHD_ConnectionInfo* const info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
      connections.push_back({.fd = info->connect_fd, .since = Clock::now()});
      *context = &connections.back();
    } else if (*context != nullptr) {
      connections.remove_if([context](const Connection& one) { return &one == *context; });
      *context = nullptr;
    }
  }

  static void on_completed(void*, MHD_Connection* connection, void**, MHD_RequestTerminationCode) {
    const MHD_ConnectionInfo* const info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info != nullptr && info->socket_context != nullptr) {
      static_cast<Connection*>(info->socket_context)->since = Clock::now();
    }
  }

  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* path, const char* method,
                               const char* /*version*/, const char* /*upload*/, std::size_t* upload_size,
                               void** request) {
    try {
      // First with the head alone. An answer then ends the connection, as is right for a body that is not read.
      if (std::exchange(*request, self) == nullptr) {
        auto refused = refusal(connection, method);
        return refused ? send(connection, *std::move(refused)) : MHD_YES;
      }
      // Then with each part of the body, which is dropped, and in the end with nothing.
      if (std::exchange(*upload_size, 0) != 0) return MHD_YES;
      return send(connection, static_cast<Impl*>(self)->answer(connection, path));
    } catch (const std::bad_alloc&) {
      return MHD_NO;  // the connection ends; the process goes on
    }
  }

  Answer answer(MHD_Connection* connection, std::string_view path) {
    if (path == "/healthz") return {MHD_HTTP_OK, kPlain, "ok\n"};
    if (path == "/readyz") {
      return ready_.load() ? Answer{MHD_HTTP_OK, kPlain, "ready\n"}
                           : Answer{MHD_HTTP_SERVICE_UNAVAILABLE, kPlain, "not ready: still starting\n"};
    }
    const bool page = path == "/" || path == "/index.html";
    if (const metrics::LivePage live = metrics::live_page(); page && !live.html.empty()) {
      return {MHD_HTTP_OK, kHtml, std::string(live.html), std::string(live.policy)};
    }
    if (!page && path != "/metrics" && path != "/live.json") {
      return {MHD_HTTP_NOT_FOUND, kPlain, "there are /, /metrics, /live.json, /healthz and /readyz\n"};
    }
    const metrics::Timer timer;
    const metrics::Scrape scrape = metrics::scrape();
    Answer answer;
    if (page) {
      answer = {MHD_HTTP_OK, kHtml, to_plain_page(scrape, options_.command),
                "default-src 'none'; style-src 'unsafe-inline'"};
    } else if (path == "/live.json") {
      answer = {MHD_HTTP_OK, kJson, to_live_json(scrape, options_.command)};
    } else {
      const Format format = choose_format(header(connection, MHD_HTTP_HEADER_ACCEPT).value_or(""));
      answer = {MHD_HTTP_OK, content_type(format), to_format(scrape, format)};
    }
    durations_.record_ticks(timer.ticks());
    return answer;
  }

  static MHD_Result send(MHD_Connection* connection, Answer answer) {
    auto body = std::make_unique<std::string>(std::move(answer.body));
    MHD_Response* const response = MHD_create_response_from_buffer_with_free_callback_cls(
        body->size(), body->data(), [](void* text) { delete static_cast<std::string*>(text); }, body.get());
    if (response == nullptr) return MHD_NO;
    (void)body.release();
    const auto add = [response](const char* name, const char* value) {
      MHD_add_response_header(response, name, value);
    };
    add(MHD_HTTP_HEADER_CONTENT_TYPE, answer.type);
    add(MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    add("X-Content-Type-Options", "nosniff");
    add("Content-Security-Policy", answer.policy.c_str());
    if (answer.status == MHD_HTTP_METHOD_NOT_ALLOWED) add(MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return queued;
  }

  const ServerOptions options_;
  Address address_;
  UniqueFd listening_, stop_;
  MHD_Daemon* daemon_ = nullptr;
  int events_ = -1;
  std::atomic<bool> ready_{false};
  std::list<Connection> connections_;  // the thread's
  const metrics::Histogram durations_ = metrics::histogram(metrics::Family::kScrapeDuration);
  std::thread thread_;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  WARMFORK_TRY(impl->open());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

void Server::ready() { impl_->ready(); }
const Address& Server::address() const { return impl_->address(); }

}  // namespace warmfork::exposition
