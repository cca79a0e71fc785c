#include "bench/context.hpp"

#include "base/tsc_clock.hpp"
#include "build_info.hpp"

#include <fmt/chrono.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <utility>

namespace warmfork::bench {

Context make_context(std::string kvm_backend, std::string cpu, std::vector<int> pinned) {
  utsname names{};
  ::uname(&names);
  return {.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::now())),
          .commit = kBuildCommit,
          .cpu = std::move(cpu),
          .kernel = names.release,
          .kvm_backend = std::move(kvm_backend),
          .cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)),
          .pinned = std::move(pinned),
          .build = kBuildDescription,
          .clock_step_ns = tsc_step_ticks() * tsc_ns_per_tick()};
}

}  // namespace warmfork::bench
