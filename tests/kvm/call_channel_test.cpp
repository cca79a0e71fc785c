// Calls through the ring: the answers, the exits they do not cost, every way they can end, and guests that cheat. The
// emulated machine has one processor thread: deadlines are generous, and nothing here is about speed.
#include "fork/call_channel.hpp"

#include "fork/fork.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace warmfork {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Arguments = std::vector<std::uint64_t>;

// What is called: a master, or a fork of either kind.
enum class Called : std::uint8_t { kMachine, kVmFork, kSpaceFork };

std::string called_name(const ::testing::TestParamInfo<Called>& info) {
  constexpr std::array kNames{"Machine", "VmFork", "SpaceFork"};
  return kNames.at(static_cast<std::size_t>(info.param));
}

class CallChannelBase : public test::MachineTest {
 protected:
  void make_guest(Called called, const std::string& name) {
    MachineConfig config;
    config.memory_bytes = 128 * kPage;
    config.stack_bytes = 8 * kPage;
    config.call_area_bytes = 2 * kPage;
    master_ = make_ready(name, std::move(config));
    ASSERT_NE(master_, nullptr);
    guest_ = master_.get();
    if (called == Called::kMachine) return;
    auto snapshot = Snapshot::take(system(), *master_);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    output_ = std::make_unique<BufferIo>("");
    auto source = make_fork_source(
        system(), *snapshot,
        {.kind = called == Called::kVmFork ? ForkKind::kVm : ForkKind::kSpace, .io = output_.get()}, 4);
    ASSERT_TRUE(source) << source.error().message;
    source_ = std::move(*source);
    fork_ = make_fork();
    ASSERT_NE(fork_, nullptr);
    guest_ = fork_.get();
  }
  std::unique_ptr<Fork> make_fork() {
    auto made = source_->make();
    EXPECT_TRUE(made) << made.error().message;
    if (!made) return nullptr;
    const auto cpu = source_->make_cpu();
    EXPECT_TRUE(cpu) << cpu.error().message;
    if (cpu && *cpu != nullptr) EXPECT_TRUE((*made)->bind(**cpu));
    return std::move(*made);
  }
  std::unique_ptr<CallChannel> open(ChannelOptions options = {}) {
    if (options.timeout_ns == 0) options.timeout_ns = kTimeout;
    auto opened = CallChannel::open_for_one_tenant(*guest_, options);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  Gva function(const char* name) {
    const auto found = guest_->find_vmcall(name);
    EXPECT_TRUE(found) << found.error().message;
    return found.value_or(Gva{});
  }
  Result<std::uint64_t> try_call(CallChannel& channel, const char* name, const Arguments& arguments = {},
                                 std::uint64_t timeout_ns = 0) {
    return channel.call(function(name), arguments, {.timeout_ns = timeout_ns});
  }
  std::uint64_t call(CallChannel& channel, const char* name, const Arguments& arguments = {}) {
    const auto result = try_call(channel, name, arguments);
    EXPECT_TRUE(result) << name << ": " << result.error().message;
    return result.value_or(0);
  }
  /// The channel has failed with `kind`: so does everything from now on, in the channel and in the guest, until a fork
  /// is reset.
  void expect_dead(CallChannel& channel, ErrorKind kind) {
    const auto later = try_call(channel, alive_);
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().kind, kind) << later.error().message;
    const auto posted = channel.post(function(alive_), Arguments{1});
    ASSERT_FALSE(posted);
    EXPECT_EQ(posted.error().kind, kind);
    const Status closed = channel.close();
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().message, later.error().message);
    EXPECT_FALSE(guest_->ready());
    EXPECT_FALSE(guest_->call(function(alive_), Arguments{1}));
    if (fork_ != nullptr) expect_new();
  }
  void expect_new() {
    const Status done = fork_->reset();
    ASSERT_TRUE(done) << done.error().message;
    const auto called = fork_->call(function(alive_), Arguments{1}, {.timeout_ns = kTimeout});
    ASSERT_TRUE(called) << called.error().message;
    const auto channel = open();
    ASSERT_NE(channel, nullptr);
    (void)call(*channel, alive_, {1});
    const Status closed = channel->close();
    EXPECT_TRUE(closed) << closed.error().message;
    ASSERT_TRUE(fork_->reset());
  }

  std::unique_ptr<BufferIo> output_;
  std::unique_ptr<Machine> master_;
  std::unique_ptr<ForkSource> source_;
  std::unique_ptr<Fork> fork_;
  Guest* guest_ = nullptr;
  const char* alive_ = "nothing";  // a function of the guest that only returns
};

