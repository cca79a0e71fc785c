// Messages between LC-3 machines in guests of their own, over the links of fleets: how long one takes, how many go
// through, and what a machine that waits costs. Beside them a cache line to the other CPU and back.
#include "lc3/fleet/bus.hpp"

#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/suites.hpp"
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/assembler.hpp"

#include <sys/resource.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

namespace warmfork::bench {
namespace {

using lc3::Bus;
using lc3::Lc3Vm;
using lc3::LinkSpec;
using lc3::StopReason;
using lc3::Wake;

constexpr std::uint64_t kCapacity = 64 << 10;
constexpr std::uint64_t kForEver = ~std::uint64_t{0};
// Guests of doorbell figures do not look before they sleep: what a wake-up takes is the figure.
constexpr std::uint32_t kNoLooks = 1;

constexpr const char* kRegisters = R"(
NEXT    .FILL xFE26
RECEIVE .FILL xFE27
BURST   .FILL xFE28
STRIDE  .FILL xFE29
COUNT   .FILL xFE2A
SEND    .FILL xFE3B
WAIT    .FILL xFE2E
BUFFER  .FILL x4000
        .END
)";

// A message there, and the one that comes back: 4 instructions, of which WAIT counts once however long it takes.
constexpr std::uint64_t kInstructionsPerTrip = 4;
const std::string kCaller = std::string(R"(
        .ORIG x3000
        LD  R1, BUFFER
        STR R1, R1, #1
        AND R2, R2, #0
        ADD R2, R2, #1
        STR R2, R1, #0          ; a message of one word
LOOP    STI R1, SEND
        STI R1, WAIT
        STI R1, RECEIVE
        BR  LOOP
)") + kRegisters;
constexpr std::uint64_t kCallerSetup = 5;

const std::string kEcho = std::string(R"(
        .ORIG x3000
        LD  R1, BUFFER
LOOP    STI R1, WAIT
        STI R1, RECEIVE
        STI R1, SEND
        BR  LOOP
)") + kRegisters;

// Numbers of 16 bits, one after the other; so a message that is lost, doubled or out of place is seen, unless 65,536
// are lost at once, which the count shows.
constexpr std::uint64_t kInstructionsPerNumber = 4;
// Messages between two looks at whether it is to go on: a fraction of a second.
constexpr std::uint64_t kPiece = 4'000'000;
constexpr std::uint64_t kNumbersSetup = 5;
const std::string kNumbers = std::string(R"(
        .ORIG x3000
        LD  R1, BUFFER
        AND R2, R2, #0
        ADD R3, R2, #1
        STR R3, R1, #0
        AND R2, R2, #0
LOOP    STR R2, R1, #1
        STI R1, SEND
        ADD R2, R2, #1
        BR  LOOP
)") + kRegisters;

const std::string kChecker = std::string(R"(
        .ORIG x3000
        LD  R1, BUFFER
        AND R5, R5, #0          ; the number to come
        AND R6, R6, #0          ; 1: another one came
        LD  R2, MOST
        STI R2, BURST
        AND R2, R2, #0
        ADD R2, R2, #2
        STI R2, STRIDE
LOOP    STI R1, WAIT
        STI R1, RECEIVE
        LDI R3, COUNT
        BRz DONE
        ADD R2, R1, #1
EACH    LDR R4, R2, #0
        NOT R4, R4
        ADD R4, R4, #1
        ADD R4, R4, R5
        BRnp WRONG
        ADD R5, R5, #1
        ADD R2, R2, #2
        ADD R3, R3, #-1
        BRp EACH
        BR  LOOP
WRONG   ADD R6, R6, #1
DONE    HALT
MOST    .FILL #256
)") + kRegisters;

// One program in a fork of its own, at the bus.
struct Station {
  std::unique_ptr<Lc3Vm> master;
  std::unique_ptr<ForkSource> source;
  std::unique_ptr<Fork> fork;
  std::unique_ptr<Lc3Vm> lc3;
  Bus* bus = nullptr;
  std::size_t index = 0;
  std::uint64_t sleeps = 0;

