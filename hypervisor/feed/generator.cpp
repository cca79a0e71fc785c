#include "feed/generator.hpp"

#include "feed/wire.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace warmfork::feed {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint32_t kCheckSequence = 4;
constexpr std::uint32_t kShortest = 64, kLongest = 9'018;
constexpr std::uint32_t kMostMessages = 31;  // 62 + 31 · 46 bytes fill a frame of 1,518
constexpr std::uint16_t kMostSymbols = 1'000;
constexpr std::uint64_t kMostRate = 1'000'000'000;
constexpr std::uint64_t kBurstBitsPerSecond = 10'000'000'000;

// Only the generator itself is used of <random>: the standard defines what it gives, but not what distributions make
// of it.
class Random {
 public:
  explicit Random(std::uint64_t seed) : source_(seed) {}
  std::uint64_t next() { return source_(); }
  // 0 … bound - 1; that some are likelier by bound / 2^64 does not matter here.
  std::uint64_t below(std::uint64_t bound) { return static_cast<std::uint64_t>((Wide{next()} * bound) >> 64); }
  // In (0, 1].
  double unit() { return static_cast<double>((next() >> 11) + 1) * 0x1p-53; }

 private:
  std::mt19937_64 source_;
};

class Times {
 public:
  Times(const GeneratorOptions& options, std::uint64_t seed) : options_(options), random_(seed) {}