// --- Every kind of guest ---------------------------------------------------------------------------------------------

class CallChannelTest : public CallChannelBase, public ::testing::WithParamInterface<Called> {
 protected:
  void SetUp() override {
    CallChannelBase::SetUp();
    if (!IsSkipped()) make_guest(GetParam(), "probe_calls");
  }
};

TEST_P(CallChannelTest, AnswersWithoutExits) {
  const std::uint64_t entries_before = guest_->counters().kvm_run;
  auto channel = open({.polls_before_parking = 0});
  ASSERT_NE(channel, nullptr);
  const Gva weigh = function("weigh");
  const std::uint64_t calls = test::scaled(100'000);
  // On a machine with other things to do every call may wait for a turn of the scheduler: enough is enough.
  const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (std::uint64_t i = 0; i < calls && (i % 64 != 0 || std::chrono::steady_clock::now() < enough); ++i) {
    const std::array arguments{i, i + 1, i + 2, i + 3, i + 4, i + 5};
    const auto answer = channel->call(weigh, arguments);
    ASSERT_TRUE(answer) << answer.error().message;
    ASSERT_EQ(*answer, i * 111111 + 10 + 200 + 3000 + 40000 + 500000);
  }
  EXPECT_EQ(call(*channel, "count"), 1U);
  EXPECT_EQ(call(*channel, "count"), 2U) << "no reset between requests";
  EXPECT_EQ(call(*channel, "stack_alignment"), 0U);
  EXPECT_EQ(call(*channel, "by_symbol", {21}), 42U);
  EXPECT_EQ(channel->parks(), 0U);
  const Status closed = channel->close();
  ASSERT_TRUE(closed) << closed.error().message;
  // One entry serves them all. A signal to the thread (a profiler's, say) can make it another.
  EXPECT_LE(guest_->counters().kvm_run - entries_before, 1 + guest_->counters().interrupted);
}

TEST_P(CallChannelTest, GivesBackAGuestThatCanBeCalledResetAndServeAgain) {
  for (std::uint64_t round = 0; round < 5; ++round) {
    auto channel = open({.polls_before_parking = round % 2 == 0 ? 100U : 0U});
    ASSERT_NE(channel, nullptr);
    const std::uint64_t expected = fork_ != nullptr ? 1 : 1 + 2 * round;
    EXPECT_EQ(call(*channel, "count"), expected);
    EXPECT_EQ(guest_->call(function("count"), {}).error().kind, ErrorKind::kUsage) << "it is the channel's";
    EXPECT_FALSE(CallChannel::open_for_one_tenant(*guest_));
    if (fork_ != nullptr) EXPECT_EQ(fork_->reset().error().kind, ErrorKind::kUsage);
    const Status closed = channel->close();
    ASSERT_TRUE(closed) << closed.error().message;
    EXPECT_EQ(try_call(*channel, "count").error().kind, ErrorKind::kUsage);
    EXPECT_TRUE(channel->close());
    ASSERT_TRUE(guest_->ready());
    EXPECT_EQ(guest_->call(function("count"), {}, {.timeout_ns = kTimeout}).value_or(0), expected + 1);
    if (fork_ != nullptr) {
      ASSERT_TRUE(fork_->reset());
      const GuestLayout& layout = fork_->memory().layout();
      const std::uint64_t ring = *layout.window_offset(layout.call_ring().begin);
      EXPECT_EQ(std::memcmp(&fork_->memory().window()[ring], &fork_->snapshot()->window()[ring], kPage), 0)
          << "the ring is part of what a reset restores";
    }
  }
}

TEST_P(CallChannelTest, ParksWhenIdleAndWakesUp) {
  auto channel = open({.polls_before_parking = 10});
  ASSERT_NE(channel, nullptr);
  std::uint64_t parks = 0;
  for (std::uint64_t i = 1; i <= test::scaled(300) + 20; ++i) {
    if (i % 3 == 0) {
      while (channel->parks() == parks) std::this_thread::yield();
    }
    parks = channel->parks();
    ASSERT_EQ(call(*channel, "count"), i);  // also in the moment between its last poll and its exit
  }
  EXPECT_GT(channel->parks(), 0U);
  // Parked for good it takes no processor.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  parks = channel->parks();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(channel->parks(), parks);
}

TEST_P(CallChannelTest, AnswersInOrderWhatIsInFlight) {
  auto channel = open({.polls_before_parking = 5000});
  ASSERT_NE(channel, nullptr);
  const Gva weigh = function("weigh");
  constexpr std::uint64_t kSlots = WARMFORK_CALL_RING_SLOTS;
  EXPECT_EQ(channel->poll().error().kind, ErrorKind::kUsage);
  EXPECT_EQ(channel->wait().error().kind, ErrorKind::kUsage);
  const std::uint64_t requests = test::scaled(20'000) + 100;
  std::uint64_t posted = 0;
  for (std::uint64_t taken = 0; taken < requests;) {
    while (posted < requests && channel->in_flight() < kSlots) {
      ASSERT_TRUE(channel->post(weigh, Arguments{posted, 1, 2}));
      ++posted;
    }
    if (channel->in_flight() == kSlots) {
      EXPECT_EQ(channel->post(weigh, Arguments{}).error().kind, ErrorKind::kLimit);
      EXPECT_EQ(channel->call(weigh, Arguments{}).error().kind, ErrorKind::kUsage);
    }
    const auto answer = channel->poll();
    ASSERT_TRUE(answer) << answer.error().message;
    std::optional<std::uint64_t> value = *answer;
    if (!value) {
      const auto waited = channel->wait();
      ASSERT_TRUE(waited) << waited.error().message;
      value = *waited;
    }
    ASSERT_EQ(*value, taken + 10 + 200);
    ++taken;
  }
  EXPECT_EQ(channel->in_flight(), 0U);
  for (std::uint64_t i = 0; i < kSlots; ++i) ASSERT_TRUE(channel->post(function("count"), Arguments{}));
  const Status closed = channel->close();
  EXPECT_TRUE(closed) << closed.error().message;
  EXPECT_EQ(guest_->call(function("count"), {}, {.timeout_ns = kTimeout}).value_or(0), kSlots + 1)
      << "what was in flight has been answered";
}

TEST_P(CallChannelTest, RefusesWhatIsNoRequest) {
  auto channel = open();
  ASSERT_NE(channel, nullptr);
  EXPECT_EQ(channel->call(function("count"), Arguments(7)).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(channel->call(Gva{0}, Arguments{}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(channel->call(Gva{~std::uint64_t{0}}, Arguments{}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(call(*channel, "count"), 1U);
}

TEST_P(CallChannelTest, CarriesBuffers) {
  auto channel = open();
  ASSERT_NE(channel, nullptr);
  const std::string text = "the call area";
  const auto address = channel->put_buffer(4090, std::as_bytes(std::span(text)));
  ASSERT_TRUE(address) << address.error().message;
  std::uint64_t sum = 0;
  for (const char c : text) sum += static_cast<unsigned char>(c);
  EXPECT_EQ(call(*channel, "sum_bytes", {address->value, text.size()}), sum);
  EXPECT_EQ(call(*channel, "reverse_bytes", {address->value, text.size()}), address->value);
  std::string back(text.size(), ' ');
  ASSERT_TRUE(channel->get_buffer(4090, std::as_writable_bytes(std::span(back))));
  EXPECT_EQ(back, std::string(text.rbegin(), text.rend()));
  EXPECT_EQ(channel->put_buffer(2 * kPage - 3, std::as_bytes(std::span(text))).error().kind, ErrorKind::kLimit);
  EXPECT_EQ(channel->get_buffer(~std::uint64_t{0}, std::as_writable_bytes(std::span(back))).error().kind,
            ErrorKind::kLimit);
  ASSERT_TRUE(channel->close());
  if (fork_ == nullptr) return;
  ASSERT_TRUE(fork_->reset());
  const GuestLayout& layout = fork_->memory().layout();
  const std::uint64_t area = *layout.window_offset(layout.call_area().begin);
  EXPECT_EQ(std::memcmp(&fork_->memory().window()[area], &fork_->snapshot()->window()[area], 2 * kPage), 0);
}

TEST_P(CallChannelTest, ServesSystemCallsInside) {
  auto channel = open();
  ASSERT_NE(channel, nullptr);
  const std::string text = "hello through the ring\n";
  const auto address = channel->put_buffer(0, std::as_bytes(std::span(text)));
  ASSERT_TRUE(address);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(call(*channel, "say", {address->value, text.size()}), text.size());
  ASSERT_TRUE(channel->close());
  EXPECT_EQ(output_ != nullptr ? output_->output() : io().output(), text + text + text);
}

TEST_P(CallChannelTest, AFaultFailsTheCallAndAllLaterOnes) {
  auto channel = open();
  ASSERT_NE(channel, nullptr);
  ASSERT_TRUE(channel->post(function("count"), Arguments{}));
  ASSERT_TRUE(channel->post(function("crash"), Arguments{0}));
  // It is either in flight when the guest crashes, or refused because the guest has crashed.
  const Status behind = channel->post(function("count"), Arguments{});
  if (!behind) EXPECT_EQ(behind.error().kind, ErrorKind::kGuestFault);
  EXPECT_EQ(channel->wait().value_or(0), 1U) << "answered before the fault";
  const auto crashed = channel->wait();
  ASSERT_FALSE(crashed);
  EXPECT_EQ(crashed.error().kind, ErrorKind::kGuestFault);
  EXPECT_THAT(crashed.error().message, HasSubstr("page fault"));
  ASSERT_TRUE(guest_->fault());
  EXPECT_EQ(guest_->fault()->vector, 14U);
  EXPECT_THAT(guest_->fault()->symbol, HasSubstr("crash"));
  EXPECT_EQ(channel->poll().error().message, crashed.error().message);
  EXPECT_EQ(channel->in_flight(), behind ? 2U : 1U);
  EXPECT_FALSE(channel->post(function("count"), Arguments{}));
  EXPECT_FALSE(channel->close());
  if (fork_ != nullptr) expect_new();
}

TEST_P(CallChannelTest, AnExitOrAReadyEndsIt) {
  for (const bool leaves : {true, false}) {
    auto channel = open();
    ASSERT_NE(channel, nullptr);
    const auto ended = leaves ? try_call(*channel, "leave", {7}) : try_call(*channel, "ready_again");
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().kind, ErrorKind::kGuestFault);
    EXPECT_THAT(ended.error().message, HasSubstr(leaves ? "exited with code 7" : "asked for vmcalls"));
    expect_dead(*channel, ErrorKind::kGuestFault);
    if (fork_ == nullptr) break;
  }
}

TEST_P(CallChannelTest, ALoopMeetsItsDeadline) {
  auto channel = open({.timeout_ns = kTimeout});
  ASSERT_NE(channel, nullptr);
  EXPECT_EQ(call(*channel, "count"), 1U);
  const auto late = try_call(*channel, "spin", {}, 5'000'000);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kDeadline) << late.error().message;
  EXPECT_THAT(late.error().message, HasSubstr("in spin"));
  expect_dead(*channel, ErrorKind::kDeadline);
}

TEST_P(CallChannelTest, ASlowCallIsWaitedForWithoutAProcessor) {
  auto channel = open({.spin_ns = 1000});
  ASSERT_NE(channel, nullptr);
  const std::uint64_t iterations = test::scaled(100'000'000);
  EXPECT_EQ(call(*channel, "spin_for", {iterations}), iterations);
  ASSERT_TRUE(channel->post(function("spin_for"), Arguments{iterations}, {.timeout_ns = 1'000'000}));
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  Result<std::optional<std::uint64_t>> polled = channel->poll();
  while (polled && !*polled) polled = channel->poll();
  // It counts from post(): unless the guest was faster, the time is over.
  if (!polled) EXPECT_EQ(polled.error().kind, ErrorKind::kDeadline);
}

TEST_P(CallChannelTest, CancelStopsACallFromAnotherThread) {
  auto channel = open();
  ASSERT_NE(channel, nullptr);
  std::jthread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    channel->cancel();
  });
  const auto cancelled = try_call(*channel, "spin");
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().kind, ErrorKind::kCancelled) << cancelled.error().message;
  other.join();
  expect_dead(*channel, ErrorKind::kCancelled);
}

TEST_P(CallChannelTest, CancelWhileParkedOrPollingOrTwiceOrTooLate) {
  for (int round = 0; round < 4; ++round) {
    auto channel = open({.polls_before_parking = round % 2 == 0 ? 10U : 0U});
    ASSERT_NE(channel, nullptr);
    (void)call(*channel, "nothing");
    while (round % 2 == 0 && channel->parks() == 0) std::this_thread::yield();
    if (round == 3) {
      ASSERT_TRUE(channel->close());
      channel->cancel();
    } else {
      channel->cancel();
      if (round > 0) channel->cancel();
      const auto cancelled = try_call(*channel, "nothing");
      if (!cancelled) EXPECT_EQ(cancelled.error().kind, ErrorKind::kCancelled);
      EXPECT_EQ(channel->close().error().kind, ErrorKind::kCancelled);
      if (fork_ == nullptr) return;
      ASSERT_TRUE(fork_->reset());
    }
    channel.reset();
    const auto called = guest_->call(function("nothing"), {}, {.timeout_ns = kTimeout});
    EXPECT_TRUE(called) << called.error().message << ", round " << round;
  }
}

TEST_P(CallChannelTest, DestroyedWhileParkedPollingOrWithCallsInFlight) {
  for (int round = 0; round < 4; ++round) {
    auto channel = open({.polls_before_parking = round == 0 ? 10U : 0U, .timeout_ns = kTimeout});
    ASSERT_NE(channel, nullptr);
    switch (round) {
      case 0:
        while (channel->parks() == 0) std::this_thread::yield();
        break;
      case 1: (void)call(*channel, "count"); break;
      case 2:
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(channel->post(function("spin"), Arguments{}));
        break;
      default: {
        CallChannel* const inside = channel.get();
        const Gva spin = function("spin");
        std::atomic<bool> begun{false};
        std::optional<Result<std::uint64_t>> result;
        std::jthread other([&] {
          begun = true;
          result.emplace(inside->call(spin, Arguments{}));
        });
        while (!begun) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));  // it is inside by then
        channel.reset();
        other.join();
        ASSERT_TRUE(result && !*result);
        EXPECT_EQ(result->error().kind, ErrorKind::kCancelled) << result->error().message;
        break;
      }
    }
    channel.reset();
    EXPECT_EQ(guest_->ready(), round < 2);
    if (fork_ != nullptr) ASSERT_TRUE(fork_->reset());
    if (fork_ == nullptr && round == 1) break;
  }
}

