#include "lc3/study/predictor.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

namespace warmfork::lc3 {
namespace {

constexpr std::string_view kAlwaysTaken = "always_taken", kNotTaken = "not_taken", kBtfn = "btfn", kBimodal = "bimodal",
                           kGshare = "gshare", kPerceptron = "perceptron";

/// What is the same for all of them, with calls that the compiler can see through.
template <class Self>
class PredictorOf : public Predictor {
 public:
  std::uint64_t replay(std::span<const Branch> branches, std::span<std::uint8_t> wrong) final {
    Self& self = static_cast<Self&>(*this);
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < branches.size(); ++i) {
      const Branch& branch = branches[i];
      const bool missed = self.predict(branch.pc, branch.target) != branch.taken;
      self.update(branch.pc, branch.taken);
      count += missed ? 1 : 0;
      if (!wrong.empty()) wrong[i] = missed ? 1 : 0;
    }
    return count;
  }
  std::unique_ptr<Predictor> clone() const final { return std::make_unique<Self>(static_cast<const Self&>(*this)); }

 private:
  PredictorOf() = default;
  friend Self;
};

template <bool Taken>
class Always final : public PredictorOf<Always<Taken>> {
 public:
  bool predict(std::uint16_t, std::uint16_t) const override { return Taken; }
  void update(std::uint16_t, bool) override {}
  std::string_view name() const override { return Taken ? kAlwaysTaken : kNotTaken; }
};

class Btfn final : public PredictorOf<Btfn> {
 public:
  // Addresses wrap, so it is the offset's sign that says backward. A branch to itself is a loop.
  bool predict(std::uint16_t pc, std::uint16_t target) const override {
    return static_cast<std::int16_t>(target - pc) <= 0;
  }
  void update(std::uint16_t, bool) override {}
  std::string_view name() const override { return kBtfn; }
};

/// Two-bit counters that saturate: 0, 1 not taken; 2, 3 taken.
class Counters {
 public:
  explicit Counters(std::uint64_t count) : counters_(count, kWeaklyTaken) {}

  [[nodiscard]] bool taken(std::size_t index) const { return counters_[index] >= kWeaklyTaken; }
  void learn(std::size_t index, bool taken) {
    std::uint8_t& counter = counters_[index];
    if (taken) {
      counter = static_cast<std::uint8_t>(std::min(counter + 1, 3));
    } else {
      counter = static_cast<std::uint8_t>(std::max(counter - 1, 0));
    }
  }
  [[nodiscard]] std::size_t size() const { return counters_.size(); }
  [[nodiscard]] std::size_t mask() const { return counters_.size() - 1; }

 private:
  static constexpr std::uint8_t kWeaklyTaken = 2;
  std::vector<std::uint8_t> counters_;
};

class Bimodal final : public PredictorOf<Bimodal> {
 public:
  explicit Bimodal(std::uint64_t counters) : counters_(counters) {}

  bool predict(std::uint16_t pc, std::uint16_t) const override { return counters_.taken(pc & counters_.mask()); }
  void update(std::uint16_t pc, bool taken) override { counters_.learn(pc & counters_.mask(), taken); }
  std::string_view name() const override { return kBimodal; }
  std::vector<Parameter> parameters() const override { return {{"counters", counters_.size()}}; }
  std::uint64_t storage_bits() const override { return 2 * counters_.size(); }

 private:
  Counters counters_;
};

class Gshare final : public PredictorOf<Gshare> {
 public:
  Gshare(std::uint64_t counters, std::uint64_t history)
      : counters_(counters),
        length_(history),
        shift_(static_cast<unsigned>(std::countr_zero(counters)) - static_cast<unsigned>(history)) {}

  bool predict(std::uint16_t pc, std::uint16_t) const override { return counters_.taken(index(pc)); }
  void update(std::uint16_t pc, bool taken) override {
    counters_.learn(index(pc), taken);
    history_ = ((history_ << 1) | (taken ? 1U : 0U)) & ((std::size_t{1} << length_) - 1);
  }
  std::string_view name() const override { return kGshare; }
  std::vector<Parameter> parameters() const override { return {{"counters", counters_.size()}, {"history", length_}}; }
  std::uint64_t storage_bits() const override { return 2 * counters_.size() + length_; }

 private:
  // The upper bits of the index, where addresses differ least.
  [[nodiscard]] std::size_t index(std::uint16_t pc) const { return (pc ^ (history_ << shift_)) & counters_.mask(); }

  Counters counters_;
  std::uint64_t length_;
  unsigned shift_;
  std::size_t history_ = 0;  // the last branch in bit 0
};

class Perceptron final : public PredictorOf<Perceptron> {
 public:
  Perceptron(std::uint64_t perceptrons, std::uint64_t history)
      : count_(perceptrons),
        length_(history),
        threshold_(static_cast<int>((193 * history + 1400) / 100)),
        weights_(perceptrons * (history + 1), 0) {}

