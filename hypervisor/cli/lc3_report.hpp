// What an LC-3 did, for people and for machines: places, registers, why it stopped, statistics. Pure text; any thread.
#pragma once

#include "lc3/host/lc3_failure.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::cli {

/// The names and source lines of a program and, where it is loaded, of the OS below it.
class Lc3Places {
 public:
  /// Both must outlive the object; `os` may be nullptr.
  Lc3Places(const lc3::Program& program, const lc3::Program* os) : program_(program), os_(os) {}

  /// "LOOP+2", or empty if no label of the same segment lies at or before the address.
  [[nodiscard]] std::string label(std::uint16_t address) const;
  /// The source of a word, nullptr if unknown.
  [[nodiscard]] const lc3::SourceLine* source(std::uint16_t address) const;
  /// "x3002 (LOOP+2, hello.asm:7)".
  [[nodiscard]] std::string describe(std::uint16_t address) const;
  /// "BRnz LOOP": the instruction in assembler syntax, its target as a label if it has one.
  [[nodiscard]] std::string instruction(std::uint16_t word, std::uint16_t address) const;

 private:
  [[nodiscard]] const lc3::Program* owner(std::uint16_t address, const lc3::Segment** segment) const;

  const lc3::Program& program_;
  const lc3::Program* os_;
};

/// "user, priority 0, Z".
[[nodiscard]] std::string describe_psr(std::uint16_t psr);
/// The registers on a few lines, each with a newline.
[[nodiscard]] std::string registers_text(const lc3::Registers& registers);

using lc3::find_failure;
using lc3::Lc3Failure;

/// Sums of an Instrumentation.
struct Lc3Statistics {
  std::uint64_t instructions = 0;
  std::array<std::uint64_t, 16> opcodes{};
  std::array<std::uint64_t, 8> register_reads{};
  std::array<std::uint64_t, 8> register_writes{};
  std::uint64_t branches_taken = 0;
  std::uint64_t branches_not_taken = 0;
  std::uint64_t memory_reads = 0;
  std::uint64_t memory_writes = 0;
  struct Hot {
    std::uint16_t address;
    std::uint16_t word;  // what is there now
    std::uint64_t count;
  };
  std::vector<Hot> hottest;  // the most executed addresses, most first
};

[[nodiscard]] Result<Lc3Statistics> collect_statistics(lc3::Lc3Vm& vm);
[[nodiscard]] std::string statistics_text(const Lc3Statistics& statistics, const Lc3Places& places);
[[nodiscard]] nlohmann::ordered_json statistics_json(const Lc3Statistics& statistics, const Lc3Places& places);
[[nodiscard]] nlohmann::ordered_json registers_json(const lc3::Registers& registers);

/// The "code" of a run: what was compiled, and how it went.
[[nodiscard]] nlohmann::ordered_json code_json(const lc3::jit::CacheCounters& code, lc3::Engine engine);

/// Any bytes as a JSON string: as they are if they are UTF-8, else each byte as the character of that number.
struct JsonText {
  std::string text;
  const char* encoding;  // "utf-8" or "latin-1"
};
[[nodiscard]] JsonText json_text(std::string_view bytes);

/// "439.2 M/s".
[[nodiscard]] std::string rate_text(double per_second);
/// "12.3 us", "4.56 ms".
[[nodiscard]] std::string time_text(double ns);

}  // namespace warmfork::cli
