// LC-3 machines in guests of their own that send each other messages: through shared memory, without the host.
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3_fixture.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::test {
namespace {

using lc3::Lc3Vm;
using lc3::PortConnections;
using lc3::StopReason;

constexpr std::uint64_t kLinkBytes = 16384;

constexpr const char* kRegisters = R"(
IN_STATUS   .FILL xFE20
IN_NEXT     .FILL xFE26
IN_RECEIVE  .FILL xFE27
IN_COUNT    .FILL xFE2A
IN_WAIT     .FILL xFE2E
OUT_SEND    .FILL xFE3B
BUFFER      .FILL x4000
            .END
)";

// Adds one to the first word of what comes at port 0 and sends it on from port 1, until the stream ends.
const std::string kStage = std::string(R"(
        .ORIG x3000
        LD  R1, BUFFER
LOOP    STI R1, IN_WAIT
        STI R1, IN_RECEIVE
        LDI R3, IN_COUNT
        BRz DONE
        LDR R2, R1, #1
        ADD R2, R2, #1
        STR R2, R1, #1
        STI R1, OUT_SEND
        BR  LOOP
DONE    HALT
)") + kRegisters;

class Lc3Ports : public Lc3Test, public ::testing::WithParamInterface<ForkKind> {
 protected:
  struct Stage {
    std::unique_ptr<Fork> fork;
    GuestCpu* cpu = nullptr;
    std::unique_ptr<Lc3Vm> lc3;
    PortConnections connections;
  };

  void SetUp() override {
    Lc3Test::SetUp();
    if (IsSkipped()) return;
    master_ =
        make_lc3({.engine = lc3::Engine::kXbyak, .ports = {.ports = 2, .link_bytes = kLinkBytes, .feed_bytes = 65536}});
    ASSERT_NE(master_, nullptr);
  }
  void load(const std::string& source) {
    const auto program = lc3::assemble(source, "stage.asm");
    ASSERT_TRUE(program) << program.error().message;
    ASSERT_TRUE(master_->load(*program));
    auto snapshot = Snapshot::take(system(), master_->machine());
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    auto source_of_forks = make_fork_source(system(), *snapshot, {.kind = GetParam()}, 8);
    ASSERT_TRUE(source_of_forks) << source_of_forks.error().message;
    source_ = std::move(*source_of_forks);
  }
  Stage stage(PortConnections connections) {
    Stage stage{.connections = std::move(connections)};
    const auto bindings = master_->bindings(stage.connections);
    EXPECT_TRUE(bindings) << bindings.error().message;
    auto cpu = source_->make_cpu();
    EXPECT_TRUE(cpu);
    auto fork = source_->make_with(*bindings);
    EXPECT_TRUE(fork) << fork.error().message;
    if (!fork) return stage;
    stage.cpu = *cpu;
    stage.fork = std::move(*fork);
    if (stage.cpu != nullptr) EXPECT_TRUE(stage.fork->bind(*stage.cpu));
    stage.lc3 = master_->attach(*stage.fork);
    const auto connected = stage.lc3->connect(stage.connections);
    EXPECT_TRUE(connected) << connected.error().message;
    return stage;
  }
  std::shared_ptr<Link> link() {
    auto made = Link::create(kLinkBytes);
    EXPECT_TRUE(made) << made.error().message;
    return made ? *made : nullptr;
  }
  /// Runs until the program halts; between runs it sleeps on its doorbell, or does not.
  static void serve(Stage& stage, std::atomic<unsigned>& sleeps) {
    for (;;) {
      const auto ran = stage.lc3->run(1'000'000'000, {.timeout_ns = kTimeout});
      ASSERT_TRUE(ran) << ran.error().message;
      if (ran->stop != StopReason::kWaiting) {
        EXPECT_EQ(ran->stop, StopReason::kHalted);
        break;
      }
      const unsigned port = (ran->address - lc3::kPortBase) / lc3::kPortRegisters;
      const PortConnections::Port& where = stage.connections.ports[port];
      if (!where.doorbells) continue;
      ++sleeps;
      const auto& bell = where.in != nullptr ? where.in->receiver_bell() : where.out->sender_bell();
      EXPECT_TRUE(bell->wait(kTimeout)) << "a wake-up was lost";
    }
    const auto told = stage.lc3->finish_port(1);
    EXPECT_TRUE(told && *told);
  }
  static std::uint16_t first_word(ring::SpscConsumer<ring::Hostile>& consumer) {
    std::array<std::uint16_t, 2> words{};
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!consumer.pop(std::as_writable_bytes(std::span(words)))) {
      EXPECT_FALSE(consumer.violation());
      if (std::chrono::steady_clock::now() > give_up) {
        ADD_FAILURE() << "nothing came";
        return 0;
      }
      std::this_thread::yield();
    }
    return words[0];
  }

  std::unique_ptr<Lc3Vm> master_;
  std::unique_ptr<ForkSource> source_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Lc3Ports, ::testing::Values(ForkKind::kVm, ForkKind::kSpace),
                         [](const auto& kind) { return kind.param == ForkKind::kVm ? "vm" : "space"; });

TEST_P(Lc3Ports, APipelineOfTwoMachines) {
  load(kStage);
  for (const bool doorbells : {false, true}) {
    const auto in = link(), middle = link(), out = link();
    const auto connected = [&](const std::shared_ptr<Link>& from, const std::shared_ptr<Link>& to) {
      PortConnections connections;
      connections.ports[0] = {.in = from, .looks = 100, .doorbells = doorbells};
      connections.ports[1] = {.out = to, .looks = 100, .doorbells = doorbells};
      return connections;
    };
    Stage first = stage(connected(in, middle)), second = stage(connected(middle, out));
    ASSERT_TRUE(first.lc3 && second.lc3);
    ring::SpscProducer<ring::Hostile> producer(in->producer_view());
    ring::SpscConsumer<ring::Hostile> consumer(out->consumer_view());
    std::atomic<unsigned> sleeps = 0;
    std::thread a([&] { serve(first, sleeps); });
    std::thread b([&] { serve(second, sleeps); });
    const auto give = [&](std::span<const std::byte> bytes, std::uint16_t type) {
      while (!producer.push(bytes, type)) std::this_thread::yield();
      if (producer.needs_wake()) in->receiver_bell()->ring();
    };
    while (doorbells && sleeps < 2) std::this_thread::yield();  // both find nothing
    constexpr unsigned kMessages = 3000;
    unsigned wrong = 0;
    std::thread sender([&] {
      for (unsigned i = 0; i < kMessages; ++i) {
        const std::array<std::uint16_t, 2> words{static_cast<std::uint16_t>(i), 7};
        give(std::as_bytes(std::span(words)), 0);
      }
      give({}, lc3::kEndOfStream);
    });
    for (unsigned i = 0; i < kMessages; ++i) {
      wrong += first_word(consumer) != i + 2;
      if (doorbells && consumer.needs_wake()) out->sender_bell()->ring();
    }
    sender.join();
    a.join();
    b.join();
    EXPECT_EQ(wrong, 0U);
    if (doorbells) EXPECT_GT(sleeps, 0U);
    // The end of the stream has gone through both.
    const auto last = consumer.peek();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->type(), lc3::kEndOfStream);
  }
}