  /// When the next frame leaves, in ns.
  std::uint64_t next(std::uint32_t frame_bytes) {
    const std::uint64_t index = count_++;
    switch (options_.pattern) {
      case Pattern::kConstant: return evenly(index);
      case Pattern::kPoisson: {
        const double at = at_;
        at_ += -std::log(random_.unit()) * 1e9 / static_cast<double>(options_.rate);
        return static_cast<std::uint64_t>(at);
      }
      case Pattern::kBurst: break;
    }
    if (index % options_.burst == 0) {
      // Not before the burst before it has left: a rate above 10 Gbps has no silence.
      burst_ps_ = std::max(burst_ps_, Wide{evenly(index)} * 1'000);
    }
    const auto at = static_cast<std::uint64_t>(burst_ps_ / 1'000);
    burst_ps_ += Wide{wire_bits(frame_bytes)} * (1'000'000'000'000 / kBurstBitsPerSecond);
    return at;
  }

 private:
  [[nodiscard]] std::uint64_t evenly(std::uint64_t index) const {
    return static_cast<std::uint64_t>(Wide{index} * 1'000'000'000 / options_.rate);
  }

  const GeneratorOptions& options_;
  Random random_;
  std::uint64_t count_ = 0;
  double at_ = 0;
  Wide burst_ps_ = 0;
};

// The orders of all symbols, and what happens to them.
class Book {
 public:
  Book(std::uint16_t symbols, std::uint64_t seed) : random_(seed), symbols_(symbols) {
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      std::string name = fmt::format("WARM{:<4}", i + 1);
      for (std::size_t letter = 0; letter < 8; ++letter) symbols_[i].name[letter] = name[letter];
      symbols_[i].middle = static_cast<std::uint32_t>(100'000 + 100 * random_.below(40'000));  // $10 to $410
    }
  }

  ItchMessage next() {
    const std::size_t index = random_.below(symbols_.size());
    Symbol& symbol = symbols_[index];
    ItchMessage message = happen(symbol);
    message.locate = static_cast<std::uint16_t>(index + 1);
    return message;
  }

 private:
  struct Order {
    std::uint64_t reference;
    Side side;
    std::uint32_t shares;
  };
  struct Symbol {
    std::array<char, 8> name{};
    std::uint32_t middle = 0;
    std::vector<Order> orders;
  };
  static constexpr std::size_t kMostOrders = 256;  // of a symbol: memory is bounded

  // Bids below the middle, asks above it: the book is never crossed.
  std::uint32_t price(const Symbol& symbol, Side side) {
    const auto distance = static_cast<std::uint32_t>(100 * (1 + random_.below(20)));
    return side == Side::kBuy ? symbol.middle - distance : symbol.middle + distance;
  }
  std::uint32_t shares() { return static_cast<std::uint32_t>(100 * (1 + random_.below(10))); }

  ItchMessage happen(Symbol& symbol) {
    const std::uint64_t dice = random_.below(100);
    ItchMessage message;
    if (dice < 5) {
      message.type = 'P';  // of an order that is not displayed: no reference
      message.side = Side::kBuy;
      message.shares = shares();
      message.price = symbol.middle;
      message.match = ++matches_;
      message.stock = symbol.name;
      return message;
    }
    if (symbol.orders.empty() || (dice < 50 && symbol.orders.size() < kMostOrders)) {
      message.type = 'A';
      message.reference = ++references_;
      message.side = random_.below(2) == 0 ? Side::kBuy : Side::kSell;
      message.shares = shares();
      message.price = price(symbol, message.side);
      message.stock = symbol.name;
      symbol.orders.push_back({message.reference, message.side, message.shares});
      return message;
    }
    const std::size_t which = random_.below(symbol.orders.size());
    Order& order = symbol.orders[which];
    message.reference = order.reference;
    if (dice < 65) {
      message.type = 'E';
      message.shares = static_cast<std::uint32_t>(1 + random_.below(order.shares));
      message.match = ++matches_;
    } else if (dice < 75 && order.shares > 1) {
      message.type = 'X';  // in part; what is cancelled whole is deleted
      message.shares = static_cast<std::uint32_t>(1 + random_.below(order.shares - 1));
    } else if (dice < 85) {
      message.type = 'U';
      message.new_reference = ++references_;
      message.shares = shares();
      message.price = price(symbol, order.side);
      order.reference = message.new_reference;
      order.shares = message.shares;
      return message;
    } else {
      message.type = 'D';
      order.shares = 0;
    }
    if (message.type != 'D') order.shares -= message.shares;
    if (order.shares == 0) {
      order = symbol.orders.back();
      symbol.orders.pop_back();
    }
    return message;
  }

  Random random_;
  std::vector<Symbol> symbols_;
  std::uint64_t references_ = 0;
  std::uint64_t matches_ = 0;
};

ItchMessage system_event(char event) {
  ItchMessage message;
  message.type = 'S';
  message.event = event;
  return message;
}

Status check(const GeneratorOptions& options) {
  const auto between = [](const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most) -> Status {
    if (value >= least && value <= most) return {};
    return fail(ErrorKind::kUsage, "{}: {} is not between {} and {}", what, value, least, most);
  };
  WARMFORK_TRY(between("packets", options.packets, 1, std::uint64_t{1} << 32));
  WARMFORK_TRY(between("packets a second", options.rate, 1, kMostRate));
  WARMFORK_TRY(between("packets of a burst", options.burst, 1, std::uint32_t{1} << 20));
  WARMFORK_TRY(between("bytes of a frame", options.frame_bytes, kShortest, kLongest));
  WARMFORK_TRY(between("messages of a packet", options.messages, 1, kMostMessages));
  WARMFORK_TRY(between("symbols", options.symbols, 1, kMostSymbols));
  if (options.gap_every == 1) return fail(ErrorKind::kUsage, "every packet lost: at least every 2nd can be");
  return {};
}

class Generator {
 public:
  Generator(const GeneratorOptions& options, TapeBuilder builder)
      : options_(options),
        builder_(std::move(builder)),
        times_(options, options.seed),
        random_(options.seed + 1),
        book_(options.symbols, options.seed + 2) {}

  Result<Tape> run() {
    for (std::uint64_t i = 0; i < options_.packets; ++i) {
      // The first and the last arrive, or nobody could know that they are missing.
      const bool lost =
          options_.gap_every != 0 && (i + 1) % options_.gap_every == 0 && i != 0 && i + 1 != options_.packets;
      WARMFORK_TRY(options_.content == Content::kRaw ? raw(i, lost) : itch(i, lost));
      if (options_.content == Content::kItch && options_.heartbeat_every != 0 &&
          (i + 1) % options_.heartbeat_every == 0) {
        WARMFORK_TRY(mold({}, 0, false));
      }
    }
    if (options_.content == Content::kItch) WARMFORK_TRY(mold({}, kMoldEndOfSession, false));
    return builder_.finish();
  }

