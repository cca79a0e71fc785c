// Branch predictors: what processors have done to guess the direction of a branch before it is known.
//
//   always_taken, not_taken   static
//   btfn                      static: backward taken (loops), forward not
//   bimodal                   a table of two-bit counters, found by address
//                             J. E. Smith, A Study of Branch Prediction Strategies, ISCA 1981 (strategy 7)
//   gshare                    the same counters, found by address XOR the directions of the last branches
//                             S. McFarling, Combining Branch Predictors, DEC WRL Technical Note TN-36, 1993
//   perceptron                a table of linear threshold units over the directions of the last branches
//                             D. A. Jiménez and C. Lin, Dynamic Branch Prediction with Perceptrons, HPCA 2001
//
// What the papers leave open is decided in payloads/lc3/README.md. All are deterministic: the same branches give the
// same guesses on every machine. Tables have no tags, so branches whose addresses fall together share an entry. History
// is global and is written at update(). A predictor is one object without locks: one thread at a time.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

/// One executed branch.
struct Branch {
  std::uint16_t pc = 0;  // of the branch itself
  std::uint16_t target = 0;
  bool taken = false;
  std::uint16_t word = 0;  // the instruction, for reports
};

class Predictor {
 public:
  struct Parameter {
    std::string_view name;
    std::uint64_t value;
  };

  virtual ~Predictor() = default;

  /// True: taken. The target is a part of the instruction, so it is known before the direction is.
  [[nodiscard]] virtual bool predict(std::uint16_t pc, std::uint16_t target) const = 0;
  /// What the branch at `pc` has done. Once for each branch, in program order.
  virtual void update(std::uint16_t pc, bool taken) = 0;

  /// predict() and update() for each branch, without a virtual call between them. Returns the number of wrong guesses;
  /// `wrong`, unless empty, has room for one mark (0 or 1) for each branch.
  virtual std::uint64_t replay(std::span<const Branch> branches, std::span<std::uint8_t> wrong) = 0;

  /// A copy with all that has been learnt.
  [[nodiscard]] virtual std::unique_ptr<Predictor> clone() const = 0;

  /// A stable word.
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::vector<Parameter> parameters() const { return {}; }
  /// Bits of state that hardware would need.
  [[nodiscard]] virtual std::uint64_t storage_bits() const { return 0; }

 protected:
  Predictor() = default;
  Predictor(const Predictor&) = default;
  Predictor& operator=(const Predictor&) = default;
};

/// Tables hold 1 to this many entries: more than there are addresses would be of no use.
inline constexpr std::uint64_t kMostTableEntries = 65'536;
/// The longest history that the perceptrons' paper looks at.
inline constexpr std::uint64_t kMostPerceptronHistory = 62;

[[nodiscard]] std::unique_ptr<Predictor> make_always_taken();
[[nodiscard]] std::unique_ptr<Predictor> make_not_taken();
[[nodiscard]] std::unique_ptr<Predictor> make_btfn();

// Errors (kUsage) name the predictor, the value and its limits.

/// `counters`: a power of two. They begin weakly taken.
[[nodiscard]] Result<std::unique_ptr<Predictor>> make_bimodal(std::uint64_t counters);
/// `counters`: a power of two; `history`: 0 … log2(counters). A history shorter than the index meets its upper bits.
[[nodiscard]] Result<std::unique_ptr<Predictor>> make_gshare(std::uint64_t counters, std::uint64_t history);
/// `history`: 1 … kMostPerceptronHistory. The threshold is floor(1.93 history + 14). Weights are 8 bits wide and
/// saturate.
[[nodiscard]] Result<std::unique_ptr<Predictor>> make_perceptron(std::uint64_t perceptrons, std::uint64_t history);

/// By default about two thousand bits for each of the three that learn.
struct PredictorSizes {
  std::uint64_t bimodal_counters = 1024;
  std::uint64_t gshare_counters = 1024;
  std::uint64_t gshare_history = 10;
  std::uint64_t perceptrons = 20;
  std::uint64_t perceptron_history = 12;
};

/// One of each, in the order above.
[[nodiscard]] Result<std::vector<std::unique_ptr<Predictor>>> make_predictors(const PredictorSizes& sizes);
/// Their names, in the same order.
[[nodiscard]] std::vector<std::string_view> predictor_names();

}  // namespace warmfork::lc3
