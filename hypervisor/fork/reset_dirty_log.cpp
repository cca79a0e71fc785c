// The learned set from KVM's dirty bitmap: one ioctl per reset, whose cost grows with the window, not with what was
// written. For KVMs without a dirty ring.
#include "fork/page_copy.hpp"

#include <bit>
#include <vector>

namespace warmfork {
namespace {

class DirtyLog final : public ResetStrategy {
 public:
  explicit DirtyLog(const ResetTarget& target)
      : target_(target), bitmap_((target.space.window().size() / kPage + 63) / 64) {}
  [[nodiscard]] std::string_view name() const override { return name_of(ResetMode::kDirtyLog); }

  [[nodiscard]] Status reset(ResetStats& stats) override {
    PageSet& pages = target_.space.dirty();  // what the host has written, and what the log has reported before
    WARMFORK_TRY(target_.vm.dirty_log(target_.space.window_slot(), bitmap_));
    for (std::size_t word = 0; word < bitmap_.size(); ++word) {
      for (std::uint64_t bits = bitmap_[word]; bits != 0; bits &= bits - 1) {
        pages.add(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
      }
    }
    if (!learned_.copy_back(target_, pages, stats)) return {};
    WARMFORK_TRY(target_.vm.clear_dirty_log(target_.space.window_slot(), pages.pages(), bitmap_));
    pages.clear();
    return {};
  }

  [[nodiscard]] std::string describe() const override {
    const PageSet& pages = target_.space.dirty();
    return fmt::format("dirty_log: {} of {} pages learned", pages.count(), pages.pages());
  }

 private:
  ResetTarget target_;
  std::vector<std::uint64_t> bitmap_;
  LearnedSet learned_;
};

}  // namespace

std::unique_ptr<ResetStrategy> make_dirty_log(const ResetTarget& target) { return std::make_unique<DirtyLog>(target); }

}  // namespace warmfork
