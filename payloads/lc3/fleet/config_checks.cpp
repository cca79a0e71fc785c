#include "lc3/fleet/config_checks.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace warmfork::lc3 {

Status check_names(const FleetFile& fleet) {
  std::map<std::string, std::uint32_t> names;
  std::size_t total = 0;
  std::size_t output = 0;
  for (const MachineSpec& machine : fleet.machines) {
    total += machine.count;
    output += machine.count * machine.limits.output_bytes;
    if (output > kMaxFleetOutputBytes) {
      return fail(ErrorKind::kInput, "{}:{}: machine: output_limit = {}, count = {}: more than {} bytes in all",
                  fleet.name, machine.line, machine.limits.output_bytes, machine.count, kMaxFleetOutputBytes);
    }
    if (total > kMaxMachines) {
      return fail(ErrorKind::kInput, "{}:{}: machine: count = {}: more than {} machines in all", fleet.name,
                  machine.line, machine.count, kMaxMachines);
    }
    for (std::uint32_t i = 0; i < machine.count; ++i) {
      const auto [found, added] = names.emplace(replica_name(machine, i), machine.line);
      if (!added) {
        return fail(ErrorKind::kInput, "{}:{}: machine: name = \"{}\": line {} has it already", fleet.name,
                    machine.line, visible(found->first, kShownBytes), found->second);
      }
    }
  }
  return {};
}

Status check_links(const FleetFile& fleet) {
  std::map<std::pair<std::size_t, unsigned>, std::uint32_t> from, to;  // lines
  std::map<std::size_t, const LinkSpec*> of_family;                    // the first link of each
  std::map<std::size_t, bool> linked;
  std::uint64_t bytes = 0;
  for (const LinkSpec& link : fleet.links) {
    const auto check = [&](const char* key, const LinkEnd& end, const char* does, auto& ends) -> Status {
      const auto [found, added] = ends.emplace(std::pair(end.index, end.port), link.line);
      if (!added) {
        return fail(ErrorKind::kInput, "{}:{}: link: {} = \"{}:{}\": that port {} the link of line {}", fleet.name,
                    link.line, key, visible(end.machine, kShownBytes), end.port, does, found->second);
      }
      const LinkSpec& first = *of_family.emplace(end.spec, &link).first->second;
      if (first.capacity != link.capacity) {
        return fail(ErrorKind::kInput,
                    "{}:{}: link: capacity = {}: machine \"{}\" has a link of {} in line {}; all of a machine's have "
                    "the same",
                    fleet.name, link.line, link.capacity, visible(end.machine, kShownBytes), first.capacity,
                    first.line);
      }
      linked[end.index] = true;
      return {};
    };
    WARMFORK_TRY(check("from", link.from, "sends to", from));
    WARMFORK_TRY(check("to", link.to, "receives from", to));
    bytes += link.capacity;
    if (bytes > kMaxAllLinkBytes) {
      return fail(ErrorKind::kInput, "{}:{}: link: capacity = {}: more than {} bytes of links in all", fleet.name,
                  link.line, link.capacity, kMaxAllLinkBytes);
    }
    if (linked.size() > kMaxLinkedMachines) {
      return fail(ErrorKind::kInput, "{}:{}: link: more than {} machines have links: each has a thread of its own",
                  fleet.name, link.line, kMaxLinkedMachines);
    }
  }
  return {};
}

}  // namespace warmfork::lc3