  [[nodiscard]] static Result<Station> create(const kvm::Kvm& kvm, const std::string& program, Bus& bus,
                                              std::size_t index) {
    Station station;
    station.bus = &bus;
    station.index = index;
    WARMFORK_TRY_ASSIGN(const auto assembled, lc3::assemble(program, "bench.asm"));
    WARMFORK_TRY_ASSIGN(station.master, Lc3Vm::create(kvm, {.engine = lc3::Engine::kXbyak,
                                                            .ports = {.ports = 2, .link_bytes = kCapacity}}));
    WARMFORK_TRY(station.master->load(assembled));
    WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, station.master->machine()));
    WARMFORK_TRY_ASSIGN(station.source, make_fork_source(kvm, std::move(snapshot), {.kind = ForkKind::kVm}, 1));
    const lc3::PortConnections connections = bus.connections(index);
    WARMFORK_TRY_ASSIGN(const SharedBindings bindings, station.master->bindings(connections));
    WARMFORK_TRY_ASSIGN(station.fork, station.source->make_with(bindings));
    station.lc3 = station.master->attach(*station.fork);
    WARMFORK_TRY(station.lc3->connect(connections));
    return station;
  }

  /// Runs as a fleet does, until `budget` instructions are done, it halts, or stop() is called; true: it halted.
  [[nodiscard]] Result<bool> run(std::uint64_t budget) {
    for (;;) {
      for (std::uint32_t ended = bus->take_ended(index), port = 0; ended != 0; ended >>= 1, ++port) {
        if ((ended & 1) != 0) WARMFORK_TRY(lc3->end_port(port));
      }
      bus->note(index);
      WARMFORK_TRY_ASSIGN(const lc3::RunResult ran, lc3->run(budget, {.timeout_ns = kTimeoutNs}));
      budget -= ran.executed;
      if (ran.stop == StopReason::kBudget) return false;
      if (ran.stop == StopReason::kHalted) return true;
      if (ran.stop != StopReason::kWaiting) {
        return fail(ErrorKind::kGuestFault, "bench bus: a machine stops: {}", lc3::describe(ran.stop));
      }
      ++sleeps;
      const auto outcome = bus->wait(index, ran.address, 0, kForEver);
      if (outcome == Bus::Outcome::kStopped) return false;
      if (outcome == Bus::Outcome::kStuck) return fail(ErrorKind::kGuestFault, "bench bus: the machines wait for ever");
    }
  }
};

std::vector<LinkSpec> links_there_and_back(Wake wake) {
  LinkSpec there, back;
  there.from = {"a", 0, 0, 1};
  there.to = {"b", 1, 1, 0};
  back.from = {"b", 1, 1, 1};
  back.to = {"a", 0, 0, 0};
  for (LinkSpec* const link : {&there, &back}) {
    link->capacity = kCapacity;
    link->wake = wake;
  }
  return {there, back};
}

// Two machines that play ping-pong, each on a CPU of its own.
class Pair {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Pair>> create(const SuiteOptions& options, Wake wake,
                                                            std::uint32_t looks) {
    std::unique_ptr<Pair> pair(new Pair);
    pair->links_ = links_there_and_back(wake);
    WARMFORK_TRY_ASSIGN(pair->bus_, Bus::create(pair->links_, 2, looks));
    WARMFORK_TRY_ASSIGN(auto caller, Station::create(*options.kvm, kCaller, *pair->bus_, 0));
    pair->caller_.emplace(std::move(caller));
    WARMFORK_TRY_ASSIGN(auto echo, Station::create(*options.kvm, kEcho, *pair->bus_, 1));
    pair->echo_.emplace(std::move(echo));
    WARMFORK_TRY(pair->caller_->run(kCallerSetup));
    return pair;
  }
  ~Pair() { end(); }