TEST_P(Lc3Ports, AFeedReachesAllReadersWithoutAnExit) {
  load(std::string(R"(
        .ORIG x3000
LOOP    STI R1, IN_WAIT
        LDI R1, STATUS
        ADD R1, R1, R1
        ADD R1, R1, R1
        ADD R1, R1, R1  ; bit 12, the end, is the sign now
        BRn DONE
        LDI R1, DATA
        ADD R2, R2, R1
        STI R1, IN_NEXT
        BR  LOOP
DONE    LDI R3, LOST
        HALT
STATUS  .FILL xFE20
DATA    .FILL xFE22
LOST    .FILL xFE25
)") + kRegisters);
  const auto feed = Feed::create(65536);
  ASSERT_TRUE(feed);
  std::vector<Stage> readers;
  for (int i = 0; i < 3; ++i) {
    PortConnections connections;
    connections.ports[0] = {.feed = true};
    connections.feed = *feed;
    auto cursor = SharedMemory::create(ring::kPageBytes);
    ASSERT_TRUE(cursor);
    connections.feed_cursor = *cursor;
    readers.push_back(stage(connections));
    ASSERT_NE(readers.back().lc3, nullptr);
  }
  ring::BroadcastWriter writer((*feed)->page(), 65536);
  std::uint16_t sum = 0;
  for (std::uint16_t i = 1; i <= 1000; ++i) {
    sum = static_cast<std::uint16_t>(sum + i);
    ASSERT_TRUE(writer.push(std::as_bytes(std::span(&i, 1))));
  }
  ASSERT_TRUE(writer.push({}, lc3::kEndOfStream));
  for (Stage& reader : readers) {
    const std::uint64_t before = reader.fork->counters().kvm_run;
    const auto ran = reader.lc3->run(1'000'000);
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_EQ(ran->stop, StopReason::kHalted);
    EXPECT_LE(reader.fork->counters().kvm_run - before, 4U) << "some for compiling";
    const auto registers = reader.lc3->registers();
    ASSERT_TRUE(registers);
    EXPECT_EQ(registers->general[2], sum);
    EXPECT_EQ(registers->general[3], 0) << "none was lost";
    const auto* cursor =
        reinterpret_cast<const ring::BroadcastReaderPage*>(reader.connections.feed_cursor->bytes().data());
    EXPECT_EQ(cursor->sequence, 1000U);
  }
}

TEST_P(Lc3Ports, ASenderThatIsGoneEndsTheReceiver) {
  load(kStage);
  const auto in = link(), out = link();
  PortConnections connections;
  connections.ports[0] = {.in = in, .looks = 10};
  connections.ports[1] = {.out = out, .looks = 10};
  Stage only = stage(connections);
  ASSERT_NE(only.lc3, nullptr);
  const auto waits = only.lc3->run(1000);
  ASSERT_TRUE(waits) << waits.error().message;
  EXPECT_EQ(waits->stop, StopReason::kWaiting);
  ASSERT_TRUE(only.lc3->end_port(0));
  const auto ends = only.lc3->run(1000);
  ASSERT_TRUE(ends);
  EXPECT_EQ(ends->stop, StopReason::kHalted);
}

TEST_P(Lc3Ports, ConnectionsThatDoNotFitAreRefused) {
  load(kStage);
  const auto refused = [&](const PortConnections& connections, const char* why) {
    const auto bindings = master_->bindings(connections);
    ASSERT_FALSE(bindings) << why;
    EXPECT_EQ(bindings.error().kind, ErrorKind::kUsage) << why;
  };
  PortConnections connections;
  connections.ports[2].in = link();
  refused(connections, "there are two ports");
  connections = {};
  connections.ports[0].in = *Link::create(2 * kLinkBytes);
  refused(connections, "a link of another size");
  connections = {};
  connections.ports[0].feed = true;
  refused(connections, "no feed");
  connections.feed = *Feed::create(4096);
  refused(connections, "a feed of another size");
  connections.feed = *Feed::create(65536);
  connections.ports[0].in = link();
  refused(connections, "both");
  // A fork without the memory of its connections.
  connections = {};
  Stage bare = stage(connections);
  ASSERT_NE(bare.lc3, nullptr);
  connections.ports[0].in = link();
  const auto connected = bare.lc3->connect(connections);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().kind, ErrorKind::kUsage);
}