INSTANTIATE_TEST_SUITE_P(Of, CallChannelTest, ::testing::Values(Called::kMachine, Called::kVmFork, Called::kSpaceFork),
                         called_name);

// --- Guests that cheat -----------------------------------------------------------------------------------------------

class CallChannelHostile : public CallChannelBase, public ::testing::WithParamInterface<Called> {
 protected:
  static constexpr std::uint64_t kShort = 50'000'000;  // of calls that never answer

  void SetUp() override {
    CallChannelBase::SetUp();
    if (IsSkipped()) return;
    alive_ = "twice";
    make_guest(GetParam(), "probe_hostile_ring");
    neighbour_ = make_fork();
    ASSERT_NE(neighbour_, nullptr);
    // The neighbour is served at the same time.
    auto served = CallChannel::open_for_one_tenant(*neighbour_, {.polls_before_parking = 1000, .timeout_ns = kTimeout});
    ASSERT_TRUE(served) << served.error().message;
    neighbour_channel_ = std::move(*served);
  }
  void TearDown() override {
    if (neighbour_channel_ == nullptr) return;
    expect_unharmed();
    const Status closed = neighbour_channel_->close();
    EXPECT_TRUE(closed) << closed.error().message;
  }
  void expect_unharmed() {
    for (std::uint64_t i = 0; i < 20; ++i) {
      EXPECT_EQ(neighbour_channel_->call(function("twice"), Arguments{i}).value_or(0), 2 * i);
    }
  }
  std::unique_ptr<CallChannel> open_aimed(std::uint64_t seed, std::uint64_t polls = 1000) {
    auto channel = open({.polls_before_parking = polls});
    if (channel != nullptr) {
      (void)call(*channel, "aim", {guest_->memory().layout().call_ring().begin.value, seed});
    }
    return channel;
  }

