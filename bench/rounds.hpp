// Rounds of the same measurements, and what they say together.
#pragma once

#include "base/histogram.hpp"
#include "bench/figure.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::bench {

/// Figures of rounds as one each: distributions are joined, counters averaged, and every round's quantiles kept.
/// Figures read from files have no distribution to join: theirs are the medians over the rounds.
class RoundSet {
 public:
  /// The figures of one more round. What they were made from is joined and dropped: it is large.
  void add(std::vector<Figure> round);
  /// In the order they came. Figures that a round lacks have fewer rounds than others.
  [[nodiscard]] std::vector<Figure> merged() const;
  [[nodiscard]] unsigned rounds() const { return rounds_; }

 private:
  struct One {
    std::vector<Figure> figures;            // without ticks
    std::shared_ptr<Histogram> ticks = {};  // of all of them; nothing if one lacks them
  };
  [[nodiscard]] static Figure merge(const One& one);
  std::vector<std::string> order_;  // identities
  std::map<std::string, One> of_;
  unsigned rounds_ = 0;
};

}  // namespace warmfork::bench
