// What the host of the shared-memory study makes of a guest's page: state words one after the other, and results.
// Input: how many words; for each, what is waited for, and the word (state, message, session); then the results, and
// the guest's name.
#include "ivshmem/host/host_side.hpp"
#include "require.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

using namespace warmfork::ivshmem;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t kSession = 0x51;
  GuestWatch watch(kSession);
  constexpr std::size_t kStep = 4;
  std::size_t steps = size == 0 ? 0 : data[0] % 32U;
  std::size_t at = size == 0 ? 0 : 1;
  for (; steps != 0 && size - at >= kStep; --steps, at += kStep) {
    const GuestState wanted = data[at] % 2 == 0 ? GuestState::kReady : GuestState::kAcknowledged;
    const std::uint32_t message = data[at] / 2U % 4;
    watch.expect(wanted, message);
    const bool was_broken = !watch.violation().empty();
    const std::string before = watch.violation();
    const StateWord word{.state = data[at + 1], .message = data[at + 2], .session = data[at + 3]};
    const GuestWatch::Look look = watch.look(encode(word));
    // It has arrived only where it says it is, in this session; a violation stays.
    if (look == GuestWatch::Look::kArrived) {
      WARMFORK_REQUIRE(word.session == kSession && word.message == message);
      WARMFORK_REQUIRE(word.state == static_cast<std::uint8_t>(wanted) && watch.state() == wanted);
    }
    if (was_broken) WARMFORK_REQUIRE(look == GuestWatch::Look::kBroken && watch.violation() == before);
    WARMFORK_REQUIRE((look == GuestWatch::Look::kBroken) == !watch.violation().empty());
    if (look != GuestWatch::Look::kBroken && watch.joined()) {
      WARMFORK_REQUIRE(watch.state() == GuestState::kReady || watch.state() == GuestState::kProcessing ||
                       watch.state() == GuestState::kAcknowledged);
    }
  }
  struct Results {
    std::uint64_t round_trip, slack, error;
    GuestTimes times;
  } results{};
  std::memcpy(&results, data + at, size - at < sizeof results ? size - at : sizeof results);
  const auto page = std::make_unique<GuestPage>();
  page->error = results.error;
  page->times = results.times;
  const std::size_t name_at = size - at < sizeof results ? size : at + sizeof results;
  std::memcpy(page->name, data + name_at, std::min(size - name_at, sizeof page->name));
  const std::string name = read_name(*page);
  WARMFORK_REQUIRE(name.size() <= sizeof page->name);
  for (const char one : name) WARMFORK_REQUIRE(one >= ' ' && one <= '~');
  const auto read = read_result(*page, results.round_trip, results.slack);
  if (read) {
    const GuestTimes& times = read->times;
    WARMFORK_REQUIRE(times == results.times && static_cast<std::uint64_t>(read->error) <= 2);
    const std::uint64_t sum = times.hot + times.cold + times.copy + times.verify;
    WARMFORK_REQUIRE(times.hot <= times.total && times.cold <= times.total && times.copy <= times.total);
    WARMFORK_REQUIRE(times.total != 0 && times.verify <= times.total && sum <= times.total);
    WARMFORK_REQUIRE(times.total - results.round_trip <= results.slack || times.total <= results.round_trip);
  } else {
    WARMFORK_REQUIRE(!read.error().message.empty());
  }
  return 0;
}
