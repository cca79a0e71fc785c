// The files a grader and a fleet are told by: TOML text -> checked values. Everything a file can say is hostile: sizes,
// counts and names are bounded, unknown keys refused. Errors (kInput) name file, line, key, value and what is allowed.
//
// parse_…() are pure: they name the files a text refers to and do not read them. load_…() read.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "fork/fork_options.hpp"
#include "lc3/fleet/isolated_run.hpp"
#include "lc3/fleet/judge.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

inline constexpr std::size_t kMaxConfigBytes = std::size_t{1} << 20;     // of a TOML file
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 20;       // of an input, of an expected output
inline constexpr std::size_t kMaxAllTextBytes = std::size_t{256} << 20;  // of all of a file together
inline constexpr std::size_t kMaxTests = 10'000;
inline constexpr std::size_t kMaxSeeds = 16;
inline constexpr std::size_t kMaxMachineTables = 256;  // each is a master, with compilers of its own
inline constexpr std::size_t kMaxMachines = 4096;      // replicas counted
inline constexpr std::size_t kMaxFleetOutputBytes = std::size_t{1} << 30;  // output_limit of all machines together
inline constexpr std::size_t kMaxLinks = 512;
inline constexpr std::size_t kMaxLinkedMachines = 256;                       // each has a thread of its own
inline constexpr std::uint64_t kMaxLinkBytes = std::uint64_t{16} << 20;      // capacity of one
inline constexpr std::uint64_t kMaxAllLinkBytes = std::uint64_t{256} << 20;  // of all of a fleet together
inline constexpr std::size_t kMaxNameBytes = 200;
inline constexpr std::size_t kMaxProgramFiles = 16;

/// A number with a unit's name behind it: "10k", "2M", "1G" instructions; "250ms", "2s", "1m"; "64K", "1M" bytes. Whole
/// numbers only. Nothing if `text` is no such number.
[[nodiscard]] std::optional<std::uint64_t> parse_instructions(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_wall_ns(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(std::string_view text);

/// A text that a file holds itself, or the name of the file that has it.
struct TextSource {
  std::string text;
  std::string path;  // if not empty: there
  std::uint32_t line = 0;
};

/// One input, and what a program has to make of it.
struct TestCase {
  std::string name;
  TextSource input;
  TextSource output;
  Compare compare = Compare::kExact;
  ExpectedEnd end = ExpectedEnd::kHalt;
  RunLimits limits;
};

/// What every submission is run against.
struct TestSet {
  std::string name;    // of the file or directory
  Lc3Options machine;  // edition, privilege, traps; the interpreter
  /// Memory and registers before the program is loaded: of a seed, or zero. Every test runs once with each.
  std::vector<std::optional<std::uint64_t>> seeds = {std::nullopt};
  std::vector<TestCase> tests;  // at least one; names are unique
};

/// A test set as TOML. `name` is the file's, for messages.
[[nodiscard]] Result<TestSet> parse_tests(std::string_view text, const std::string& name);
/// A test set from a TOML file, or from a directory with NAME.in and NAME.out for each test (NAME.in may be missing:
/// no input), with all texts read. Every file is a regular one of at most kMaxTextBytes.
[[nodiscard]] Result<TestSet> load_tests(const std::string& path);

/// One machine of a fleet, or some that differ in nothing but their number.
struct MachineSpec {
  std::string name;
  std::vector<std::string> programs;
  Lc3Options machine;  // engine, edition, privilege, traps, seed
  ForkKind fork = ForkKind::kSpace;
  std::optional<int> cpu;  // runs on this one only
  /// By default 1G instructions, a minute, 64 KiB.
  RunLimits limits = {.instructions = 1'000'000'000, .wall_ns = 60'000'000'000};
  TextSource input;
  std::optional<TextSource> output;
  Compare compare = Compare::kExact;
  ExpectedEnd end = ExpectedEnd::kHalt;
  std::uint32_t count = 1;
  std::uint32_t line = 0;
};

/// How a machine waits for the other end of a link.
enum class Wake : std::uint8_t {
  kPoll,      // it looks: in the guest first, then its thread, which yields between looks
  kDoorbell,  // its thread sleeps until the other end rings
};
inline constexpr std::array kWakeNames = {"poll", "doorbell"};

/// One end of a link: a port of one machine.
struct LinkEnd {
  std::string machine;    // as in the file: a replica's name if there are several
  std::size_t index = 0;  // of FleetFile::machines, with all replicas counted
  std::size_t spec = 0;   // of FleetFile::machines
  unsigned port = 0;
};

/// Messages that one machine sends from a port arrive at a port of another one.
struct LinkSpec {
  LinkEnd from, to;
  std::uint64_t capacity = 1 << 16;  // bytes of the ring; the same for all links of a machine
  Wake wake = Wake::kPoll;
  std::uint32_t line = 0;
};

struct FleetFile {
  std::string name;
  std::vector<MachineSpec> machines;  // at least one; names are unique, replicas' among them
  std::vector<LinkSpec> links;
};

/// A fleet as TOML. Links are checked: both ends exist and are two machines, no port sends to two links or receives
/// from two, all links of a machine have one capacity. Cycles of links are what conversations are made of.
[[nodiscard]] Result<FleetFile> parse_fleet(std::string_view text, const std::string& name);
/// A fleet from a file, with all texts read; programs' names are made relative to the file's directory.
[[nodiscard]] Result<FleetFile> load_fleet(const std::string& path);

/// The name of replica `index` of a machine: "name", or "name.3" if there are several.
[[nodiscard]] std::string replica_name(const MachineSpec& machine, std::uint32_t index);

}  // namespace warmfork::lc3
