// --profile FILE: where LC-3 programs spend their time, as folded stacks for flamegraph.pl and speedscope.
//
//   program;SUBROUTINE;LABEL;engine:tier count
//
// SUBROUTINE is what the sampled instruction is part of: what JSR, traps and the start lead to, followed over the words
// that were loaded. It is no call stack: LC-3 programs keep theirs as they like.
#pragma once

#include "lc3_report.hpp"
#include "machine/sampler.hpp"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::cli {

struct ProfileOptions {
  std::string path;
  unsigned rate = 997;
  [[nodiscard]] bool on() const { return !path.empty(); }
};
void add_profile_options(CLI::App& verb, ProfileOptions& options);

/// To be called before the run. Nothing if no profile was asked for. Errors: kUsage, kHost (see Sampler; the file could
/// not be made).
[[nodiscard]] Result<std::unique_ptr<Sampler>> start_sampling(const ProfileOptions& options);

/// Which subroutine an instruction belongs to, as far as the words tell.
class Subroutines {
 public:
  /// `os` may be nullptr.
  Subroutines(const lc3::Program& program, const lc3::Program* os);
  /// Where it begins; nothing if no known way leads there. Of several the nearest one before the address.
  [[nodiscard]] std::optional<std::uint16_t> of(std::uint16_t address) const;

 private:
  std::vector<std::int32_t> owner_;  // by address; -1: none
};

class FoldedProfile {
 public:
  /// Adds what was found of one machine. `name` is the program's frame.
  void add(std::string_view name, const lc3::Profile& profile, const lc3::Program& program, const lc3::Program* os,
           lc3::Engine engine);
  [[nodiscard]] std::uint64_t samples() const { return samples_; }
  [[nodiscard]] std::string text() const;
  /// Writes the file, and says on standard error how many samples it has. Errors (kHost) name the file.
  [[nodiscard]] Status write(const ProfileOptions& options) const;

 private:
  std::map<std::string, std::uint64_t> stacks_;
  std::uint64_t samples_ = 0;
};

}  // namespace warmfork::cli
