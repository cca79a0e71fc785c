// Owns the compiled code of one family of machines (a master and its forks): what has been compiled, from which words,
// where it lies, and which words have turned out to change.
//
// Code grows by whole versions, never by changing one (warmfork/lc3/code.hpp). Every request adds the address that a
// machine could not go on from, and makes a version of everything reachable from all of them.
//
// Threads: any; calls exclude each other.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/code_names.hpp"
#include "lc3/jit/disk_cache.hpp"
#include "lc3/jit/frontend.hpp"
#include "lc3/jit/machine_code.hpp"
#include "lc3/jit/passes.hpp"
#include "metrics/metrics.hpp"
#include "warmfork/lc3/code.hpp"
#include "warmfork/lc3/state.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {

/// Memory for code: written here, executed by machines at `address`. Whoever gives it keeps it for as long as the
/// cache.
struct CodeSpace {
  std::span<std::byte> host;
  std::uint64_t address = 0;
};

/// What a version was made of, for whoever makes a better one of the same.
struct Made {
  std::uint64_t id = 0;
  std::uint64_t address = 0;
  std::uint64_t epoch = 0;  // of the cache: another one, and the version is no more
  bool optimised = false;   // already: an earlier run's code was found on the disk
  std::shared_ptr<const Unit> unit;
  std::shared_ptr<const std::array<std::uint16_t, kMemoryWords>> words;
};

/// Compiles a verified unit; the result's first byte will probably lie at `address`.
using Compiler = std::function<Result<MachineCode>(const Unit& unit, std::uint64_t address)>;

struct CacheOptions {
  Passes passes;
  Compiler compiler;                       // none: the fast one
  std::uint32_t max_instructions = 16384;  // of a version
  std::uint32_t tolerated_losses = 1;      // how often code may be lost for a word before the word is left out
  std::shared_ptr<DiskCache> disk;         // optimised code of earlier runs; none: nothing is looked up or kept
  std::shared_ptr<CodeNames> names;        // told of all code that is made; none: nobody is
};

struct CacheCounters {
  std::uint64_t versions = 0;      // made
  std::uint64_t restarts = 0;      // the space was full, and begun anew
  std::uint64_t refusals = 0;      // the space was full, or there was nothing to compile
  std::uint64_t instructions = 0;  // LC-3 instructions compiled, in all versions
  std::uint64_t code_bytes = 0;    // machine code made from them
  std::uint64_t compile_ns = 0;    // translating, compiling, writing
  std::uint64_t optimised = 0;     // versions of optimised code: replaced by better ones, or found on the disk
  std::uint64_t optimise_ns = 0;   // on another thread
  std::uint64_t failures = 0;      // of either compiler
  std::uint64_t disk_hits = 0;     // these as in DiskCounters
  std::uint64_t disk_misses = 0;
  std::uint64_t disk_refused = 0;
  std::uint64_t disk_written = 0;
  std::uint64_t disk_failures = 0;
  std::uint64_t disk_trimmed = 0;
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
  /// Makes a version for it; of a shared cache it may be one that another machine has asked for. Returns its address,
  /// or 0: it has to be interpreted. Errors: of a compiler.
  [[nodiscard]] Result<std::uint64_t> compile(const Request& request);

  /// The same, of a version that counts (counts.hpp), with the fast compiler; it is never replaced by a better one. The
  /// result's address is 0 if it has to be interpreted.
  [[nodiscard]] Result<Made> compile_counting(const Request& request);

  /// Called with every version made that does not count, before compile() returns. Set it before the first.
  void on_version(std::function<void(const Made&)> observer) { observer_ = std::move(observer); }

  /// Replaces a version by one of other code for the same unit: machines that use it go on there at the end of their
  /// slice. False: it is no longer in use, or there is no room.
  [[nodiscard]] Result<bool> replace(const Made& made, const MachineCode& code, std::uint64_t took_ns);
  /// Keeps optimised code for later runs, if the options say where.
  void keep(const Made& made, const MachineCode& code) const {
    if (options_.disk != nullptr) options_.disk->keep(*made.unit, *made.words, code);
  }
  void count_failure() {
    const std::lock_guard lock(mutex_);
    ++counters_.failures;
  }

  /// From now on other machines execute what is here: nothing is overwritten any more, and code is made only of words
  /// that are as in `words`, those of the master that they were forked from.
  void share(std::span<const std::uint16_t, kMemoryWords> words);
  [[nodiscard]] bool shared() const;

  /// Begins as if nothing had ever been compiled; counters go on. No machine may be in what was compiled before.
  void clear();

  /// What the next request would compile of these words, if it came from a place that is known already: for reports.
  [[nodiscard]] Unit unit(std::span<const std::uint16_t, kMemoryWords> words, bool lea_sets_cc) const;

  [[nodiscard]] CacheCounters counters() const;
  /// See CodeNames.
  [[nodiscard]] std::string names_complaint() const {
    return options_.names == nullptr ? "" : options_.names->complaint();
  }
  /// See DiskCache.
  [[nodiscard]] std::string disk_complaint() const {
    return options_.disk == nullptr ? "" : options_.disk->complaint();
  }

 private:
  void collect(metrics::Collector& collector) const;
  void name(std::uint64_t address, const MachineCode& code) const {
    if (options_.names != nullptr) options_.names->add(address + kCodeText, code);
  }
  void begin_anew();
  [[nodiscard]] Result<Made> make(const Request& request, bool counting);
  struct Shared {
    Unit unit;
    std::uint64_t address = 0;
  };
  [[nodiscard]] Unit translate_all(std::span<const std::uint16_t, kMemoryWords> words, bool lea_sets_cc,
                                   const Passes& passes) const;
  [[nodiscard]] std::span<std::byte> allocate(std::size_t bytes, bool may_restart);
  [[nodiscard]] std::uint64_t address_of(std::span<const std::byte> place) const {
    return space_.address + static_cast<std::uint64_t>(place.data() - space_.host.data());
  }

  const CodeSpace space_;
  const CacheOptions options_;
  mutable std::mutex mutex_;
  std::vector<std::uint16_t> roots_;
  WordSet is_root_, left_out_;
  std::vector<std::uint8_t> losses_ = std::vector<std::uint8_t>(kMemoryWords);
  std::optional<std::vector<std::uint16_t>> shared_words_;
  std::vector<Shared> made_shared_;  // the last few versions for forks: most forks ask for what another has got
  std::size_t used_ = 0;
  std::size_t touched_ = 0;  // what lies beyond has never been written, and is zero
  std::uint64_t last_id_ = 0;
  std::uint64_t epoch_ = 0;
  std::function<void(const Made&)> observer_;
  CacheCounters counters_;
  /// What lies in the space of one compiler's making, and how much it has compiled.
  struct Tier {
    std::uint64_t compiles = 0, blocks = 0, code_bytes = 0;
    void add(const Unit& unit, const MachineCode& code) {
      blocks += unit.blocks.size();
      code_bytes += code.bytes.size();
    }
  };
  Tier fast_, better_;
  metrics::Source numbers_{[this](metrics::Collector& collector) { collect(collector); }};
};

/// How long to interpret before asking again: each request costs more than the one before had to gain.
[[nodiscard]] constexpr std::uint32_t longer_patience(std::uint32_t patience) {
  constexpr std::uint32_t kLongest = 1 << 22;
  return patience < kLongest / 2 ? 2 * patience : kLongest;
}

/// The addresses in State::code_use::lost that came since it had lost `before`.
[[nodiscard]] std::vector<std::uint16_t> lost_since(const CodeUse& use, std::uint32_t before);

}  // namespace warmfork::lc3::jit
