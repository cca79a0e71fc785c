// The shared-memory study with real guests: masters and forks of both kinds, awake and woken, honest and not.
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "ivshmem/host/report.hpp"
#include "ivshmem/host/runner.hpp"
#include "ivshmem/host/study.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::ivshmem {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint64_t kMemoryBytes = kFrameOffset + (64 << 10);

enum class Kind : std::uint8_t { kMaster, kVm, kSpace };

class Ivshmem : public test::MachineTest, public ::testing::WithParamInterface<Kind> {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    auto memory = SharedMemory::create(kMemoryBytes);
    auto page = SharedMemory::create(kPageBytes);
    ASSERT_TRUE(memory && page);
    memory_ = *memory;
    page_ = *page;
    auto met = meet(memory_->bytes(), page_->bytes(), 64 << 10);
    ASSERT_TRUE(met) << met.error().message;
    MachineConfig config{
        .memory_bytes = guest_memory_bytes(64 << 10),
        .shared_regions = {
            {.name = std::string(kHostRegion), .bytes = kMemoryBytes, .access = SharedAccess::kReadOnly},
            {.name = std::string(kGuestRegion), .bytes = kPageBytes, .access = SharedAccess::kReadWrite}}};
    const SharedBindings bindings{memory_, page_};
    if (GetParam() == Kind::kMaster) config.shared = bindings;
    auto master = Machine::create(system(), guest_elf(), "ivshmem", std::move(config));
    ASSERT_TRUE(master) << master.error().message;
    master_ = std::move(*master);
    ASSERT_TRUE(master_->boot({.timeout_ns = kTimeout}));
    guest_ = master_.get();
    if (GetParam() != Kind::kMaster) {
      const auto snapshot = Snapshot::take(system(), *master_);
      ASSERT_TRUE(snapshot) << snapshot.error().message;
      const ForkKind kind = GetParam() == Kind::kVm ? ForkKind::kVm : ForkKind::kSpace;
      auto source = make_fork_source(system(), *snapshot, {.kind = kind}, 1);
      ASSERT_TRUE(source) << source.error().message;
      source_ = std::move(*source);
      const auto cpu = source_->make_cpu();
      auto fork = source_->make_with(bindings);
      ASSERT_TRUE(cpu && fork);
      fork_ = std::move(*fork);
      if (*cpu != nullptr) ASSERT_TRUE(fork_->bind(**cpu));
      guest_ = fork_.get();
    }
    partners_.fill({.runner = nullptr, .meeting = *met});
    options_.frames = {{.name = "small", .width = 128, .height = 96}};
    options_.latency_frame = 0;
    options_.messages = 4;
    options_.iterations = 2;
    options_.rounds = 2;
  }
  Gva region(std::string_view name) const { return guest_->shared_region(name)->begin; }
  Result<std::uint64_t> poke(Gva address, std::uint64_t value) const {
    return guest_->call(*guest_->find_vmcall("poke"), std::array{address.value, value}, {.timeout_ns = kTimeout});
  }
  std::unique_ptr<Runner> honest(std::uint64_t timeout_ns = kTimeout) {
    auto made =
        make_guest_runner(*guest_, region(kHostRegion), region(kGuestRegion), 64 << 10, {.timeout_ns = timeout_ns});
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(*made) : nullptr;
  }
  std::unique_ptr<Runner> threads() {
    // SAFETY: a page of its own.
    auto* const page = reinterpret_cast<GuestPage*>(page_->bytes().data());
    auto made = make_thread_runner(partners_[0].meeting, *page, {.timeout_ns = kTimeout});
    EXPECT_TRUE(made);
    return std::move(*made);
  }
  Runner*& runner(Mode mode) { return partners_[static_cast<std::size_t>(mode)].runner; }

  std::shared_ptr<SharedMemory> memory_, page_;
  std::unique_ptr<Machine> master_;
  std::unique_ptr<ForkSource> source_;
  std::unique_ptr<Fork> fork_;
  Guest* guest_ = nullptr;
  Partners partners_;
  StudyOptions options_;
};
std::string name_of_kind(const ::testing::TestParamInfo<Kind>& kind) {
  constexpr std::array kNames{"master", "vm", "space"};
  return kNames[static_cast<std::size_t>(kind.param)];
}
INSTANTIATE_TEST_SUITE_P(Kinds, Ivshmem, ::testing::Values(Kind::kMaster, Kind::kVm, Kind::kSpace), name_of_kind);

TEST_P(Ivshmem, BothWaysToWakeAndTheFloor) {
  const auto guest = honest();
  const auto floor = threads();
  ASSERT_TRUE(guest && floor);
  runner(Mode::kThreads) = floor.get();
  runner(Mode::kPolling) = runner(Mode::kDoorbell) = guest.get();
  options_.modes = {Mode::kThreads, Mode::kPolling, Mode::kDoorbell};
  const auto result = run_study(options_, partners_);
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_FALSE(result->ended) << result->ended_where << ": " << result->ended->message;
  ASSERT_EQ(result->rows.size(), 18U);
  for (const Row& row : result->rows) {
    EXPECT_TRUE(row.success);
    EXPECT_GT(row.host_write, 0);
    EXPECT_GT(std::min({row.hot, row.cold, row.copy, row.verify}), 0);
    EXPECT_LE(row.hot + row.cold + row.copy + row.verify, row.guest_total);
  }
  for (const Mode mode : kModes) {
    EXPECT_GT(result->cpu[static_cast<std::size_t>(mode)].guest_ns.value_or(0), 0U) << name_of(mode);
    EXPECT_EQ(phase_statistics(*result, Part::kLatency, mode, 0, Phase::kCopy).count, 4U);
  }
}

