// The HTTP server of --metrics: GET and HEAD of /metrics, /live.json, /healthz, /readyz and /. One thread, which serves
// everybody in turn and takes no signals.
//
// Clients are hostile: a request's head is at most kMostHeadBytes; a body, which means nothing here, is read and
// dropped if it says that it has at most kMostBodyBytes, else refused (413; 411 without a length); a connection that
// has not had an answer for kPatience is closed, however busy it looks; and when there are kCrowded of them the one
// that has waited longest for its next answer makes room. Nothing a client sends is looked at but method, path and
// Accept header.
//
// Threads: start(), ready() and the destructor by any, the latter after the others.
#pragma once

#include "base/result.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace warmfork::exposition {

inline constexpr std::size_t kMostHeadBytes = 16 << 10;
inline constexpr std::size_t kMostBodyBytes = 16 << 10;
inline constexpr unsigned kMostConnections = 48;
inline constexpr unsigned kCrowded = 32;

/// Where to listen: "HOST:PORT", "[IPV6]:PORT", ":PORT" or "PORT" (both 127.0.0.1). Hosts are numbers: no name is
/// looked up. Port 0 is any that is free.
struct Address {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  bool ipv6 = false;
  [[nodiscard]] std::string to_text() const;  // as above
};
/// Errors (kUsage): none of these.
[[nodiscard]] Result<Address> parse_address(std::string_view text);

struct ServerOptions {
  Address address;
  std::string command;                         // for /live.json and the page
  std::chrono::milliseconds patience{20'000};  // a connection's, from one answer to the next
};

class Server {
 public:
  /// Listens and serves. Errors (kHost): the address is in use, is not this machine's, may not be used; no thread.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(const ServerOptions& options);
  /// Ends all connections, in the middle of an answer if need be.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// From now on /readyz says 200; before, 503.
  void ready();
  /// With the port that was chosen.
  [[nodiscard]] const Address& address() const;

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmfork::exposition