// A peer whose part of the ring a hostile guest writes: a guest that is no LC-3, with the rights a link gives it. What
// it does costs the machine at the other end that port, and nobody else anything.
class HostilePeer : public Lc3Ports {
 protected:
  /// A guest that has one side of `link`.
  std::unique_ptr<Machine> attacker(const std::shared_ptr<Link>& link, bool sends) {
    MachineConfig config;
    config.memory_bytes = 512 << 10;
    config.stack_bytes = 64 << 10;
    config.shared_regions = {{.name = "ring",
                              .bytes = ring::spsc_producer_part_bytes(kLinkBytes),
                              .access = sends ? SharedAccess::kReadWrite : SharedAccess::kReadOnly},
                             {.name = "page",
                              .bytes = ring::kPageBytes,
                              .access = sends ? SharedAccess::kReadOnly : SharedAccess::kReadWrite}};
    config.shared = {link->producer_part(), link->consumer_part()};
    return make_ready("probe_shared_region", std::move(config));
  }
  static void poke(Machine& attacker, std::size_t region, std::uint64_t offset, std::uint64_t value) {
    const std::uint64_t begin = attacker.shared_region(region)->begin.value;
    const auto done = attacker.call(*attacker.find_vmcall("poke"), std::vector<std::uint64_t>{begin + offset, value},
                                    {.timeout_ns = kTimeout});
    EXPECT_TRUE(done) << done.error().message;
  }
  void expect_pipeline_works() {
    const auto in = link(), out = link();
    PortConnections connections;
    connections.ports[0] = {.in = in, .looks = 10};
    connections.ports[1] = {.out = out, .looks = 10};
    Stage bystander = stage(connections);
    ASSERT_NE(bystander.lc3, nullptr);
    ring::SpscProducer<ring::Hostile> producer(in->producer_view());
    ring::SpscConsumer<ring::Hostile> consumer(out->consumer_view());
    for (std::uint16_t i = 0; i < 3; ++i) ASSERT_TRUE(producer.push(std::as_bytes(std::span(&i, 1))));
    ASSERT_TRUE(producer.push({}, lc3::kEndOfStream));
    const auto ran = bystander.lc3->run(1000, {.timeout_ns = kTimeout});
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_EQ(ran->stop, StopReason::kHalted);
    for (std::uint16_t i = 0; i < 3; ++i) EXPECT_EQ(first_word(consumer), i + 1);
    const auto report = bystander.lc3->port_report(0);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->received, 3U);
    EXPECT_FALSE(report->in);
  }

  static constexpr std::uint64_t kTail = offsetof(ring::SpscProducerPage, tail);
  static constexpr std::uint64_t kData = ring::kPageBytes;
};
INSTANTIATE_TEST_SUITE_P(Kinds, HostilePeer, ::testing::Values(ForkKind::kVm, ForkKind::kSpace),
                         [](const auto& kind) { return kind.param == ForkKind::kVm ? "vm" : "space"; });

