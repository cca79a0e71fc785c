// The shared-memory study without a guest: its two state machines, what the host believes, statistics, files.
#include "ivshmem/host/host_side.hpp"
#include "ivshmem/host/meeting_file.hpp"
#include "ivshmem/host/peer_program.hpp"
#include "ivshmem/host/report.hpp"
#include "ivshmem/host/runner.hpp"
#include "ivshmem/host/study.hpp"
#include "ivshmem/peer.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
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

/// A directory of its own.
class IvshmemFile : public ::testing::Test {
 protected:
  using Side = MeetingFile::Side;
  using Left = MeetingFile::Left;
  IvshmemFile() { EXPECT_NE(::mkdtemp(directory_.data()), nullptr); }
  ~IvshmemFile() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  [[nodiscard]] Result<MeetingFile> open(Side side) const {
    return MeetingFile::open(path(), side, kBytes, kPageBytes);
  }
  [[nodiscard]] bool exists() const { return std::filesystem::exists(path()); }
  static std::string why(const Result<MeetingFile>& opened) {
    return opened ? std::string("opened") : opened.error().message;
  }
  static constexpr std::uint64_t kBytes = kFrameOffset + 2 * kPageBytes;
  std::string directory_ = ::testing::TempDir() + "/warmfork-ivshmem-XXXXXX";
  [[nodiscard]] std::string path() const { return directory_ + "/memory"; }
};

TEST_F(IvshmemFile, IsRemovedByTheLastOfThoseWhoHaveIt) {
  for (const Side first : {Side::kHost, Side::kGuest}) {
    auto one = open(first);
    ASSERT_TRUE(one) << why(one);
    auto other = open(first == Side::kHost ? Side::kGuest : Side::kHost);
    ASSERT_TRUE(other) << why(other);
    {
      const MeetingFile ends = std::move(*one);
    }
    EXPECT_TRUE(exists()) << "the other one has it";
    EXPECT_EQ(other->leave(), Left::kRemoved);
    EXPECT_FALSE(exists());
  }
}

