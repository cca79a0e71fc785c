// Owns the compiled code of one family of machines (a master and its forks): what has been compiled, from which words,
// where it lies, and which words have turned out to change.
//
// Code grows by whole versions, never by changing one (warmfork/lc3/code.hpp). Every request adds the address that a
// machine could not go on from, and makes a version of everything reachable from all of them.
//
// Threads: any; calls exclude each other.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/frontend.hpp"
#include "lc3/jit/passes.hpp"
#include "warmfork/lc3/state.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace warmfork::lc3::jit {

/// Memory for code: written here, executed by machines at `address`. Whoever gives it keeps it for as long as the
/// cache.
struct CodeSpace {
  std::span<std::byte> host;
  std::uint64_t address = 0;
};

struct CacheOptions {
  Passes passes;
  std::uint32_t max_instructions = 16384;  // of a version
  std::uint32_t tolerated_losses = 1;      // how often code may be lost for a word before the word is left out
};

struct CacheCounters {
  std::uint64_t versions = 0;      // made
  std::uint64_t restarts = 0;      // the space was full, and begun anew
  std::uint64_t refusals = 0;      // the space was full, or there was nothing to compile
  std::uint64_t instructions = 0;  // LC-3 instructions compiled, in all versions
  std::uint64_t code_bytes = 0;    // machine code made from them
  std::uint64_t compile_ns = 0;    // translating, optimising, compiling, writing
};

class CodeCache {
 public:
  explicit CodeCache(CodeSpace space, const CacheOptions& options = {}) : space_(space), options_(options) {}

  /// What a machine that has stopped says of itself.
  struct Request {
    std::span<const std::uint16_t, kMemoryWords> words;
    std::uint16_t pc = 0;
    bool lea_sets_cc = false;
    std::span<const std::uint16_t> lost;  // words it has changed since its last request, although code was made of them
  };
  /// Makes a version for it. Returns its address, or 0: it has to be interpreted. Errors: of a compiler.
  [[nodiscard]] Result<std::uint64_t> compile(const Request& request);

  /// From now on other machines execute what is here: nothing is overwritten any more, and code is made only of words
  /// that are as in `words`, those of the master that they were forked from.
  void share(std::span<const std::uint16_t, kMemoryWords> words);

  /// Begins as if nothing had ever been compiled; counters go on. No machine may be in what was compiled before.
  void clear();

  /// What the next request would compile of these words, if it came from a place that is known already: for reports.
  [[nodiscard]] Unit unit(std::span<const std::uint16_t, kMemoryWords> words, bool lea_sets_cc) const;

  [[nodiscard]] CacheCounters counters() const;

 private:
  [[nodiscard]] Unit translate_all(std::span<const std::uint16_t, kMemoryWords> words, bool lea_sets_cc) const;
  [[nodiscard]] std::span<std::byte> allocate(std::size_t bytes);

  const CodeSpace space_;
  const CacheOptions options_;
  mutable std::mutex mutex_;
  std::vector<std::uint16_t> roots_;
  WordSet is_root_, left_out_;
  std::vector<std::uint8_t> losses_ = std::vector<std::uint8_t>(kMemoryWords);
  std::optional<std::vector<std::uint16_t>> shared_words_;
  std::size_t used_ = 0;
  std::size_t touched_ = 0;  // what lies beyond has never been written, and is zero
  std::uint64_t last_id_ = 0;
  CacheCounters counters_;
};

}  // namespace warmfork::lc3::jit