  bool predict(std::uint16_t pc, std::uint16_t) const override { return output(pc) >= 0; }
  void update(std::uint16_t pc, bool taken) override {
    const int value = output(pc);
    if ((value >= 0) != taken || std::abs(value) <= threshold_) {
      std::int16_t* const weights = &weights_[first_weight(pc)];
      adjust(weights[0], taken);
      for (std::uint64_t i = 0; i < length_; ++i) adjust(weights[i + 1], ((history_ >> i) & 1) == (taken ? 1U : 0U));
    }
    history_ = (history_ << 1) | (taken ? 1U : 0U);
  }
  std::string_view name() const override { return kPerceptron; }
  std::vector<Parameter> parameters() const override { return {{"perceptrons", count_}, {"history", length_}}; }
  std::uint64_t storage_bits() const override { return kWeightBits * weights_.size() + length_; }

 private:
  static constexpr unsigned kWeightBits = 8;
  static constexpr int kMostWeight = 127, kLeastWeight = -128;

  [[nodiscard]] std::size_t first_weight(std::uint16_t pc) const { return (pc % count_) * (length_ + 1); }

  // The bias, and each weight with the sign of its branch: taken +, not taken -.
  [[nodiscard]] int output(std::uint16_t pc) const {
    const std::int16_t* const weights = &weights_[first_weight(pc)];
    int sum = weights[0];
    for (std::uint64_t i = 0; i < length_; ++i) {
      sum += ((history_ >> i) & 1) != 0 ? weights[i + 1] : -weights[i + 1];
    }
    return sum;
  }
  static void adjust(std::int16_t& weight, bool up) {
    weight = static_cast<std::int16_t>(std::clamp(weight + (up ? 1 : -1), kLeastWeight, kMostWeight));
  }

  std::uint64_t count_;
  std::uint64_t length_;
  int threshold_;
  std::vector<std::int16_t> weights_;
  std::uint64_t history_ = 0;  // the last branch in bit 0; bits beyond the length are not looked at
};

Status check_table(std::string_view who, std::string_view what, std::uint64_t entries, bool power_of_two) {
  if (entries >= 1 && entries <= kMostTableEntries && (!power_of_two || std::has_single_bit(entries))) return {};
  return fail(ErrorKind::kUsage, "{}: a table of {} {}: it has to be {} from 1 to {}", who, entries, what,
              power_of_two ? "a power of two" : "a number", kMostTableEntries);
}

}  // namespace

std::unique_ptr<Predictor> make_always_taken() { return std::make_unique<Always<true>>(); }
std::unique_ptr<Predictor> make_not_taken() { return std::make_unique<Always<false>>(); }
std::unique_ptr<Predictor> make_btfn() { return std::make_unique<Btfn>(); }

Result<std::unique_ptr<Predictor>> make_bimodal(std::uint64_t counters) {
  WARMFORK_TRY(check_table(kBimodal, "counters", counters, true));
  return std::make_unique<Bimodal>(counters);
}

Result<std::unique_ptr<Predictor>> make_gshare(std::uint64_t counters, std::uint64_t history) {
  WARMFORK_TRY(check_table(kGshare, "counters", counters, true));
  const auto index_bits = static_cast<std::uint64_t>(std::countr_zero(counters));
  if (history > index_bits) {
    return fail(ErrorKind::kUsage, "{}: a history of {} branches: the index of {} counters has room for {}", kGshare,
                history, counters, index_bits);
  }
  return std::make_unique<Gshare>(counters, history);
}

Result<std::unique_ptr<Predictor>> make_perceptron(std::uint64_t perceptrons, std::uint64_t history) {
  WARMFORK_TRY(check_table(kPerceptron, "perceptrons", perceptrons, false));
  if (history < 1 || history > kMostPerceptronHistory) {
    return fail(ErrorKind::kUsage, "{}: a history of {} branches: it has to be a number from 1 to {}", kPerceptron,
                history, kMostPerceptronHistory);
  }
  return std::make_unique<Perceptron>(perceptrons, history);
}

Result<std::vector<std::unique_ptr<Predictor>>> make_predictors(const PredictorSizes& sizes) {
  WARMFORK_TRY_ASSIGN(auto bimodal, make_bimodal(sizes.bimodal_counters));
  WARMFORK_TRY_ASSIGN(auto gshare, make_gshare(sizes.gshare_counters, sizes.gshare_history));
  WARMFORK_TRY_ASSIGN(auto perceptron, make_perceptron(sizes.perceptrons, sizes.perceptron_history));
  std::vector<std::unique_ptr<Predictor>> all;
  all.push_back(make_always_taken());
  all.push_back(make_not_taken());
  all.push_back(make_btfn());
  all.push_back(std::move(bimodal));
  all.push_back(std::move(gshare));
  all.push_back(std::move(perceptron));
  return all;
}

std::vector<std::string_view> predictor_names() {
  return {kAlwaysTaken, kNotTaken, kBtfn, kBimodal, kGshare, kPerceptron};
}

}  // namespace warmfork::lc3
