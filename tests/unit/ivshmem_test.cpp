// The shared-memory study's two sides without a guest: their states, what the host believes, sessions.
#include "ivshmem/host/host_side.hpp"
#include "ivshmem/peer.hpp"
#include "ivshmem/protocol.hpp"

#include <gmock/gmock.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace warmfork::ivshmem {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Look = GuestWatch::Look;

constexpr std::uint64_t kFrameBytes = 64 * 1024;
constexpr std::uint32_t kSession = 0xabc;

std::uint64_t word(GuestState state, std::uint32_t message, std::uint32_t session = kSession) {
  return encode({.state = static_cast<std::uint8_t>(state), .message = message, .session = session});
}

TEST(IvshmemStates, OnlyTheseMayFollowEachOther) {
  using enum HostState;
  std::string host;
  for (std::uint8_t from = 0; from < kStates; ++from) {
    for (std::uint8_t to = 0; to < kStates; ++to) host += may_follow(HostState{from}, HostState{to}) ? 'x' : '.';
    host += ' ';
  }
  // From uninitialized, initializing, ready, sending, completed; to the same.
  EXPECT_EQ(host, ".x... .xx.. .x.xx .xx.. .x... ");
  std::string guest;
  for (std::uint8_t from = 0; from < kStates; ++from) {
    for (std::uint8_t to = 0; to < kStates; ++to) guest += may_follow(GuestState{from}, GuestState{to}) ? 'x' : '.';
    guest += ' ';
  }
  // From uninitialized, waiting, ready, processing, acknowledged.
  EXPECT_EQ(guest, ".x... .xx.. .x.x. .x..x .xx.. ");
}

TEST(IvshmemStates, AWordHoldsAllThree) {
  const StateWord all{.state = 4, .message = kMostMessages, .session = 0xfedcba98};
  EXPECT_EQ(decode(encode(all)), all);
  EXPECT_EQ(encode({.state = 1, .message = 2, .session = 3}), 0x0000000300000201U);
}

TEST(IvshmemWatch, FollowsAGuestThroughItsMessages) {
  GuestWatch watch(kSession);
  EXPECT_EQ(watch.look(word(GuestState::kAcknowledged, 7, 99)), Look::kWaiting) << "of an earlier run";
  EXPECT_EQ(watch.look(word(GuestState::kReady, 0, 99)), Look::kWaiting);
  EXPECT_FALSE(watch.joined());
  EXPECT_EQ(watch.look(word(GuestState::kReady, 0)), Look::kArrived);
  for (std::uint32_t message = 1; message < 4; ++message) {
    watch.expect(GuestState::kAcknowledged, message);
    EXPECT_EQ(watch.look(word(GuestState::kReady, message - 1)), Look::kWaiting);
    if (message != 2) EXPECT_EQ(watch.look(word(GuestState::kProcessing, message)), Look::kWaiting) << "or not seen";
    EXPECT_EQ(watch.look(word(GuestState::kAcknowledged, message)), Look::kArrived);
    watch.expect(GuestState::kReady, message);
    EXPECT_EQ(watch.look(word(GuestState::kAcknowledged, message)), Look::kWaiting);
    EXPECT_EQ(watch.look(word(GuestState::kReady, message)), Look::kArrived);
  }
  EXPECT_EQ(watch.violation(), "");
}

