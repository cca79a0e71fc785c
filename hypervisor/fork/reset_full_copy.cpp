// The oracle: every page is copied, nothing is tracked, nothing can be missed.
#include "fork/page_copy.hpp"

namespace warmfork {
namespace {

class FullCopy final : public ResetStrategy {
 public:
  explicit FullCopy(const ResetTarget& target) : target_(target) {}
  [[nodiscard]] std::string_view name() const override { return name_of(ResetMode::kFullCopy); }
  [[nodiscard]] Status reset(ResetStats& stats) override {
    copy_window(target_, stats);
    target_.space.dirty().clear();
    return {};
  }
  [[nodiscard]] std::string describe() const override {
    return fmt::format("full_copy: all {} pages", target_.space.window().size() / kPage);
  }

 private:
  ResetTarget target_;
};

}  // namespace

std::unique_ptr<ResetStrategy> make_full_copy(const ResetTarget& target) { return std::make_unique<FullCopy>(target); }

}  // namespace warmfork
