#include "lc3_profile.hpp"

#include "base/file.hpp"
#include "base/printable.hpp"
#include "console.hpp"
#include "lc3/core/instruction.hpp"
#include "option_checks.hpp"
#include "output_file.hpp"

#include <fmt/format.h>

#include <span>

namespace warmfork::cli {
namespace {

constexpr std::uint16_t kHaltVector = 0x25;
// A hostile program can have 65,536 entries that each reach everything.
constexpr std::size_t kMostVisits = std::size_t{1} << 22;

std::string frame(std::string_view text) {
  std::string result = printable(text);
  for (char& c : result) {
    if (c == ';' || c == '\n') c = ':';
  }
  return result.empty() ? "?" : result;
}

std::string label_of(const Lc3Places& places, std::uint16_t address) {
  std::string label = places.label(address);
  if (const std::size_t plus = label.rfind('+'); plus != std::string::npos) label.resize(plus);
  return label.empty() ? fmt::format("x{:04X}", address) : label;
}

}  // namespace

void add_profile_options(CLI::App& verb, ProfileOptions& options) {
  verb.add_option("--profile", options.path,
                  "Sample where the LC-3 is, and write folded stacks for flamegraph.pl or speedscope.app:\n"
                  "program;SUBROUTINE;LABEL;engine:tier count. The results are the same; --cache is not read")
      ->type_name("FILE")
      ->check(not_empty());
  verb.add_option("--profile-rate", options.rate, "Samples a second, of each machine that runs; each costs an exit")
      ->type_name("HZ")
      ->check(CLI::Range(1U, kMostSamplesPerSecond))
      ->capture_default_str()
      ->needs("--profile");
}

Result<std::unique_ptr<Sampler>> start_sampling(const ProfileOptions& options) {
  if (!options.on()) return std::unique_ptr<Sampler>{};
  WARMFORK_TRY(check_output_file("--profile", options.path));
  return Sampler::start(options.rate);
}

Subroutines::Subroutines(const lc3::Program& program, const lc3::Program* os) : owner_(0x10000, -1) {
  std::vector<std::int32_t> words(0x10000, -1);  // -1: nothing was loaded there
  for (const lc3::Program* one : {os, &program}) {
    if (one == nullptr) continue;
    for (const lc3::Segment& segment : one->segments) {
      for (std::size_t i = 0; i < segment.words.size(); ++i) words[segment.origin + i] = segment.words[i];
    }
  }
  std::vector<std::uint16_t> entries;
  std::vector<bool> is_entry(0x10000);
  const auto add_entry = [&](std::uint32_t address) {
    const auto at = static_cast<std::uint16_t>(address);
    if (words[at] < 0 || is_entry[at]) return;
    is_entry[at] = true;
    entries.push_back(at);
  };
  add_entry(program.entry());
  for (std::uint32_t vector = 0; vector < lc3::kVectorTablesEnd; ++vector) {
    if (words[vector] > 0) add_entry(static_cast<std::uint32_t>(words[vector]));
  }
  std::vector<std::uint32_t> seen(0x10000);  // by which entry, + 1
  std::vector<std::uint16_t> open;
  std::size_t visits = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::uint16_t entry = entries[i];
    open.assign(1, entry);
    while (!open.empty() && visits < kMostVisits) {
      const std::uint16_t at = open.back();
      open.pop_back();
      if (words[at] < 0 || seen[at] == i + 1) continue;
      seen[at] = static_cast<std::uint32_t>(i + 1);
      ++visits;
      const bool before = entry <= at;
      if (owner_[at] < 0 || (before && (owner_[at] > at || owner_[at] < entry))) owner_[at] = entry;
      const lc3::Instruction instruction = lc3::decode(static_cast<std::uint16_t>(words[at]));
      const auto next = static_cast<std::uint16_t>(at + 1);
      const auto target = static_cast<std::uint16_t>(next + instruction.immediate);
      switch (instruction.operation) {
        case lc3::Operation::kBr:
          if (instruction.nzp != 0) open.push_back(target);
          if (instruction.nzp != 7) open.push_back(next);
          break;
        case lc3::Operation::kJsr:
          add_entry(target);
          open.push_back(next);
          break;
        case lc3::Operation::kTrap:
          if ((words[at] & 0xff) != kHaltVector) open.push_back(next);
          break;
        case lc3::Operation::kJmp:
        case lc3::Operation::kRti: break;
        default: open.push_back(next); break;
      }
    }
  }
}

std::optional<std::uint16_t> Subroutines::of(std::uint16_t address) const {
  if (owner_[address] < 0) return std::nullopt;
  return static_cast<std::uint16_t>(owner_[address]);
}

void FoldedProfile::add(std::string_view name, const lc3::Profile& profile, const lc3::Program& program,
                        const lc3::Program* os, lc3::Engine engine) {
  using Tier = lc3::ProfilePoint::Tier;
  const Lc3Places places(program, os);
  const Subroutines subroutines(program, os);
  const char* const engine_name = lc3::kEngineNames[static_cast<std::size_t>(engine)];
  for (const auto& [point, count] : profile.counts) {
    std::string stack = frame(name);
    if (point.tier == Tier::kEntry) {
      stack += ";[entry]";
    } else {
      const std::string label = label_of(places, point.pc);
      const auto subroutine = subroutines.of(point.pc);
      if (const std::string in = subroutine ? label_of(places, *subroutine) : label; in != label) {
        stack += ";" + frame(in);
      }
      stack += ";" + frame(label);
    }
    stack += fmt::format(";{}:{}", engine_name, lc3::name_of(point.tier));
    if (point.tier == Tier::kGuest) stack += ";" + frame(point.function);
    stacks_[stack] += count;
    samples_ += count;
  }
}

std::string FoldedProfile::text() const {
  std::string text;
  for (const auto& [stack, count] : stacks_) text += fmt::format("{} {}\n", stack, count);
  return text;
}

Status FoldedProfile::write(const ProfileOptions& options) const {
  const std::string lines = text();
  WARMFORK_TRY(write_output_file("--profile", options.path,
                                 [&](int fd) { return write_all(fd, std::as_bytes(std::span(lines)), options.path); }));
  print_message("profile: {} samples of {} a second in {}\n", samples_, options.rate, options.path);
  return {};
}

}  // namespace warmfork::cli
