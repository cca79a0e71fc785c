// Fleets and test sets as TOML: whatever is accepted is within its limits, whatever is not is named in one line.
#include "lc3/fleet/config.hpp"
#include "require.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

using namespace warmfork::lc3;

namespace {

void check_limits(const RunLimits& limits) {
  WARMFORK_REQUIRE(limits.instructions > 0 && limits.wall_ns > 0);
  WARMFORK_REQUIRE(limits.output_bytes <= std::size_t{64} << 20);
}

void check_error(const std::string& message) {
  WARMFORK_REQUIRE(message.starts_with("input.toml"));
  WARMFORK_REQUIRE(message.find('\n') == std::string::npos && message.size() < 4096);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // SAFETY: bytes viewed as characters.
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto fleet = parse_fleet(text, "input.toml"); !fleet) {
    check_error(fleet.error().message);
  } else {
    std::set<std::string> names;
    std::size_t count = 0;
    for (const MachineSpec& machine : fleet->machines) {
      check_limits(machine.limits);
      WARMFORK_REQUIRE(!machine.programs.empty() && machine.programs.size() <= kMaxProgramFiles);
      for (std::uint32_t i = 0; i < machine.count; ++i) names.insert(replica_name(machine, i));
      count += machine.count;
    }
    WARMFORK_REQUIRE(count > 0 && count <= kMaxMachines && names.size() == count);
    WARMFORK_REQUIRE(fleet->links.size() <= kMaxLinks);
    std::set<std::pair<std::size_t, unsigned>> senders, receivers;
    std::uint64_t bytes = 0;
    for (const LinkSpec& link : fleet->links) {
      for (const LinkEnd* const end : {&link.from, &link.to}) {
        WARMFORK_REQUIRE(end->index < count && end->spec < fleet->machines.size() && end->port < kPortCount);
        WARMFORK_REQUIRE(names.contains(end->machine));
      }
      WARMFORK_REQUIRE(link.from.index != link.to.index);
      WARMFORK_REQUIRE(senders.emplace(link.from.index, link.from.port).second);
      WARMFORK_REQUIRE(receivers.emplace(link.to.index, link.to.port).second);
      WARMFORK_REQUIRE(warmfork::ring::valid_capacity(link.capacity));
      bytes += link.capacity;
    }
    WARMFORK_REQUIRE(bytes <= kMaxAllLinkBytes);
  }
  if (const auto tests = parse_tests(text, "input.toml"); !tests) {
    check_error(tests.error().message);
  } else {
    WARMFORK_REQUIRE(!tests->tests.empty() && tests->tests.size() <= kMaxTests);
    WARMFORK_REQUIRE(!tests->seeds.empty() && tests->seeds.size() <= kMaxSeeds);
    for (const TestCase& test : tests->tests) {
      check_limits(test.limits);
      WARMFORK_REQUIRE(!test.name.empty() && test.name.size() <= kMaxNameBytes);
    }
  }
  return 0;
}
