// The learned set from KVM's dirty ring: which pages were made writable is read from shared memory, so a reset makes no
// system call.
#include "fork/page_copy.hpp"

namespace warmfork {
namespace {

class DirtyRing final : public ResetStrategy {
 public:
  DirtyRing(const ResetTarget& target, bool automatic) : target_(target), automatic_(automatic) {}
  [[nodiscard]] std::string_view name() const override { return name_of(ResetMode::kDirtyRing); }

  [[nodiscard]] Status reset(ResetStats& stats) override {
    PageSet& pages = target_.space.dirty();
    // One copy of everything beats many of almost everything.
    if (automatic_ && pages.count() * 4 > pages.pages() * 3 && pages.pages() <= kSmallWindow) {
      copy_window(target_, stats);
      return {};
    }
    if (!learned_.copy_back(target_, pages, stats)) return {};
    // Switching the slot's log off and on write-protects every page of it.
    WARMFORK_TRY(target_.space.attach_window(target_.vm, 0));
    WARMFORK_TRY(target_.space.attach_window(target_.vm, KVM_MEM_LOG_DIRTY_PAGES));
    pages.clear();
    return {};
  }

  [[nodiscard]] std::string describe() const override {
    const PageSet& pages = target_.space.dirty();
    return fmt::format("dirty_ring: {} of {} pages learned", pages.count(), pages.pages());
  }

 private:
  static constexpr std::size_t kSmallWindow = 256;  // pages

  ResetTarget target_;
  bool automatic_;
  LearnedSet learned_;
};

}  // namespace

std::unique_ptr<ResetStrategy> make_dirty_ring(const ResetTarget& target, bool automatic) {
  return std::make_unique<DirtyRing>(target, automatic);
}

}  // namespace warmfork