TEST(IvshmemWatch, WhatCannotFollowIsAViolationThatStays) {
  const auto after = [](std::vector<std::uint64_t> before, std::uint64_t bad) {
    GuestWatch watch(kSession);
    EXPECT_EQ(watch.look(word(GuestState::kReady, 0)), Look::kArrived);
    watch.expect(GuestState::kAcknowledged, 1);
    for (const std::uint64_t one : before) EXPECT_NE(watch.look(one), Look::kBroken);
    EXPECT_EQ(watch.look(bad), Look::kBroken);
    EXPECT_EQ(watch.look(word(GuestState::kAcknowledged, 1)), Look::kBroken) << "it stays";
    return watch.violation();
  };
  EXPECT_EQ(after({}, encode({.state = 77, .message = 0, .session = kSession})), "the guest's state is 77, at most 4");
  EXPECT_THAT(after({}, word(GuestState::kAcknowledged, 2)), HasSubstr("to acknowledged with message 2, expected"));
  EXPECT_THAT(after({}, word(GuestState::kReady, 1)), HasSubstr("expected acknowledged with 1"));
  EXPECT_THAT(after({word(GuestState::kProcessing, 1)}, word(GuestState::kReady, 0)), HasSubstr("from processing"));
  EXPECT_THAT(after({}, word(GuestState::kReady, 0, 5)), HasSubstr("left the session"));
  EXPECT_THAT(after({}, word(GuestState::kWaitingHostInit, 0)), HasSubstr("waiting for the host"));
  GuestWatch watch(kSession);
  EXPECT_EQ(watch.look(word(GuestState::kAcknowledged, 0)), Look::kBroken) << "it joins as ready only";
}

TEST(IvshmemResult, AbsurdTimesAreRefusedByValueAndLimit) {
  auto page = std::make_unique<GuestPage>();
  page->times = {.hot = 10, .cold = 20, .copy = 30, .verify = 40, .total = 100};
  ASSERT_TRUE(read_result(*page, 100, 0));
  EXPECT_EQ(read_result(*page, 100, 0)->times, page->times);
  const auto refused = [&] {
    const auto read = read_result(*page, 100, 5);
    return read ? std::string("accepted") : read.error().message;
  };
  page->times.total = 106;
  EXPECT_THAT(refused(), HasSubstr("took it 106 ticks, the host saw 100"));
  page->times.total = 99;
  EXPECT_THAT(refused(), HasSubstr("verification took 40 ticks, with 39 of its 99 left"));
  page->times = {.hot = 10, .cold = ~std::uint64_t{0}, .copy = 30, .verify = 40, .total = 100};
  EXPECT_THAT(refused(), HasSubstr("cold read took 18446744073709551615 ticks"));
  page->times = {.hot = 0, .cold = 20, .copy = 30, .verify = 40, .total = 100};
  EXPECT_THAT(refused(), HasSubstr("hot read took 0 ticks"));
  page->error = 3;
  EXPECT_EQ(refused(), "the guest's error code is 3, at most 2");
}

TEST(IvshmemResult, ANameIsShownAsItCanBePrinted) {
  auto page = std::make_unique<GuestPage>();
  EXPECT_EQ(read_name(*page), "");
  std::memcpy(page->name, "a\x1b[2Jb\xff\nc\0hidden", 16);
  EXPECT_EQ(read_name(*page), "a?[2Jb??c");
  std::memset(page->name, 'x', sizeof page->name);
  EXPECT_EQ(read_name(*page), std::string(kNameBytes, 'x')) << "no zero, no more than the field";
}

TEST(IvshmemLayout, OthersDataIsTold) {
  std::vector<unsigned char> memory(2 * kPageBytes);
  EXPECT_TRUE(is_meeting(memory.data())) << "fresh";
  const std::uint64_t magic = kMagic;
  std::memcpy(memory.data() + kGuestPageOffset, &magic, sizeof magic);
  memory[offsetof(HostPage, state)] = 1;
  EXPECT_TRUE(is_meeting(memory.data())) << "used before";
  for (const std::size_t at :
       {std::size_t{0}, offsetof(HostPage, rest), std::size_t{kPageBytes - 1}, std::size_t{kGuestPageOffset},
        kGuestPageOffset + offsetof(GuestPage, rest), std::size_t{2 * kPageBytes - 1}}) {
    memory[at] ^= 1;
    EXPECT_FALSE(is_meeting(memory.data())) << at;
    memory[at] ^= 1;
  }
}