  std::unique_ptr<Fork> neighbour_;
  std::unique_ptr<CallChannel> neighbour_channel_;
};

TEST_P(CallChannelHostile, ScribblesOverTheRing) {
  for (std::uint64_t seed = 1; seed <= test::scaled(60) + 5; ++seed) {
    auto channel = open_aimed(seed * 77);
    ASSERT_NE(channel, nullptr);
    // Answers may be anything; every call comes back, at its deadline at the latest.
    for (std::uint64_t i = 2; i < 12; ++i) {
      const auto answer = try_call(*channel, "scribble", {seed * 50 % 3000 + 1, i}, kShort);
      if (!answer) {
        EXPECT_NE(answer.error().kind, ErrorKind::kHost) << answer.error().message;
        break;
      }
    }
    if (seed % 5 == 0) expect_unharmed();
    if (seed % 2 == 0)
      channel.reset();
    else
      (void)channel->close();
    channel.reset();
    ASSERT_TRUE(fork_->reset());
  }
  expect_new();
}

TEST_P(CallChannelHostile, ScribblesWhileTheHostPostsAndTakes) {
  for (std::uint64_t seed = 1; seed <= test::scaled(10) + 2; ++seed) {
    auto channel = open_aimed(seed);
    ASSERT_NE(channel, nullptr);
    ASSERT_TRUE(channel->post(function("scribble_forever"), Arguments{10}, {.timeout_ns = kShort}));
    for (std::uint64_t i = 0; i < 1000; ++i) {
      (void)channel->post(function("twice"), Arguments{i}, {.timeout_ns = kShort});
      EXPECT_LE(channel->in_flight(), std::uint64_t{WARMFORK_CALL_RING_SLOTS});
      if (!channel->poll()) break;
    }
    while (channel->in_flight() != 0) {
      const auto waited = channel->wait();
      if (waited) continue;
      EXPECT_EQ(waited.error().kind, ErrorKind::kDeadline) << waited.error().message;
      break;
    }
    channel.reset();
    ASSERT_TRUE(fork_->reset());
  }
  expect_new();
}

