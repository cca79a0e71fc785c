#include "lc3/lockstep/minimise.hpp"

#include "lc3/core/machine.hpp"

#include <algorithm>
#include <map>
#include <memory>

namespace warmfork::lc3 {
namespace {

class Minimiser {
 public:
  Minimiser(const LockstepCase& one, const FailsAt& fails, std::uint64_t tries)
      : best_(one), fails_(fails), tries_(tries) {}

  LockstepCase run() {
    settle_words();
    for (bool better = true; better && tries_ != 0;) {
      better = false;
      better |= attempt([](LockstepCase& c) { c.longest_slice = 0; });
      better |= shorten();
      better |= drop_parts(best_.input, &LockstepCase::input);
      better |= drop_parts(best_.words, &LockstepCase::words);
      for (std::size_t r = 0; r < 8; ++r) {
        better |= attempt([r](LockstepCase& c) { c.registers[r] = 0; });
      }
      better |= attempt([](LockstepCase& c) { c.kbsr = 0; });
      better |= attempt([](LockstepCase& c) { c.psr = kPsrUser | kPsrZ; });
      for (std::uint32_t bit = 1; bit <= kStopForOutput; bit <<= 1) {
        better |= attempt([bit](LockstepCase& c) { c.config &= ~bit; });
      }
    }
    return best_;
  }

 private:
  template <class Change>
  bool attempt(Change change) {
    if (tries_ == 0) return false;
    LockstepCase candidate = best_;
    change(candidate);
    if (candidate == best_) return false;
    --tries_;
    const auto at = fails_(candidate);
    if (!at) return false;
    best_ = std::move(candidate);
    failed_at_ = *at;
    return true;
  }

  // Random memory becomes words, if it matters at all; of two words at one address only the later stays.
  void settle_words() {
    attempt([](LockstepCase& c) { c.fill = 0; });
    attempt([](LockstepCase& c) {
      std::map<std::uint16_t, std::uint16_t> memory;
      if (c.fill != 0) {
        const auto state = std::make_unique<State>();
        prepare(*state, c);
        for (std::uint32_t address = 0; address < kDeviceBase; ++address) {
          memory[static_cast<std::uint16_t>(address)] = state->memory[address];
        }
      }
      for (const LockstepCase::Word& word : c.words) memory[word.address] = word.word;
      c.words.clear();
      for (const auto& [address, word] : memory) {
        if (word != 0) c.words.push_back({address, word});
      }
      c.fill = 0;
    });
  }

  bool shorten() {
    bool better = false;
    if (const auto at = fails_(best_); at && *at < best_.budget) {
      better = attempt([&](LockstepCase& c) { c.budget = *at; });
    }
    for (std::uint64_t part = best_.budget / 2; part != 0; part /= 2) {
      while (best_.budget > part && attempt([&](LockstepCase& c) { c.budget -= part; })) better = true;
    }
    return better;
  }

  // ddmin: parts of half the list, of a quarter, … of one.
  template <class T>
  bool drop_parts(const std::vector<T>& list, std::vector<T> LockstepCase::* member) {
    bool better = false;
    for (std::size_t part = list.size(); part != 0; part /= 2) {
      for (std::size_t first = 0; first < (best_.*member).size() && tries_ != 0;) {
        const bool dropped = attempt([&](LockstepCase& c) {
          auto& items = c.*member;
          const std::size_t end = std::min(first + part, items.size());
          items.erase(items.begin() + static_cast<std::ptrdiff_t>(first),
                      items.begin() + static_cast<std::ptrdiff_t>(end));
        });
        better |= dropped;
        if (!dropped) first += part;
      }
    }
    return better;
  }

  LockstepCase best_;
  const FailsAt& fails_;
  std::uint64_t tries_;
  std::uint64_t failed_at_ = 0;
};

}  // namespace

LockstepCase minimise(const LockstepCase& one, const FailsAt& fails, std::uint64_t most_tries) {
  return Minimiser(one, fails, most_tries).run();
}

}  // namespace warmfork::lc3
