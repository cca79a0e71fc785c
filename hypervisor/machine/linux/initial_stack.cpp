#include "machine/linux/process.hpp"

#include <elf.h>

#include <cstring>

namespace warmfork::linux_abi {
namespace {

// Builds the top of the stack downwards in host memory, then writes it out in one go.
class StackBuilder {
 public:
  explicit StackBuilder(AddressRange stack) : stack_(stack), top_(stack.end().value) {}

  std::uint64_t push_bytes(std::span<const std::byte> bytes) {
    top_ -= bytes.size();
    parts_.push_back({top_, {bytes.begin(), bytes.end()}});
    return top_;
  }
  std::uint64_t push_string(const std::string& text) {
    return push_bytes(std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  }
  void align(std::uint64_t alignment) { top_ &= ~(alignment - 1); }
  [[nodiscard]] std::uint64_t top() const { return top_; }
  [[nodiscard]] bool fits() const { return top_ <= stack_.end().value && stack_.end().value - top_ <= stack_.size / 2; }
  [[nodiscard]] Status write(AddressSpace& space) const {
    for (const Part& part : parts_) WARMFORK_TRY(space.write(Gva{part.address}, part.bytes));
    return {};
  }

 private:
  struct Part {
    std::uint64_t address;
    std::vector<std::byte> bytes;
  };
  AddressRange stack_;
  std::uint64_t top_;
  std::vector<Part> parts_;
};

}  // namespace

Result<Gva> Process::build_initial_stack(const LoadPlan& plan, std::uint32_t hwcap) {
  std::size_t strings = 0;
  for (const auto& text : config_.arguments) strings += text.size() + 1 + sizeof(std::uint64_t);
  for (const auto& text : config_.environment) strings += text.size() + 1 + sizeof(std::uint64_t);
  if (strings > space_.stack().size / 4) {
    return fail(ErrorKind::kUsage, "arguments and environment need {} bytes, a quarter of the stack is {}", strings,
                space_.stack().size / 4);
  }

  StackBuilder stack(space_.stack());
  std::array<std::byte, 16> random{};
  fill_random(random);
  const std::uint64_t random_address = stack.push_bytes(random);
  random_bytes_ = Gva{random_address};
  const std::uint64_t platform = stack.push_string("x86_64");
  std::vector<std::uint64_t> words{config_.arguments.size()};
  for (const auto& text : config_.arguments) words.push_back(stack.push_string(text));
  const std::uint64_t program = words.size() > 1 ? words[1] : platform;
  words.push_back(0);
  for (const auto& text : config_.environment) words.push_back(stack.push_string(text));
  words.push_back(0);
  const auto auxiliary = [&](std::uint64_t type, std::uint64_t value) {
    words.push_back(type);
    words.push_back(value);
  };
  auxiliary(AT_PHDR, plan.program_headers.value);
  auxiliary(AT_PHENT, sizeof(Elf64_Phdr));
  auxiliary(AT_PHNUM, plan.program_header_count);
  auxiliary(AT_PAGESZ, kPage);
  auxiliary(AT_BASE, 0);
  auxiliary(AT_FLAGS, 0);
  auxiliary(AT_ENTRY, plan.entry.value);
  auxiliary(AT_UID, 0);
  auxiliary(AT_EUID, 0);
  auxiliary(AT_GID, 0);
  auxiliary(AT_EGID, 0);
  auxiliary(AT_SECURE, 0);
  auxiliary(AT_HWCAP, hwcap);
  auxiliary(AT_HWCAP2, 0);
  auxiliary(AT_CLKTCK, 100);
  auxiliary(AT_RANDOM, random_address);
  auxiliary(AT_PLATFORM, platform);
  auxiliary(AT_EXECFN, program);
  auxiliary(AT_NULL, 0);

  stack.align(16);
  if (words.size() % 2 != 0) words.push_back(0);  // rsp must be a multiple of 16 at entry
  stack.push_bytes(std::as_bytes(std::span(words)));
  if (!stack.fits())
    return fail(ErrorKind::kUsage, "the initial stack does not fit into {} bytes", space_.stack().size);
  WARMFORK_TRY(stack.write(space_));
  return Gva{stack.top()};
}

}  // namespace warmfork::linux_abi
