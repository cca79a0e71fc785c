// Every metric there is: name, type, labels and meaning, once. What is exposed, and the table in README.md beside this
// file, are made from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace warmfork::metrics {

enum class Type : std::uint8_t { kCounter, kGauge, kHistogram };
[[nodiscard]] constexpr std::string_view name_of(Type type) {
  return type == Type::kCounter ? "counter" : type == Type::kGauge ? "gauge" : "histogram";
}

enum class Family : std::uint8_t {
  kBuildInfo,
  kStartTime,
  kVmcalls,
  kVmcallDuration,
  kResets,
  kResetDuration,
  kResetPages,
  kForks,
  kForkDuration,
  kExits,
  kPoolForks,
  kPoolWaiting,
  kPoolAcquireDuration,
  kPoolLimit,
  kPoolReplaced,
  kGuestMemoryLimit,
  kGuestDeadline,
  kGuestBudget,
  kLc3Instructions,
  kJitBlocks,
  kJitCompiles,
  kJitCompileDuration,
  kJitCodeBytes,
  kJitCache,
  kVmInfo,
  kVmState,
  kVmInstructions,
  kVmFaults,
  kVmLastFault,
  kFeedPackets,
  kFeedBytes,
  kFeedDropped,
  kFeedLateness,
  kFeedRead,
  kLinkMessages,
  kLinkFill,
  kDroppedSamples,
  kScrapeDuration,
  kProcessCpu,
  kProcessResident,
  kProcessFds,
  kProcessStart,
  kCount,
};

inline constexpr std::size_t kMostLabels = 4;

struct FamilyInfo {
  Family family;
  std::string_view name;
  Type type;
  std::string_view unit;                           // "seconds", "bytes" or nothing: the name ends with it
  std::array<std::string_view, kMostLabels> keys;  // of the labels; empty ones are none
  std::string_view help;

  [[nodiscard]] constexpr std::size_t labels() const {
    std::size_t count = 0;
    while (count < kMostLabels && !keys[count].empty()) ++count;
    return count;
  }
};

