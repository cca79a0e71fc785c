// Gives the window's private pages back: it reads as the snapshot's memfd again, and holds no memory. The next request
// pays a fault for each page it writes.
#include "fork/page_copy.hpp"
#include "memory/guest_memory.hpp"

namespace warmfork {
namespace {

class CowRemap final : public ResetStrategy {
 public:
  explicit CowRemap(const ResetTarget& target) : target_(target) {}
  [[nodiscard]] std::string_view name() const override { return name_of(ResetMode::kCowRemap); }
  [[nodiscard]] Status reset(ResetStats& stats) override {
    WARMFORK_TRY(discard_pages(target_.space.window()));
    // The mapping is of the lowest layer; what later layers changed is copied over it.
    copy_pages(target_, target_.snapshot.delta(), stats);
    target_.space.dirty().clear();
    return {};
  }
  [[nodiscard]] std::string describe() const override {
    return fmt::format("cow_remap: private pages of {} are dropped", target_.space.window().size() / kPage);
  }

 private:
  ResetTarget target_;
};

}  // namespace

std::unique_ptr<ResetStrategy> make_cow_remap(const ResetTarget& target) { return std::make_unique<CowRemap>(target); }

}  // namespace warmfork
