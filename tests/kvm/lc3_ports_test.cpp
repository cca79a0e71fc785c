// LC-3 machines in guests of their own that send each other messages: through shared memory, without the host.
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3_fixture.hpp"

#include <atomic>
#include <chrono>
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

}  // namespace
}  // namespace warmfork::test