/// One file with both pages, and a peer in it.
class IvshmemSession : public ::testing::Test {
 protected:
  IvshmemSession() {
    auto met = meet(bytes_, {}, kFrameBytes);
    EXPECT_TRUE(met);
    meeting_ = *met;
  }
  Peer peer(const char* name = "") {
    return Peer({.host = meeting_.host,
                 .guest = &guest_page(),
                 .frame = meeting_.frame.data(),
                 .frame_capacity = meeting_.frame.size(),
                 .copy = copy_.data(),
                 .name = name});
  }
  GuestPage& guest_page() { return *reinterpret_cast<GuestPage*>(bytes_.data() + kGuestPageOffset); }
  /// A host whose guest takes `steps` of its own between two looks.
  HostSide host(Peer* peer, std::uint64_t timeout_ns = 2'000'000'000) {
    Waiting waiting;
    waiting.timeout_ns = timeout_ns;
    waiting.rest = [peer](std::uint64_t) {
      if (peer != nullptr) (void)peer->step();
    };
    return HostSide(meeting_, waiting);
  }
  std::vector<std::byte> storage_ = std::vector<std::byte>(kFrameOffset + kFrameBytes + kPageBytes);
  std::span<std::byte> bytes_ = [this] {
    const auto at = reinterpret_cast<std::uintptr_t>(storage_.data());
    return std::span(storage_).subspan((kPageBytes - at % kPageBytes) % kPageBytes, kFrameOffset + kFrameBytes);
  }();
  std::vector<unsigned char> copy_ = std::vector<unsigned char>(kFrameBytes);
  std::vector<unsigned char> frame_ = std::vector<unsigned char>(kFrameBytes, 0x5a);
  Meeting meeting_;
};

TEST_F(IvshmemSession, EitherSideMayStartFirst) {
  unsigned char hash[kHashBytes];
  sha256(frame_.data(), frame_.size(), hash);
  for (const bool guest_first : {true, false}) {
    Peer guest = peer();
    if (guest_first) {
      guest.begin();
      for (int i = 0; i < 3; ++i) EXPECT_EQ(guest.step(), Peer::Step::kNothing) << "the host's page is no session's";
    }
    bool begun = guest_first;
    Waiting waiting;
    waiting.rest = [&](std::uint64_t) {
      if (!begun) guest.begin();
      begun = true;
      (void)guest.step();
    };
    HostSide side(meeting_, waiting);
    ASSERT_TRUE(side.begin());
    EXPECT_EQ(guest.session(), side.session());
    for (int i = 0; i < 3; ++i) {
      const auto sample = side.send(frame_, hash);
      ASSERT_TRUE(sample) << sample.error().message;
      EXPECT_EQ(sample->guest.error, GuestError::kNone);
    }
    EXPECT_EQ(copy_, frame_);
    ASSERT_TRUE(side.complete());
    EXPECT_EQ(guest.step(), Peer::Step::kCompleted);
    EXPECT_EQ(guest.state(), GuestState::kWaitingHostInit);
    // The second round finds what this one has left.
  }
}

TEST_F(IvshmemSession, WhatADeadHostHasLeftIsNotJoinedOrIsLeftAgain) {
  Peer guest = peer();
  meeting_.host->magic = kMagic;
  meeting_.host->version = kVersion;
  meeting_.host->frame_offset = kFrameOffset;
  meeting_.host->frame_capacity = kFrameBytes;
  for (const HostState stale : {HostState::kInitializing, HostState::kSending, HostState::kCompleted}) {
    meeting_.host->state = encode({.state = static_cast<std::uint8_t>(stale), .message = 1, .session = 77});
    guest.begin();
    EXPECT_EQ(guest.step(), Peer::Step::kNothing) << name_of(stale);
  }
  meeting_.host->state = encode({.state = 2, .message = 5, .session = 77});
  EXPECT_EQ(guest.step(), Peer::Step::kNothing) << "ready, but in the middle";
  meeting_.host->state = encode({.state = 2, .message = 0, .session = 77});
  EXPECT_EQ(guest.step(), Peer::Step::kChanged) << "as good as a living one";
  // A new one begins: the guest notices and joins it.
  HostSide side = host(&guest);
  ASSERT_TRUE(side.begin());
  EXPECT_NE(side.session(), 77U);
  EXPECT_EQ(guest.session(), side.session());
  meeting_.host->magic = 0;
  EXPECT_EQ(guest.step(), Peer::Step::kChanged);
  EXPECT_EQ(guest.state(), GuestState::kWaitingHostInit) << "without magic there is no host";
}