  /// The echo runs from here to end(); sleeping or not, it may keep its CPU busy.
  void begin(int other_cpu) {
    stopped_ = false;
    thread_ = std::thread([this, other_cpu] {
      echoed_ = pin_to(other_cpu);
      // In pieces: a machine that always finds something would never be asked to stop.
      while (echoed_ && !stopped_) {
        if (const auto ran = echo_->run(kPiece); !ran) echoed_ = Failure(ran.error());
      }
    });
  }
  /// Half of a round trip in nanoseconds, over `trips` of them and the exit that they end with.
  [[nodiscard]] Result<double> message_ns(std::uint64_t trips) {
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY(caller_->run(trips * kInstructionsPerTrip));
    return tsc_to_ns(tsc_now_ordered() - begin) / static_cast<double>(2 * trips);
  }
  Status end() {
    if (!thread_.joinable()) return {};
    stopped_ = true;
    bus_->stop();
    thread_.join();
    return echoed_;
  }
  [[nodiscard]] std::uint64_t sleeps() const { return caller_->sleeps; }

 private:
  static constexpr std::uint64_t kPiece = 1'000'000;
  Pair() = default;
  std::vector<LinkSpec> links_;
  std::unique_ptr<Bus> bus_;
  std::optional<Station> caller_, echo_;
  std::thread thread_;
  std::atomic<bool> stopped_{false};
  Status echoed_;
};