 private:
  Status raw(std::uint64_t number, bool lost) {
    const std::uint32_t bytes = options_.frame_bytes - kCheckSequence;
    frame_.assign(bytes, std::byte{0});
    const auto payload = std::span(frame_).subspan(kUdpFrameBytes);
    write_udp_headers(frame_, payload.size(), addresses_);
    store_big<8>(payload, 0, number);
    for (std::size_t at = 8; at < payload.size(); at += 8) {
      const std::uint64_t bits = random_.next();
      for (std::size_t i = at; i < std::min(at + 8, payload.size()); ++i) {
        payload[i] = static_cast<std::byte>(bits >> (8 * (i - at)) & 0xff);
      }
    }
    return send(lost);
  }

  Status itch(std::uint64_t number, bool lost) {
    constexpr std::array kOpening{'O', 'S', 'Q'}, kClosing{'M', 'E', 'C'};
    std::vector<ItchMessage>& messages = messages_;
    messages.clear();
    if (number == 0) {
      for (const char event : kOpening) messages.push_back(system_event(event));
    } else if (number + 1 == options_.packets) {
      for (const char event : kClosing) messages.push_back(system_event(event));
    } else {
      for (std::uint32_t i = 0; i < options_.messages; ++i) messages.push_back(book_.next());
    }
    return mold(messages, static_cast<std::uint16_t>(messages.size()), lost);
  }

  Status mold(std::span<ItchMessage> messages, std::uint16_t count, bool lost) {
    constexpr std::string_view kSession = "WARMFORK01";
    frame_.assign(kUdpFrameBytes + kMoldBytes + messages.size() * (kMoldLengthBytes + kLongestWrittenItch),
                  std::byte{0});
    const auto payload = std::span(frame_).subspan(kUdpFrameBytes);
    for (std::size_t i = 0; i < kSession.size(); ++i) payload[i] = static_cast<std::byte>(kSession[i]);
    store_big<8>(payload, 10, sequence_);
    store_big<2>(payload, 18, count);
    std::size_t at = kMoldBytes;
    for (ItchMessage& message : messages) {
      // A message is as old as the frame before it: the time of its own depends on how long it becomes.
      message.time_ns = kDayBeginsNs + last_ns_;
      const std::size_t length = write_itch(payload.subspan(at + kMoldLengthBytes), message);
      store_big<2>(payload, at, length);
      at += kMoldLengthBytes + length;
    }
    frame_.resize(std::max<std::size_t>(kUdpFrameBytes + at, kShortest - kCheckSequence));
    write_udp_headers(frame_, at, addresses_);
    sequence_ += messages.size();
    return send(lost);
  }

  Status send(bool lost) {
    const auto bytes = static_cast<std::uint32_t>(frame_.size());
    last_ns_ = times_.next(bytes);
    if (lost) return {};
    WARMFORK_TRY_ASSIGN(const std::span<std::byte> room, builder_.add(last_ns_, bytes, bytes));
    std::memcpy(room.data(), frame_.data(), bytes);
    return {};
  }

  const GeneratorOptions& options_;
  TapeBuilder builder_;
  Times times_;
  Random random_;
  Book book_;
  Addresses addresses_;
  std::vector<std::byte> frame_;
  std::vector<ItchMessage> messages_;
  std::uint64_t sequence_ = 1;
  std::uint64_t last_ns_ = 0;
};

}  // namespace

Result<Tape> generate_feed(const GeneratorOptions& options, std::size_t memory_bytes) {
  WARMFORK_TRY(check(options));
  const bool raw = options.content == Content::kRaw;
  const std::size_t most_bytes =
      raw ? options.frame_bytes
          : kUdpFrameBytes + kMoldBytes +
                std::max<std::size_t>(options.messages, 3) * (kMoldLengthBytes + kLongestWrittenItch);
  const std::uint64_t heartbeats = options.heartbeat_every == 0 ? 0 : options.packets / options.heartbeat_every;
  const std::uint64_t needed = (options.packets + heartbeats + 1) * Packet::footprint(most_bytes);
  WARMFORK_TRY_ASSIGN(TapeBuilder builder, TapeBuilder::create(std::min<std::uint64_t>(needed, memory_bytes)));
  return Generator(options, std::move(builder)).run();
}

}  // namespace warmfork::feed