TEST_P(Ivshmem, ACorruptedHashIsReported) {
  const auto guest = honest();
  ASSERT_NE(guest, nullptr);
  runner(Mode::kPolling) = guest.get();
  options_.modes = {Mode::kPolling};
  int message = 0;
  options_.tamper = [&](std::span<unsigned char>, unsigned char(&hash)[kHashBytes]) { hash[31] ^= ++message == 2; };
  const auto result = run_study(options_, partners_);
  ASSERT_TRUE(result && !result->ended);
  std::string verified;
  for (const Row& row : result->rows) verified += row.success ? '1' : '0';
  EXPECT_EQ(verified, "101111");
  EXPECT_THAT(to_text(*result, options_), HasSubstr("1 frames arrived with a wrong hash"));
  EXPECT_THAT(latency_csv(*result, Mode::kPolling), HasSubstr(",0\n3,"));
}

TEST_P(Ivshmem, TheGuestCannotWriteTheHostsPart) {
  for (const std::uint64_t offset : {std::uint64_t{0}, kPageBytes, kFrameOffset}) {
    if (GetParam() == Kind::kMaster && offset != 0) break;  // it has ended
    const auto written = poke(Gva(region(kHostRegion).value + offset), 1);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().kind, ErrorKind::kGuestFault);
    EXPECT_THAT(written.error().message, HasSubstr("the shared region ivshmem-host"));
    EXPECT_EQ(memory_->bytes()[offset], std::byte{0});
    if (fork_ != nullptr) ASSERT_TRUE(fork_->reset());
  }
  if (fork_ != nullptr) EXPECT_TRUE(poke(region(kGuestRegion), 1)) << "its own page is its own";
}

/// Lets the guest write into its page what an honest one would not.
class Liar final : public Runner {
 public:
  using Answer = std::function<void(std::uint64_t host_word)>;
  Liar(const HostPage& host, Answer answer) : host_(host), answer_(std::move(answer)) {}
  Status start(Wake) override { return {}; }
  Status finish(bool) override { return {}; }
  Waiting waiting() override {
    Waiting waiting;
    waiting.timeout_ns = 50'000'000;
    waiting.rest = [this](std::uint64_t) { answer_(load(&host_.state)); };
    return waiting;
  }
  std::optional<std::uint64_t> cpu_ns() const override { return {}; }
  Counts counts() const override { return {}; }
  std::string why_not_counted() const override { return {}; }

 private:
  const HostPage& host_;
  Answer answer_;
};

TEST_P(Ivshmem, AHostileGuestEndsTheStudyWithAReportOfWhatWasBefore) {
  const auto floor = threads();
  runner(Mode::kThreads) = floor.get();
  options_.modes = {Mode::kThreads, Mode::kPolling};
  options_.rounds = 1;
  const std::uint64_t page = region(kGuestRegion).value;
  const auto put = [&](std::size_t offset, std::uint64_t value) { EXPECT_TRUE(poke(Gva(page + offset), value)); };
  const auto say = [&](std::uint32_t session, std::uint8_t state, std::uint32_t message) {
    put(offsetof(GuestPage, state), encode({.state = state, .message = message, .session = session}));
  };
  enum : std::uint8_t { kWrongState, kAbsurdTimes, kSilent, kNeverThere, kLies };
  const std::array<std::pair<ErrorKind, const char*>, kLies> expected{
      {{ErrorKind::kGuestFault, "the guest's state is 200, at most 4"},
       {ErrorKind::kGuestFault, "the guest says that a message took it 18446744073709551615 ticks"},
       {ErrorKind::kDeadline, "the guest did not become acknowledged with message 1 within 50 ms: it is processing"},
       {ErrorKind::kDeadline, "no guest has joined within 50 ms"}}};
  for (std::uint8_t lie = 0; lie < kLies; ++lie) {
    Liar liar(*partners_[0].meeting.host, [&](std::uint64_t found) {
      const StateWord host = decode(found);
      if (lie == kNeverThere) return;
      if (host.message == 0) return say(host.session, 2, 0);
      if (lie == kWrongState) return say(host.session, 200, 1);
      if (lie == kSilent) return say(host.session, 3, 1);
      put(offsetof(GuestPage, times) + offsetof(GuestTimes, total), ~std::uint64_t{0});
      say(host.session, 4, 1);
    });
    runner(Mode::kPolling) = &liar;
    const auto result = run_study(options_, partners_);
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_TRUE(result->ended);
    EXPECT_EQ(result->ended->kind, expected[lie].first);
    EXPECT_THAT(result->ended->message, StartsWith(expected[lie].second));
    EXPECT_EQ(result->rows.size(), 4U) << "of the threads before";
    EXPECT_THAT(to_text(*result, options_), StartsWith("INCOMPLETE: polling, small"));
  }
}

TEST_P(Ivshmem, AGuestThatEndsOrIsAbandonedDoesNotHangTheHost) {
  const auto guest = honest(200'000'000);
  ASSERT_NE(guest, nullptr);
  runner(Mode::kPolling) = guest.get();
  options_.modes = {Mode::kPolling};
  int asked = 0;
  options_.cancelled = [&] { return ++asked > 3; };
  const auto result = run_study(options_, partners_);
  ASSERT_TRUE(result && result->ended);
  EXPECT_EQ(result->ended->kind, ErrorKind::kCancelled);
}

}  // namespace
}  // namespace warmfork::ivshmem