TEST_F(IvshmemSession, AWrongHashIsReported) {
  Peer guest = peer();
  guest.begin();
  HostSide side = host(&guest);
  ASSERT_TRUE(side.begin());
  unsigned char hash[kHashBytes]{};
  const auto sample = side.send(frame_, hash);
  ASSERT_TRUE(sample) << sample.error().message;
  EXPECT_EQ(sample->guest.error, GuestError::kHash);
  // The hash of "abc" (FIPS 180-4, example).
  unsigned char known[kHashBytes];
  sha256(reinterpret_cast<const unsigned char*>("abc"), 3, known);
  EXPECT_EQ(known[0], 0xba);
  EXPECT_EQ(known[31], 0xad);
}

TEST_F(IvshmemSession, NobodyAnswersAndWordsOutOfTurn) {
  HostSide alone = host(nullptr, 5'000'000);
  const auto begun = alone.begin();
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().kind, ErrorKind::kDeadline);
  EXPECT_EQ(begun.error().message, "no guest has joined within 5 ms");
  HostSide fresh = host(nullptr);
  unsigned char hash[kHashBytes]{};
  const auto sent = fresh.send(frame_, hash);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().message, "the host is uninitialized, not ready");
  EXPECT_EQ(fresh.complete().error().message, "the host is uninitialized, it cannot become completed");
  // Joins, and then says nothing.
  Peer guest = peer();
  guest.begin();
  bool silent = false;
  Waiting waiting;
  waiting.timeout_ns = 5'000'000;
  waiting.rest = [&](std::uint64_t) {
    if (!silent) (void)guest.step();
  };
  HostSide side(meeting_, waiting);
  ASSERT_TRUE(side.begin());
  silent = true;
  EXPECT_EQ(side.send(frame_, hash).error().message,
            "the guest did not become acknowledged with message 1 within 5 ms: it is ready");
  const std::vector<unsigned char> large(kFrameBytes + 1);
  EXPECT_FALSE(side.send(large, hash));
  EXPECT_FALSE(meet(bytes_.first(kFrameOffset), {}, 1));
}

TEST_F(IvshmemSession, APeerThatWritesNonsenseIntoEveryWordEndsTheStudyInTime) {
  std::mt19937_64 random(1);
  unsigned char hash[kHashBytes]{};
  std::size_t sent = 0;
  for (int round = 0; round < 300; ++round) {
    Waiting waiting;
    waiting.timeout_ns = 2'000'000;
    HostSide* side = nullptr;
    // Now and then a word of the right session, so that it comes further than to the door.
    waiting.rest = [&](std::uint64_t) {
      auto* words = reinterpret_cast<std::uint64_t*>(&guest_page());
      for (std::size_t i = 0; i < kPageBytes / 8; ++i) store(&words[i], random() >> random() % 64);
      const auto message = static_cast<std::uint32_t>(random() % 3);
      const auto state = static_cast<GuestState>(random() % (kStates + 1));
      store(&guest_page().state, word(state, message, random() % 8 == 0 ? 1 : side->session()));
    };
    HostSide host(meeting_, waiting);
    side = &host;
    Status ended = host.begin();
    while (ended) {
      const auto sample = host.send(frame_, hash);
      if (sample) ++sent;
      ended = sample ? Status() : Failure(sample.error());
    }
    EXPECT_TRUE(ended.error().kind == ErrorKind::kGuestFault || ended.error().kind == ErrorKind::kDeadline)
        << ended.error().message;
    for (const char one : host.guest_name()) EXPECT_TRUE(one >= ' ' && one <= '~');
  }
  EXPECT_LT(sent, 300U) << "nonsense is no study";
}