TEST_F(IvshmemFile, StaysWhileSomebodyElseHasItOpenAndIsThenTheNextOnesToRemove) {
  {
    auto file = open(Side::kHost);
    ASSERT_TRUE(file) << why(file);
    const UniqueFd qemu(::open(path().c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(file->leave(), Left::kInUse);
  }
  ASSERT_TRUE(exists());
  auto next = open(Side::kHost);
  ASSERT_TRUE(next) << why(next);
  EXPECT_EQ(next->leave(), Left::kRemoved);
}

TEST_F(IvshmemFile, OfSomebodyElseStays) {
  {
    const UniqueFd qemu(::open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_EQ(::ftruncate(qemu.get(), kBytes), 0);
  }
  auto file = open(Side::kHost);
  ASSERT_TRUE(file) << why(file);
  EXPECT_EQ(file->leave(), Left::kKept);
  EXPECT_TRUE(exists());
}

TEST_F(IvshmemFile, ANewOneInItsPlaceIsNotRemoved) {
  auto file = open(Side::kHost);
  ASSERT_TRUE(file) << why(file);
  std::filesystem::remove(path());
  auto next = open(Side::kGuest);
  ASSERT_TRUE(next) << why(next);
  EXPECT_EQ(file->leave(), Left::kKept);
  EXPECT_TRUE(exists());
}

TEST_F(IvshmemFile, HasOneHostAndOneGuest) {
  auto host = open(Side::kHost);
  auto guest = open(Side::kGuest);
  ASSERT_TRUE(host && guest);
  EXPECT_THAT(why(open(Side::kHost)), HasSubstr("another host is using it"));
  EXPECT_THAT(why(open(Side::kGuest)), HasSubstr("another guest is using it"));
  {
    const MeetingFile ends = std::move(*host);
  }
  EXPECT_TRUE(open(Side::kHost)) << "its lock has gone with it";
}

TEST_F(IvshmemFile, OthersDataIsNotWrittenOver) {
  std::ofstream(path()) << std::string(kBytes, 'x');
  EXPECT_THAT(why(open(Side::kHost)), HasSubstr("holds something else"));
  EXPECT_THAT(why(open(Side::kGuest)), HasSubstr("holds something else"));
  std::ifstream in(path());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), std::string(kBytes, 'x'));
}

TEST_F(IvshmemFile, OfAWrongSizeIsRefusedByValueAndLimit) {
  std::ofstream(path()) << std::string(kFrameOffset, '\0');
  EXPECT_THAT(why(open(Side::kHost)), HasSubstr("2097152 bytes; a frame of 4096 needs at least 2101248"));
  EXPECT_TRUE(exists());
  std::filesystem::remove(path());
  EXPECT_THAT(why(MeetingFile::open(path(), Side::kHost, kPageBytes, kPageBytes)), HasSubstr("needs at least"));
  EXPECT_FALSE(exists()) << "nothing is made for nothing";
}

// It would be what everybody finds who comes later and asks for less.
TEST_F(IvshmemFile, OneThatWasMadeAndCannotBeUsedIsRemovedAgain) {
  EXPECT_THAT(why(MeetingFile::open(path(), Side::kHost, kBytes + 1, kPageBytes)), HasSubstr("not whole pages"));
  EXPECT_FALSE(exists());
  EXPECT_THAT(why(MeetingFile::open(path(), Side::kGuest, 2 * kMaxSharedBytes, kPageBytes)), HasSubstr("at most"));
  EXPECT_FALSE(exists());
  EXPECT_TRUE(open(Side::kHost));
}

TEST(IvshmemPeerProgram, AnInitramfsHoldsTheWholeProgramAsInit) {
  const auto program = peer_elf();
  ASSERT_GT(program.size(), 4U);
  EXPECT_EQ(std::memcmp(program.data(),
                        "\x7f"
                        "ELF",
                        4),
            0);
  const auto archive = make_initramfs(program);
  // Entry by entry, as the kernel reads it: 13 numbers behind the magic, the name, the content, each filled up to four.
  std::string names;
  std::size_t at = 0;
  while (at + 110 <= archive.size()) {
    const auto text = [&](std::size_t from, std::size_t count) {
      return std::string(reinterpret_cast<const char*>(archive.data()) + from, count);
    };
    ASSERT_EQ(text(at, 6), "070701") << at;
    const auto field = [&](std::size_t index) { return std::stoul(text(at + 6 + 8 * index, 8), nullptr, 16); };
    const std::string name = text(at + 110, field(11) - 1);
    names += name + " ";
    const std::size_t content = (at + 110 + field(11) + 3) / 4 * 4;
    if (name == "init") {
      ASSERT_EQ(field(6), program.size());
      EXPECT_EQ(std::memcmp(archive.data() + content, program.data(), program.size()), 0);
      EXPECT_EQ(field(1), 0100755U);
    }
    at = (content + field(6) + 3) / 4 * 4;
  }
  EXPECT_EQ(at, archive.size());
  EXPECT_EQ(names, "dev dev/console sys init TRAILER!!! ");
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

TEST(IvshmemStatistics, OfKnownValues) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Statistics all = statistics_of(values);
  EXPECT_EQ(all.count, 100U);
  EXPECT_EQ(all.p50, 50);
  EXPECT_EQ(all.p90, 90);
  EXPECT_EQ(all.p95, 95);
  EXPECT_EQ(all.p99, 99);
  EXPECT_EQ(all.min, 1);
  EXPECT_EQ(all.max, 100);
  EXPECT_DOUBLE_EQ(all.mean, 50.5);
  EXPECT_NEAR(all.stddev, 29.011491975882016, 1e-9);
  EXPECT_EQ(statistics_of({7}).p99, 7);
  EXPECT_EQ(statistics_of({7}).stddev, 0);
  EXPECT_EQ(statistics_of({}).count, 0U);
}

StudyResult known_result() {
  StudyResult result;
  for (const Mode mode : {Mode::kThreads, Mode::kPolling}) {
    for (const Part part : {Part::kLatency, Part::kBandwidth}) {
      Row row{.part = part, .mode = mode, .iteration = 1};
      row.host_write = 1000;
      row.hot = 2000;
      row.cold = mode == Mode::kPolling ? 3000 : 2500;
      row.copy = 9000;
      row.verify = 4000;
      row.guest_total = 20000;
      row.round_trip = 20500;
      row.success = true;
      row.host_counts.values[static_cast<std::size_t>(Counter::kCycles)] = 5000;
      row.host_counts.values[static_cast<std::size_t>(Counter::kInstructions)] = 10000;
      result.rows.push_back(row);
    }
  }
  return result;
}
StudyOptions known_options() {
  StudyOptions options;
  options.frames = {{.name = "small", .width = 64, .height = 32}};
  options.latency_frame = 0;
  options.modes = {Mode::kThreads, Mode::kPolling};
  return options;
}

TEST(IvshmemReport, ColumnsAndValues) {
  const StudyResult result = known_result();
  const StudyOptions options = known_options();
  EXPECT_EQ(latency_csv(result, Mode::kPolling),
            "iteration,host_memcpy_ns,host_memcpy_us,roundtrip_ns,roundtrip_us,guest_memcpy_ns,guest_memcpy_us,"
            "guest_verify_ns,guest_verify_us,guest_hot_cache_ns,guest_hot_cache_us,guest_cold_cache_ns,"
            "guest_cold_cache_us,guest_second_pass_ns,guest_second_pass_us,guest_cached_verify_ns,"
            "guest_cached_verify_us,notification_est_ns,notification_est_us,total_ns,total_us,success\n"
            "1,1000,1.000,20500,20.500,9000,9.000,4000,4.000,2000,2.000,3000,3.000,9000,9.000,4000,4.000,500,0.500,"
            "21500,21.500,1\n");
  EXPECT_EQ(bandwidth_csv(result, options, Mode::kPolling),
            "iteration,frame_type,width,height,bpp,size_bytes,size_mb,host_memcpy_ns,host_memcpy_ms,host_memcpy_mbps,"
            "roundtrip_ns,roundtrip_ms,guest_memcpy_ns,guest_memcpy_ms,guest_memcpy_mbps,guest_verify_ns,"
            "guest_verify_ms,total_ns,total_ms,total_mbps,success\n"
            "1,small,64,32,24,6144,0.01,1000,0.001000,5859.38,20500,0.020500,9000,0.009000,651.04,4000,0.004000,21500,"
            "0.021500,272.53,1\n");
  const std::string counters =
      "host_l1_cache_misses,host_l1_cache_references,host_l1_miss_rate,host_llc_misses,host_llc_references,"
      "host_llc_miss_rate,host_tlb_misses,host_cpu_cycles,host_instructions,host_ipc,host_cycles_per_byte,"
      "host_context_switches,guest_l1_cache_misses,guest_l1_cache_references,guest_l1_miss_rate,guest_llc_misses,"
      "guest_llc_references,guest_llc_miss_rate,guest_tlb_misses,guest_cpu_cycles,guest_instructions,guest_ipc,"
      "guest_cycles_per_byte,guest_context_switches\n";
  EXPECT_EQ(latency_counters_csv(result, options, Mode::kPolling),
            "iteration," + counters + "1,,,,,,,,5000,10000,2.000000,0.813802,,,,,,,,,,,,,\n");
  EXPECT_EQ(bandwidth_counters_csv(result, options, Mode::kPolling),
            "iteration,frame_type," + counters + "1,small,,,,,,,,5000,10000,2.000000,0.813802,,,,,,,,,,,,,\n");
}

TEST(IvshmemReport, NamesTheBottleneckAndTheFloor) {
  StudyResult result = known_result();
  const StudyOptions options = known_options();
  EXPECT_THAT(bottleneck(result, options, Mode::kPolling),
              StartsWith("the guest's writing of its own memory takes the most: 6.0 us of 10.5 us (57 %)"));
  EXPECT_DOUBLE_EQ(*ratio_to_threads(result, Part::kLatency, Mode::kPolling, 0, Phase::kCold), 1.2);
  EXPECT_THAT(to_text(result, options),
              HasSubstr("polling, small, pure read, cold: 1.200 times the floor, not within"));
  EXPECT_THAT(to_text(result, options), HasSubstr("polling, small, host write: 1.000 times the floor, within 5 %"));
  for (Row& row : result.rows) row.host_write = 50000;
  EXPECT_THAT(bottleneck(result, options, Mode::kPolling), StartsWith("the host's write into the shared memory"));
  EXPECT_EQ(bottleneck(result, options, Mode::kDoorbell), "");
}

TEST(IvshmemReport, AGuestIsComparedWithTheThreadsOfTheSameRound) {
  StudyResult result;
  // The machine becomes slower; most of the guest's messages are of the slow time, most of the threads' of the fast
  // one.
  const auto add = [&](Mode mode, std::uint64_t round, double ns, int messages) {
    for (int i = 0; i < messages; ++i) {
      Row row{.part = Part::kLatency, .mode = mode, .round = round, .success = true};
      row.hot = ns;
      result.rows.push_back(row);
    }
  };
  for (const auto& [round, speed] : {std::pair{0U, 100.0}, std::pair{1U, 200.0}, std::pair{2U, 1000.0}}) {
    add(Mode::kThreads, round, speed, round == 0 ? 9 : 1);
    add(Mode::kPolling, round, speed * 1.25, round == 2 ? 9 : 1);
  }
  add(Mode::kPolling, 3, 1, 100);  // without its floor, a round says nothing
  EXPECT_DOUBLE_EQ(*ratio_to_threads(result, Part::kLatency, Mode::kPolling, 0, Phase::kHot), 1.25);
  EXPECT_FALSE(ratio_to_threads(result, Part::kLatency, Mode::kDoorbell, 0, Phase::kHot));
}

TEST(IvshmemReport, WhatIsNotCompleteSaysSo) {
  std::string directory = ::testing::TempDir() + "/warmfork-ivshmem-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  StudyResult result = known_result();
  result.ended = Error{ErrorKind::kCancelled, "interrupted"};
  result.ended_where = "polling, small, message 2";
  ASSERT_TRUE(write_report(result, known_options(), directory, false));
  const auto text = [&](const std::string& name) {
    std::ifstream in(directory + "/" + name);
    std::stringstream all;
    all << in.rdbuf();
    return all.str();
  };
  EXPECT_EQ(text("INCOMPLETE"), "polling, small, message 2: interrupted\n");
  EXPECT_THAT(text("performance_report.txt"), StartsWith("INCOMPLETE: polling, small, message 2: interrupted\n"));
  EXPECT_EQ(text("latency_results.csv"), latency_csv(result, Mode::kPolling));
  EXPECT_EQ(text("latency_results.threads.csv"), latency_csv(result, Mode::kThreads));
  EXPECT_THAT(to_json(result, known_options(), 130), HasSubstr("\"complete\": false"));
  result.ended.reset();
  ASSERT_TRUE(write_report(result, known_options(), directory, false));
  EXPECT_FALSE(std::filesystem::exists(directory + "/INCOMPLETE"));
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
}

}  // namespace
}  // namespace warmfork::ivshmem