TEST_P(CallChannelHostile, ForgedAnswersHarmOnlyTheirGuest) {
  auto channel = open_aimed(1);  // that was request 1
  ASSERT_NE(channel, nullptr);
  EXPECT_EQ(call(*channel, "forge", {3, 2, 666}), 0U);
  // Answered before they were asked, unless the guest's true answer is there by the time the host looks.
  for (int i = 0; i < 2; ++i) EXPECT_THAT(call(*channel, "twice", {4}), AnyOf(666U, 8U));
  // Numbers that are not asked for yet are not taken for answers to what is.
  EXPECT_EQ(call(*channel, "forge", {5 + 16, 1, 777}), 0U);
  EXPECT_EQ(call(*channel, "twice", {8}), 16U);
  // The guest runs on after its answer: the next one is not given.
  EXPECT_EQ(call(*channel, "forge_and_spin", {7, 5}), 5U);
  const auto next = try_call(*channel, "twice", {1}, kShort);
  ASSERT_FALSE(next);
  expect_dead(*channel, ErrorKind::kDeadline);
}

TEST_P(CallChannelHostile, RunsOnWhileTheChannelIsClosed) {
  auto channel = open_aimed(1);
  ASSERT_NE(channel, nullptr);
  EXPECT_EQ(call(*channel, "forge_and_spin", {2, 5}), 5U);
  EXPECT_EQ(channel->close().error().kind, ErrorKind::kDeadline);
  expect_new();
}