inline constexpr std::array<FamilyInfo, static_cast<std::size_t>(Family::kCount)> kFamilies{{
    {Family::kBuildInfo,
     "warmfork_build_info",
     Type::kGauge,
     "",
     {"version", "backend"},
     "1; this build's version and the KVM backend it runs on (pvm, svm, vmx; none without a KVM)."},
    {Family::kStartTime,
     "warmfork_start_time_seconds",
     Type::kGauge,
     "seconds",
     {},
     "When the verb began, since 1970."},
    {Family::kVmcalls,
     "warmfork_vmcalls_total",
     Type::kCounter,
     "",
     {"mode", "result"},
     "Calls into guests that came back, by mode (vm: a KVM VM of its own, space: one shared, ring: without exits) and "
     "result (ok; budget: ended by its instruction budget; fault; deadline, and again when it is resumed; error)."},
    {Family::kVmcallDuration,
     "warmfork_vmcall_duration_seconds",
     Type::kHistogram,
     "seconds",
     {"mode"},
     "From a call into a guest to its answer, whatever that was."},
    {Family::kResets, "warmfork_resets_total", Type::kCounter, "", {"strategy"}, "Forks put back to their snapshot."},
    {Family::kResetDuration,
     "warmfork_reset_duration_seconds",
     Type::kHistogram,
     "seconds",
     {"strategy"},
     "What putting a fork back took."},
    {Family::kResetPages,
     "warmfork_reset_pages_total",
     Type::kCounter,
     "",
     {"strategy"},
     "Pages that resets have copied."},
    {Family::kForks, "warmfork_forks_total", Type::kCounter, "", {"kind"}, "Forks made."},
    {Family::kForkDuration,
     "warmfork_fork_duration_seconds",
     Type::kHistogram,
     "seconds",
     {"kind"},
     "What making a fork took."},
    {Family::kExits,
     "warmfork_exits_total",
     Type::kCounter,
     "",
     {"reason"},
     "Returns of KVM_RUN by reason (return: of a vmcall)."},
    {Family::kPoolForks,
     "warmfork_pool_forks",
     Type::kGauge,
     "",
     {"state"},
     "Forks in pools: ready, busy (on loan), broken (could not be reset, being thrown away)."},
    {Family::kPoolWaiting, "warmfork_pool_waiting", Type::kGauge, "", {}, "Threads that wait for a fork."},
    {Family::kPoolAcquireDuration,
     "warmfork_pool_acquire_duration_seconds",
     Type::kHistogram,
     "seconds",
     {},
     "From asking a pool for a fork to having it."},
    {Family::kPoolLimit, "warmfork_pool_limit_forks", Type::kGauge, "", {}, "Forks that pools may have at once."},
    {Family::kPoolReplaced,
     "warmfork_pool_replaced_forks_total",
     Type::kCounter,
     "",
     {},
     "Forks that could not be reset and were thrown away."},
    {Family::kGuestMemoryLimit,
     "warmfork_guest_memory_limit_bytes",
     Type::kGauge,
     "bytes",
     {"vm"},
     "What the guest can write, together."},
    {Family::kGuestDeadline,
     "warmfork_guest_deadline_seconds",
     Type::kGauge,
     "seconds",
     {"vm"},
     "Wall-clock time it may take in all; missing: as long as it likes."},
    {Family::kGuestBudget,
     "warmfork_guest_instruction_budget",
     Type::kGauge,
     "",
     {"vm"},
     "LC-3 instructions it may execute in all; missing: as many as it likes."},
    {Family::kLc3Instructions,
     "warmfork_lc3_instructions_total",
     Type::kCounter,
     "",
     {"engine"},
     "LC-3 instructions of runs that came back, by the engine that was asked for."},
    {Family::kJitBlocks,
     "warmfork_jit_blocks",
     Type::kGauge,
     "",
     {"tier"},
     "Blocks of LC-3 code in code regions, by the compiler that made them (xbyak, orc)."},
    {Family::kJitCompiles,
     "warmfork_jit_compiles_total",
     Type::kCounter,
     "",
     {"tier"},
     "Versions of code compiled and put in place."},
    {Family::kJitCompileDuration,
     "warmfork_jit_compile_duration_seconds",
     Type::kHistogram,
     "seconds",
     {"tier"},
     "What compiling one took."},
    {Family::kJitCodeBytes,
     "warmfork_jit_code_bytes",
     Type::kGauge,
     "bytes",
     {"tier"},
     "Machine code in code regions."},
    {Family::kJitCache,
     "warmfork_jit_cache_total",
     Type::kCounter,
     "",
     {"result"},
     "Files of optimised code looked for on the disk: hit, miss, refused (a file that is wrong)."},
    {Family::kVmInfo,
     "warmfork_vm_info",
     Type::kGauge,
     "",
     {"vm", "program", "kind", "engine"},
     "1 for each machine of this run."},
    {Family::kVmState,
     "warmfork_vm_state",
     Type::kGauge,
     "",
     {"vm", "state"},
     "1 for the state a machine is in, 0 for the others: waiting, running, done, faulted, stopped."},
    {Family::kVmInstructions,
     "warmfork_vm_instructions_total",
     Type::kCounter,
     "",
     {"vm"},
     "LC-3 instructions of the machine, as far as it has come back."},
    {Family::kVmFaults,
     "warmfork_vm_faults_total",
     Type::kCounter,
     "",
     {"vm"},
     "Times the machine ended by its own fault."},
    {Family::kVmLastFault,
     "warmfork_vm_last_fault_info",
     Type::kGauge,
     "",
     {"vm", "fault"},
     "1; why the machine ended last, if by its own fault."},
    {Family::kFeedPackets, "warmfork_feed_packets_total", Type::kCounter, "", {}, "Packets replayed."},
    {Family::kFeedBytes, "warmfork_feed_bytes_total", Type::kCounter, "bytes", {}, "Bytes of their payloads."},
    {Family::kFeedDropped,
     "warmfork_feed_dropped_packets_total",
     Type::kCounter,
     "",
     {"reader"},
     "Packets (of programs: messages) a reader was too slow for."},
    {Family::kFeedLateness,
     "warmfork_feed_lateness_seconds",
     Type::kHistogram,
     "seconds",
     {},
     "From when a packet was due to when readers could have it; nothing if unpaced."},
    {Family::kFeedRead,
     "warmfork_feed_read_packets_total",
     Type::kCounter,
     "",
     {"reader"},
     "Packets (of programs: messages) a reader has read; of programs by their own word."},
    {Family::kLinkMessages,
     "warmfork_link_messages_total",
     Type::kCounter,
     "",
     {"link"},
     "Messages sent through a link, by its sender's own word."},
    {Family::kLinkFill,
     "warmfork_link_fill_bytes",
     Type::kGauge,
     "bytes",
     {"link"},
     "Bytes that lie in a link's ring, by its two ends' own word."},
    {Family::kDroppedSamples,
     "warmfork_metrics_dropped_samples_total",
     Type::kCounter,
     "",
     {},
     "Samples left out because there were too many."},
    {Family::kScrapeDuration,
     "warmfork_metrics_scrape_duration_seconds",
     Type::kHistogram,
     "seconds",
     {},
     "What collecting and writing these numbers took."},
    {Family::kProcessCpu,
     "process_cpu_seconds_total",
     Type::kCounter,
     "seconds",
     {},
     "User and system time of this process, guests' included."},
    {Family::kProcessResident,
     "process_resident_memory_bytes",
     Type::kGauge,
     "bytes",
     {},
     "Memory of this process that is present."},
    {Family::kProcessFds, "process_open_fds", Type::kGauge, "", {}, "Open file descriptors."},
    {Family::kProcessStart,
     "process_start_time_seconds",
     Type::kGauge,
     "seconds",
     {},
     "When the process began, since 1970."},
}};

[[nodiscard]] constexpr const FamilyInfo& info_of(Family family) { return kFamilies[static_cast<std::size_t>(family)]; }

namespace detail {
constexpr bool sound(const FamilyInfo& info, std::size_t place) {
  std::string_view name = info.name;
  const bool total = name.ends_with("_total");
  if (total) name.remove_suffix(6);
  for (const char c : name) {
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') return false;
  }
  return static_cast<std::size_t>(info.family) == place && total == (info.type == Type::kCounter) &&
         (info.unit.empty() || name.ends_with(info.unit)) && info.help.ends_with('.');
}
constexpr bool all_sound() {
  for (std::size_t i = 0; i < kFamilies.size(); ++i) {
    if (!sound(kFamilies[i], i)) return false;
  }
  return true;
}
static_assert(all_sound(), "in the order of Family; counters, and only they, end in _total; names end in their unit");
}  // namespace detail

/// The table in Markdown, as README.md has it.
[[nodiscard]] std::string table_markdown();

}  // namespace warmfork::metrics
