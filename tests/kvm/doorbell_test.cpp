// Doorbells: a guest wakes a thread of the host, and can do no more than that.
#include "machine/doorbell.hpp"

#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "machine_test.hpp"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace warmfork {
namespace {

constexpr std::uint64_t kAtOnce = 0;

class DoorbellTest : public test::MachineTest {
 protected:
  /// A master, a `vm` fork and a `space` fork.
  void make_family() {
    master_ = make_ready("probe_calls");
    ASSERT_NE(master_, nullptr);
    auto snapshot = Snapshot::take(system(), *master_);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    guests_.push_back(master_.get());
    for (const ForkKind kind : {ForkKind::kVm, ForkKind::kSpace}) {
      auto source = make_fork_source(system(), *snapshot, {.kind = kind}, 2);
      ASSERT_TRUE(source) << source.error().message;
      auto cpu = (*source)->make_cpu();
      ASSERT_TRUE(cpu);
      for (int i = 0; i < 2; ++i) {
        auto fork = (*source)->make();
        ASSERT_TRUE(fork) << fork.error().message;
        forks_.push_back(std::move(*fork));
      }
      if (*cpu != nullptr) ASSERT_TRUE(forks_[forks_.size() - 2]->bind(**cpu));
      cpus_.push_back(*cpu);
      guests_.push_back(forks_[forks_.size() - 2].get());
      sources_.push_back(std::move(*source));
    }
  }
  static void ring(Guest& guest, std::uint64_t bell, std::uint64_t times = 1) {
    const auto rung = guest.call(*guest.find_vmcall("ring_doorbell"), std::vector<std::uint64_t>{bell, times},
                                 {.timeout_ns = kTimeout});
    ASSERT_TRUE(rung) << rung.error().message;
  }
  std::shared_ptr<Doorbell> bound(Guest& guest, std::uint8_t number) {
    auto bell = Doorbell::create();
    EXPECT_TRUE(bell);
    const auto done = guest.bind_doorbell(number, *bell);
    EXPECT_TRUE(done) << done.error().message;
    return *bell;
  }

  std::unique_ptr<Machine> master_;
  std::vector<std::unique_ptr<ForkSource>> sources_;
  std::vector<std::unique_ptr<Fork>> forks_;
  std::vector<GuestCpu*> cpus_;
  std::vector<Guest*> guests_;
};

TEST_F(DoorbellTest, ItRingsForWhomItIsBoundTo) {
  make_family();
  for (Guest* guest : guests_) {
    const auto first = bound(*guest, 0), last = bound(*guest, 255);
    EXPECT_FALSE(first->wait(kAtOnce));
    ring(*guest, 0);
    EXPECT_TRUE(first->wait(kAtOnce));
    EXPECT_FALSE(first->wait(kAtOnce)) << "once";
    EXPECT_FALSE(last->wait(kAtOnce));
    ring(*guest, 255, 3);
    EXPECT_TRUE(last->wait(kAtOnce));
    EXPECT_FALSE(first->wait(kAtOnce));
  }
}

TEST_F(DoorbellTest, OnlyAGuestThatSharesItsVmLeavesForIt) {
  make_family();
  for (Guest* guest : guests_) {
    const auto bell = bound(*guest, 7);
    const std::uint64_t before = guest->counters().doorbells;
    ring(*guest, 7, 10);
    EXPECT_EQ(guest->counters().doorbells - before, guest == guests_.back() ? 10U : 0U);
    EXPECT_TRUE(bell->wait(kAtOnce));
  }
}

TEST_F(DoorbellTest, WhatIsNotBoundRingsNothing) {
  make_family();
  for (Guest* guest : guests_) {
    ring(*guest, 9, 100);
    auto old = bound(*guest, 9);
    const auto replacing = bound(*guest, 9);
    ring(*guest, 9);
    EXPECT_FALSE(old->wait(kAtOnce));
    EXPECT_TRUE(replacing->wait(kAtOnce));
    ASSERT_TRUE(guest->bind_doorbell(9, nullptr));
    ring(*guest, 9);
    EXPECT_FALSE(replacing->wait(kAtOnce));
  }
}

TEST_F(DoorbellTest, ForksDoNotRingEachOthers) {
  make_family();
  ASSERT_EQ(forks_.size(), 4U);
  for (std::size_t i = 0; i < 4; i += 2) {
    Fork &one = *forks_[i], &other = *forks_[i + 1];
    const auto first = bound(one, 1), second = bound(other, 1);
    ring(one, 1);
    EXPECT_TRUE(first->wait(kAtOnce));
    EXPECT_FALSE(second->wait(kAtOnce));
    if (GuestCpu* cpu = cpus_[i / 2]; cpu != nullptr) ASSERT_TRUE(other.bind(*cpu));
    ring(other, 1);
    EXPECT_FALSE(first->wait(kAtOnce));
    EXPECT_TRUE(second->wait(kAtOnce));
  }
}

TEST_F(DoorbellTest, ASleeperWakes) {
  make_family();
  for (Guest* guest : guests_) {
    const auto bell = bound(*guest, 3);
    std::atomic<bool> woken = false;
    std::thread sleeper([&] { woken = bell->wait(kTimeout); });
    ring(*guest, 3);
    sleeper.join();
    EXPECT_TRUE(woken);
    EXPECT_FALSE(bell->wait(1'000'000)) << "a timeout";
  }
}

TEST_F(DoorbellTest, AFloodStopsAtItsDeadline) {
  make_family();
  for (Guest* guest : guests_) {
    const auto bell = bound(*guest, 3);
    const auto flood = guest->call(*guest->find_vmcall("ring_doorbell"),
                                   std::vector<std::uint64_t>{3, ~std::uint64_t{0}}, {.timeout_ns = 20'000'000});
    ASSERT_FALSE(flood);
    EXPECT_EQ(flood.error().kind, ErrorKind::kDeadline);
    EXPECT_TRUE(bell->wait(kAtOnce));
  }
}

}  // namespace
}  // namespace warmfork