TEST_P(HostilePeer, ASenderThatCorruptsItsRingSpoilsOnePort) {
  load(kStage);
  struct Attack {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> before, then;
    ring::Reason caught;
    std::uint64_t value;
  };
  const std::uint64_t padding = std::uint64_t{1} << 48;
  const std::vector<Attack> attacks{
      {{}, {{kTail, std::uint64_t{1} << 40}}, ring::Reason::kIndex, std::uint64_t{1} << 40},
      {{}, {{kTail, 3}}, ring::Reason::kAlignment, 3},
      {{}, {{kData, 0xfffffff0}, {kTail, 16}}, ring::Reason::kLength, 0xfffffff8},
      {{}, {{kData, padding | 8}, {kTail, 16}}, ring::Reason::kPadding, 16},
      // A message of one word, as it should be; then the index goes back.
      {{{kData, 2}, {kData + 8, 41}, {kTail, 16}}, {{kTail, 8}}, ring::Reason::kIndex, 8},
  };
  for (const Attack& attack : attacks) {
    const auto in = link(), out = link();
    PortConnections connections;
    connections.ports[0] = {.in = in, .looks = 10};
    connections.ports[1] = {.out = out, .looks = 10};
    Stage victim = stage(connections);
    const auto hostile = attacker(in, true);
    ASSERT_TRUE(victim.lc3 && hostile);
    for (const auto& [offset, value] : attack.before) poke(*hostile, 0, offset, value);
    const auto waits = victim.lc3->run(1000, {.timeout_ns = kTimeout});
    ASSERT_TRUE(waits) << waits.error().message;
    EXPECT_EQ(waits->stop, StopReason::kWaiting);
    for (const auto& [offset, value] : attack.then) poke(*hostile, 0, offset, value);
    const auto ends = victim.lc3->run(1000, {.timeout_ns = kTimeout});
    ASSERT_TRUE(ends) << ends.error().message;
    EXPECT_EQ(ends->stop, StopReason::kHalted) << "WAIT completes: nothing will ever come";
    const auto report = victim.lc3->port_report(0);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->in.reason, attack.caught) << ring::describe(report->in.reason);
    EXPECT_EQ(report->in.value, attack.value);
    EXPECT_EQ(report->received, attack.before.empty() ? 0U : 1U);
    // The port beside it is as it was.
    EXPECT_FALSE(victim.lc3->port_report(1)->out);
    const auto told = victim.lc3->finish_port(1);
    EXPECT_TRUE(told && *told);
    expect_pipeline_works();
  }
}