TEST(IvshmemCopy, IsOfAnyNumberOfBytes) {
  for (const std::size_t bytes : {0U, 1U, 7U, 8U, 9U, 4099U}) {
    std::vector<unsigned char> from(bytes + 1), to(bytes + 1, 0xee);
    for (std::size_t i = 0; i <= bytes; ++i) from[i] = static_cast<unsigned char>(i * 37 + 1);
    copy_frame(to.data(), from.data(), bytes);
    EXPECT_EQ(std::memcmp(to.data(), from.data(), bytes), 0) << bytes;
    EXPECT_EQ(to[bytes], 0xee) << "and no more";
  }
}

TEST_F(IvshmemSession, AHostOfAnotherVersionIsNotJoined) {
  Peer guest = peer();
  guest.begin();
  meeting_.host->magic = kMagic;
  meeting_.host->version = kVersion + 1;
  meeting_.host->frame_offset = kFrameOffset;
  meeting_.host->frame_capacity = kFrameBytes;
  meeting_.host->state = encode({.state = 2, .message = 0, .session = 77});
  EXPECT_EQ(guest.step(), Peer::Step::kNothing);
  meeting_.host->version = kVersion;
  EXPECT_EQ(guest.step(), Peer::Step::kChanged);
}

TEST_F(IvshmemSession, WhoTakesTurnsInOneMemoryIsNamedInEachSession) {
  Peer one = peer("one"), other = peer("another");
  one.begin();
  other.begin();
  for (Peer* const joins : {&one, &other, &one}) {
    HostSide side = host(joins);
    ASSERT_TRUE(side.begin());
    EXPECT_EQ(side.guest_name(), joins == &one ? "one" : "another");
    ASSERT_TRUE(side.complete());
    EXPECT_EQ(joins->step(), Peer::Step::kCompleted);
  }
  const std::string name(2 * kNameBytes, 'x');
  Peer longest = peer(name.c_str());
  longest.begin();
  HostSide side = host(&longest);
  ASSERT_TRUE(side.begin());
  EXPECT_EQ(side.guest_name(), std::string(kNameBytes - 1, 'x')) << "cut, with its zero";
}

TEST_F(IvshmemSession, APeerThatLeavesEndsTheHostsWaitAtOnce) {
  Peer guest = peer();
  guest.begin();
  bool left = false;
  Waiting waiting;
  waiting.timeout_ns = 3'600'000'000'000;
  waiting.rest = [&](std::uint64_t) {
    if (guest.session() == 0) {
      (void)guest.step();
    } else if (!left) {
      guest.leave();
      left = true;
    }
  };
  HostSide side(meeting_, waiting);
  ASSERT_TRUE(side.begin());
  unsigned char hash[kHashBytes]{};
  EXPECT_THAT(side.send(frame_, hash).error().message, StartsWith("the guest has left the session"));
}

TEST_F(IvshmemSession, APeerCountsWhatItTookPartIn) {
  Peer guest = peer();
  guest.begin();
  HostSide side = host(&guest);
  unsigned char right[kHashBytes], wrong[kHashBytes]{};
  sha256(frame_.data(), frame_.size(), right);
  for (int session = 0; session < 2; ++session) {
    ASSERT_TRUE(side.begin());
    ASSERT_TRUE(side.send(frame_, right));
    ASSERT_TRUE(side.send(frame_, wrong));
    ASSERT_TRUE(side.complete());
    // The end of the second one is seen as such, of the first one only that another one has begun.
    if (session == 1) EXPECT_EQ(guest.step(), Peer::Step::kCompleted);
  }
  EXPECT_EQ(guest.sessions(), 2U);
  EXPECT_EQ(guest.frames(), 4U);
  EXPECT_EQ(guest.verified(), 2U);
}

}  // namespace
}  // namespace warmfork::ivshmem