Status measure_messages(const SuiteOptions& options, std::vector<Figure>& out) {
  Histogram ping_pongs;
  std::array<std::vector<double>, 2> samples;
  std::array<double, 2> sleeps{};
  const std::array<std::uint64_t, 2> trips{options.samples(2000, 100), options.samples(200, 20)};
  // A pair for each round: what a pair has been given of memory and compiled code is one draw.
  for (std::uint64_t round = 0; round < options.samples(20, 2); ++round) {
    options.say(fmt::format("bus: messages, round {}", round + 1));
    WARMFORK_TRY(ping_pong(options.other_cpu, options.samples(10'000, 50), ping_pongs));
    for (const Wake wake : {Wake::kPoll, Wake::kDoorbell}) {
      const auto which = static_cast<std::size_t>(wake);
      WARMFORK_TRY_ASSIGN(
          const std::unique_ptr<Pair> pair,
          Pair::create(options, wake, wake == Wake::kPoll ? lc3::PortConnections::kDefaultLooks : kNoLooks));
      pair->begin(options.other_cpu);
      WARMFORK_TRY(pair->message_ns(trips[which]));  // compiles, warms up
      const std::uint64_t before = pair->sleeps();
      std::uint64_t messages = 0;
      for (std::uint64_t i = 0; i < options.samples(20, 3); ++i) {
        WARMFORK_TRY_ASSIGN(const double ns, pair->message_ns(trips[which]));
        samples[which].push_back(ns);
        messages += trips[which];
      }
      sleeps[which] += static_cast<double>(pair->sleeps() - before) / static_cast<double>(messages);
      WARMFORK_TRY(pair->end());
    }
  }
  const double rounds = static_cast<double>(options.samples(20, 2));
  Figure floor = from_ticks("floors/cacheline_pingpong", ping_pongs);
  for (const Wake wake : {Wake::kPoll, Wake::kDoorbell}) {
    const auto which = static_cast<std::size_t>(wake);
    Figure figure = from_values(fmt::format("bus/message/{}", lc3::kWakeNames[which]), "ns", samples[which]);
    set_floor(figure, floor);
    figure.params["message_words"] = 1;
    figure.counters["sleeps_per_round_trip"] = sleeps[which] / rounds;
    out.push_back(std::move(figure));
  }
  out.push_back(std::move(floor));
  return {};
}

double thread_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// CPU time of a machine's thread while its machine waits for a message that does not come.
Status measure_idle(const SuiteOptions& options, std::vector<Figure>& out) {
  const auto length = std::chrono::milliseconds(options.samples(1000, 50));
  for (const Wake wake : {Wake::kPoll, Wake::kDoorbell}) {
    options.say(fmt::format("bus: a machine that waits, {}", lc3::kWakeNames[static_cast<std::size_t>(wake)]));
    std::vector<double> shares;
    for (std::uint64_t i = 0; i < options.samples(3, 1); ++i) {
      const std::vector<LinkSpec> links = links_there_and_back(wake);
      WARMFORK_TRY_ASSIGN(const auto bus, Bus::create(links, 2, lc3::PortConnections::kDefaultLooks));
      WARMFORK_TRY_ASSIGN(Station waits, Station::create(*options.kvm, kEcho, *bus, 1));
      Status ended;
      double share = 0;
      std::thread thread([&] {
        ended = pin_to(options.other_cpu);
        const double before = thread_cpu_seconds();
        const auto begin = std::chrono::steady_clock::now();
        if (const auto ran = waits.run(kForEver); !ran) ended = Failure(ran.error());
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        share = 100 * (thread_cpu_seconds() - before) / took.count();
      });
      std::this_thread::sleep_for(length);
      bus->stop();
      thread.join();
      WARMFORK_TRY(ended);
      shares.push_back(share);
    }
    out.push_back(
        from_values(fmt::format("bus/idle_cpu/{}", lc3::kWakeNames[static_cast<std::size_t>(wake)]), "%", shares));
    out.back().params["seconds"] = std::chrono::duration<double>(length).count();
  }
  return {};
}

}  // namespace

Result<BusCheck> run_bus_check(const SuiteOptions& options, std::uint64_t messages, const std::function<bool()>& stop) {
  LinkSpec link;
  link.from = {"numbers", 0, 0, 1};
  link.to = {"checker", 1, 1, 0};
  link.capacity = kCapacity;
  const std::array links{link};
  WARMFORK_TRY_ASSIGN(const auto bus, Bus::create(links, 2, lc3::PortConnections::kDefaultLooks));
  WARMFORK_TRY_ASSIGN(Station numbers, Station::create(*options.kvm, kNumbers, *bus, 0));
  WARMFORK_TRY_ASSIGN(Station checker, Station::create(*options.kvm, kChecker, *bus, 1));
  WARMFORK_TRY(numbers.run(kNumbersSetup));
  Status checked;
  std::thread thread([&] {
    checked = pin_to(options.other_cpu);
    if (const auto ran = checked ? checker.run(kForEver) : Result<bool>(false); !ran) checked = Failure(ran.error());
    bus->ended(1);
  });
  const std::uint64_t begin = tsc_now();
  Status sent = pin_to(options.cpu);
  std::uint64_t count = 0;
  while (sent && count < messages && !stop()) {
    const std::uint64_t piece = std::min(kPiece, messages - count);
    if (const auto ran = numbers.run(piece * kInstructionsPerNumber); !ran) sent = Failure(ran.error());
    count += piece;
  }
  bus->ended(0);
  thread.join();
  const double seconds = tsc_to_ns(tsc_now_ordered() - begin) * 1e-9;
  WARMFORK_TRY(sent);
  WARMFORK_TRY(checked);
  WARMFORK_TRY_ASSIGN(const lc3::Registers registers, checker.lc3->registers());
  WARMFORK_TRY_ASSIGN(const lc3::PortReport report, checker.lc3->port_report(0));
  if (registers.general[6] != 0 || report.received != count || report.in) {
    return fail(ErrorKind::kGuestFault, "bench bus: of {} messages {} came, {}; the next was to be {}", count,
                report.received, registers.general[6] != 0 ? "one of them not in order" : "all in order",
                registers.general[5]);
  }
  return BusCheck{.messages = count, .seconds = seconds};
}

SuiteResult run_bus(const SuiteOptions& options) {
  std::vector<Figure> figures;
  if (options.cpu == options.other_cpu) {
    options.remark("bus: one CPU; two machines on it would measure its scheduler");
    return figures;
  }
  WARMFORK_TRY(pin_to(options.cpu));
  WARMFORK_TRY(measure_messages(options, figures));
  WARMFORK_TRY(measure_idle(options, figures));
  options.say("bus: how many go through");
  std::vector<double> rates;
  const std::uint64_t messages = options.samples(1'000'000, 20'000);
  for (std::uint64_t i = 0; i < options.samples(20, 2); ++i) {
    WARMFORK_TRY_ASSIGN(const BusCheck check, run_bus_check(options, messages));
    rates.push_back(static_cast<double>(check.messages) / check.seconds);
  }
  figures.push_back(from_values("bus/throughput", "msg/s", rates));
  figures.back().params["message_words"] = 1;
  figures.back().params["messages"] = static_cast<double>(messages);
  return figures;
}

}  // namespace warmfork::bench