TEST_P(CallChannelHostile, ParksReturnsAndEndsUnasked) {
  {
    auto channel = open_aimed(1);
    ASSERT_NE(channel, nullptr);
    const auto parked = try_call(*channel, "park_forever", {}, kShort);
    ASSERT_FALSE(parked);
    expect_dead(*channel, ErrorKind::kDeadline);
  }
  {
    auto channel = open_aimed(1);
    ASSERT_NE(channel, nullptr);
    const auto parked = try_call(*channel, "park", {1000}, kShort);
    EXPECT_FALSE(parked) << "nothing new is there, so it is left to sleep";
    ASSERT_FALSE(channel->close());
    expect_new();
  }
  for (const char* how : {"return_unasked", "other_port"}) {
    auto channel = open_aimed(1);
    ASSERT_NE(channel, nullptr);
    const auto left = try_call(*channel, how);
    ASSERT_FALSE(left);
    EXPECT_EQ(left.error().kind, ErrorKind::kGuestFault) << left.error().message;
    EXPECT_TRUE(guest_->fault());
    expect_dead(*channel, ErrorKind::kGuestFault);
  }
  {
    auto channel = open_aimed(1);
    ASSERT_NE(channel, nullptr);
    EXPECT_EQ(call(*channel, "forge_end", {3}), 0U);
    const auto later = try_call(*channel, "twice", {1}, kShort);
    // Whether the host's request or the forged one was last: an answer, or the end.
    if (!later) {
      EXPECT_EQ(later.error().kind, ErrorKind::kGuestFault) << later.error().message;
      expect_dead(*channel, ErrorKind::kGuestFault);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, CallChannelHostile, ::testing::Values(Called::kVmFork, Called::kSpaceFork), called_name);

}  // namespace
}  // namespace warmfork
