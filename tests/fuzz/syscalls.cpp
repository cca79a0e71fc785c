// System calls of a hostile program: any numbers, any arguments, any order. The host answers each with a result Linux
// could give, and the address space stays what it was made to be.
//
// Input: records of 1 byte number choice, then six arguments of 1 selector byte and 2 payload bytes each.
#include "machine/guest_storage.hpp"
#include "machine/linux/process.hpp"
#include "require.hpp"

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace {

using namespace warmfork;

constexpr LayoutSizes kSizes{.heap = 96 * kPage, .stack = 4 * kPage, .call_area = kPage};

// A program of one code page and one data page.
LoadPlan make_plan() {
  static const std::byte code[kPage]{};
  LoadPlan plan;
  plan.segments = {{Gva{0x400000}, kPage, code, false, true}, {Gva{0x402000}, kPage, {}, true, false}};
  plan.entry = Gva{0x400000};
  plan.end = Gva{0x403000};
  return plan;
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint64_t word() { return std::uint64_t{byte()} | std::uint64_t{byte()} << 8; }

 private:
  std::span<const std::uint8_t> bytes_;
};

// Plain numbers, addresses of every kind of memory, and values at the edges of 64 bits.
std::uint64_t argument(Input& input, const AddressSpace& space) {
  const std::uint8_t kind = input.byte();
  const std::uint64_t payload = input.word();
  switch (kind % 9) {
    case 0: return payload;
    case 1: return payload * kPage;
    case 2: return space.heap().begin.value + payload * 16;
    case 3: return space.heap().begin.value + (payload & 0xff) * kPage;
    case 4: return space.stack().begin.value + payload;
    case 5: return 0x10000 + payload;   // system pages
    case 6: return 0x400000 + payload;  // code, a hole, data
    case 7: return ~std::uint64_t{0} - payload;
    default: return payload << (kind & 63);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const LoadPlan plan = make_plan();
  const auto layout = GuestLayout::plan(plan, kSizes, 40);
  WARMFORK_REQUIRE(layout.has_value());
  const auto storage = GuestStorage::allocate(**layout);
  WARMFORK_REQUIRE(storage.has_value());
  auto space = AddressSpace::build(*layout, storage->regions);
  WARMFORK_REQUIRE(space.has_value() && (*space)->load(plan).has_value());
  BufferIo io("some input", 1 << 20);
  linux_abi::Process process(**space, io, {.arguments = {"fuzz"}, .environment = {}, .seed = 1, .trace = {}});
  const auto table = linux_abi::syscall_table();
  for (int calls = 0; !input.empty() && calls < 200; ++calls) {
    linux_abi::SyscallRequest request;
    const std::uint8_t choice = input.byte();
    request.number = choice < 200 ? table[choice % table.size()].number : std::uint64_t{choice} * 3;
    for (std::uint64_t& value : request.arguments) value = argument(input, **space);
    const linux_abi::SyscallOutcome outcome = process.serve(request);
    // An error is a small negative number; anything else is a count, an address below the end of user space, or time.
    WARMFORK_REQUIRE(outcome.result >= -4095);
    if (outcome.exit_code) WARMFORK_REQUIRE(*outcome.exit_code >= 0 && *outcome.exit_code <= 255);
    WARMFORK_REQUIRE(process.fs_base() < x86::kMaxVirtual && process.gs_base() < x86::kMaxVirtual);
  }
  // Code was never made writable or changed, and the tables never became reachable.
  const auto code = (*space)->translate(Gva{0x400000});
  WARMFORK_REQUIRE(code && code->access.execute && !code->access.write);
  std::byte page[kPage];
  WARMFORK_REQUIRE((*space)->read(Gva{0x400000}, page).has_value());
  for (const std::byte byte : page) WARMFORK_REQUIRE(byte == std::byte{0});
  return 0;
}