TEST_P(HostilePeer, AReceiverThatCorruptsItsIndexHoldsNobodyUp) {
  load(std::string(".ORIG x3000\nLD R1, BUFFER\nLOOP STI R1, OUT_SEND\nBR LOOP\n") + kRegisters);
  const auto out = link();
  PortConnections connections;
  connections.ports[1] = {.out = out, .looks = 10};
  Stage victim = stage(connections);
  const auto hostile = attacker(out, false);
  ASSERT_TRUE(victim.lc3 && hostile);
  poke(*hostile, 1, offsetof(ring::SpscConsumerPage, head), 0xdeadbee8);
  // Far more than the ring holds: a sender that believed the index would write over what is unread, or wait for ever.
  const auto ran = victim.lc3->run(20'000, {.timeout_ns = kTimeout});
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->stop, StopReason::kBudget);
  const auto report = victim.lc3->port_report(1);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->out.reason, ring::Reason::kIndex);
  EXPECT_EQ(report->out.value, 0xdeadbee8U);
  EXPECT_LE(report->sent * 8, kLinkBytes);
}

TEST_P(HostilePeer, AFloodOfDoorbellsWakesInVainAndNoMore) {
  load(kStage);
  const auto in = link(), out = link();
  PortConnections connections;
  connections.ports[0] = {.in = in, .looks = 10, .doorbells = true};
  connections.ports[1] = {.out = out, .looks = 10};
  Stage victim = stage(connections);
  const auto hostile = make_ready("probe_calls");
  ASSERT_TRUE(victim.lc3 && hostile);
  ASSERT_TRUE(hostile->bind_doorbell(1, in->receiver_bell()));
  std::thread flood([&] {
    const auto rang = hostile->call(*hostile->find_vmcall("ring_doorbell"),
                                    std::vector<std::uint64_t>{1, ~std::uint64_t{0}}, {.timeout_ns = kTimeout});
    EXPECT_FALSE(rang);
  });
  std::atomic<unsigned> wakes = 0;
  std::thread server([&] { serve(victim, wakes); });
  while (wakes < 20) std::this_thread::yield();  // serve() gives up if it is not woken
  ring::SpscProducer<ring::Hostile> producer(in->producer_view());
  ring::SpscConsumer<ring::Hostile> consumer(out->consumer_view());
  const std::uint16_t word = 6;
  EXPECT_TRUE(producer.push(std::as_bytes(std::span(&word, 1))));
  if (producer.needs_wake()) in->receiver_bell()->ring();
  EXPECT_EQ(first_word(consumer), 7);
  hostile->cancel();
  flood.join();
  EXPECT_TRUE(producer.push({}, lc3::kEndOfStream));
  if (producer.needs_wake()) in->receiver_bell()->ring();
  server.join();
  const auto report = victim.lc3->port_report(0);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->received, 1U);
}

}  // namespace
}  // namespace warmfork::test
