// The LC-3 machine in a guest is the machine that the unit tests know: same calls, same state, byte for byte.
#include "lc3/core/engine.hpp"
#include "lc3/guest/api.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "machine_test.hpp"

#include <cstddef>
#include <random>

namespace warmfork::test {
namespace {

using namespace warmfork::lc3;
// The hypervisor has a Machine of its own; here it is the guest's.
using GuestMachine = ::warmfork::Machine;

class Lc3Guest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    guest_ = make_ready("lc3_guest");
    ASSERT_NE(guest_, nullptr);
    native_address_ = lc3_state();
    guest_address_ = call("lc3_state");
  }

  std::uint64_t call(const char* name, const std::vector<std::uint64_t>& arguments = {}) {
    const auto function = guest_->find_vmcall(name);
    EXPECT_TRUE(function) << name;
    if (!function) return ~std::uint64_t{0};
    const auto result = guest_->call(*function, arguments, {.timeout_ns = kTimeout});
    EXPECT_TRUE(result) << name << ": " << result.error().message;
    return result ? *result : ~std::uint64_t{0};
  }

  template <class T>
  std::uint64_t buffer(const std::vector<T>& values) {
    const auto address = guest_->put_buffer(0, std::as_bytes(std::span(values)));
    EXPECT_TRUE(address) << address.error().message;
    return address ? address->value : 0;
  }

  /// Both machines' states are the same, all of it.
  void expect_same() {
    auto copy = std::make_unique<State>();
    ASSERT_TRUE(guest_->memory().read(Gva{guest_address_}, std::as_writable_bytes(std::span(copy.get(), 1))));
    const auto* const native = reinterpret_cast<const std::byte*>(native_address_);
    const auto* const guest = reinterpret_cast<const std::byte*>(copy.get());
    for (std::size_t i = 0; i < sizeof(State); ++i) ASSERT_EQ(guest[i], native[i]) << "at offset " << i << " of State";
  }

  std::unique_ptr<GuestMachine> guest_;
  std::uint64_t native_address_ = 0, guest_address_ = 0;
};

TEST_F(Lc3Guest, RandomProgramsRunAsTheyDoNatively) {
  const std::uint64_t programs = scaled(60);
  for (std::uint64_t seed = 1; seed <= programs; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(static_cast<unsigned>(seed));
    const std::uint64_t config =
        kDefaultConfig | (seed % 3 == 0 ? kSecondEdition : 0u) | (seed % 5 == 0 ? kStrictPrivilege : 0u);
    call("lc3_configure", {config, seed % 2, seed});
    lc3_configure(config, seed % 2, seed);

    std::vector<std::uint16_t> words(256);
    for (std::uint16_t& word : words) {
      const InstructionInfo& entry = kInstructions[random() % kOperationCount];
      word = static_cast<std::uint16_t>(entry.match | (random() & ~entry.mask & 0xffffu));
    }
    std::vector<std::uint16_t> vectors(0x200);
    for (std::uint16_t& vector : vectors) vector = static_cast<std::uint16_t>(0x3000 + random() % 256);
    const std::vector<char> input = {'i', 'n', 'p', 'u', 't'};
    ASSERT_EQ(call("lc3_load", {buffer(vectors), 0, vectors.size()}), 1u);
    lc3_load(reinterpret_cast<std::uintptr_t>(vectors.data()), 0, vectors.size());
    call("lc3_capture_vectors");
    lc3_capture_vectors();
    ASSERT_EQ(call("lc3_load", {buffer(words), 0x3000, words.size()}), 1u);
    lc3_load(reinterpret_cast<std::uintptr_t>(words.data()), 0x3000, words.size());
    ASSERT_EQ(call("lc3_feed", {buffer(input), input.size()}), input.size());
    lc3_feed(reinterpret_cast<std::uintptr_t>(input.data()), input.size());

    for (int slice = 0; slice < 4; ++slice) {
      const std::uint64_t budget = random() % 2000;
      ASSERT_EQ(call("lc3_run", {budget}), lc3_run(budget, 0, 0));
      ASSERT_NO_FATAL_FAILURE(expect_same());
    }
  }
}

TEST_F(Lc3Guest, InstrumentationIsAllocatedInTheGuest) {
  call("lc3_configure", {kDefaultConfig, 0, 0});
  const std::vector<std::uint16_t> words = {0x1021, 0x1021, 0x0ffd};
  ASSERT_EQ(call("lc3_load", {buffer(words), 0x3000, words.size()}), 1u);
  const std::uint64_t where = call("lc3_instrument", {static_cast<std::uint64_t>(InstrumentMode::kCollect)});
  ASSERT_NE(where, 0u);
  EXPECT_EQ(call("lc3_watch", {0x3002, 1, kBreakExecute}), 1u);
  EXPECT_EQ(static_cast<lc3::StopReason>(call("lc3_run", {100})), lc3::StopReason::kBreakpoint);
  const auto adds = guest_->memory().read_value<std::uint64_t>(Gva{where + offsetof(Instrumentation, opcodes) + 8});
  ASSERT_TRUE(adds);
  EXPECT_EQ(*adds, 2u);
  EXPECT_EQ(call("lc3_instrument", {0}), 0u);
}

TEST_F(Lc3Guest, TraceReachesTheHostThroughTheCallArea) {
  call("lc3_configure", {kDefaultConfig, 0, 0});
  const std::vector<std::uint16_t> words = {0x1021, 0x1261, 0xf025};
  ASSERT_EQ(call("lc3_load", {buffer(words), 0x3000, words.size()}), 1u);
  call("lc3_capture_vectors");
  const std::vector<TraceRecord> empty(8);
  const std::uint64_t where = buffer(empty);
  EXPECT_EQ(call("lc3_trace", {8, where}), 3u);
  const auto second = guest_->memory().read_value<TraceRecord>(Gva{where + sizeof(TraceRecord)});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->registers[1], 1);
  EXPECT_EQ(second->pc, 0x3002);
  EXPECT_EQ(second->address, 0x3001);
  EXPECT_EQ(second->word, 0x1261);
  EXPECT_EQ(second->entered, 0);
}

// A guest that lies in everything: each answer is an error or a value within its bounds; nothing crashes or hangs.
TEST_F(MachineTest, LyingLc3GuestIsNotBelieved) {
  const auto elf = read_file(test_data("probe_hostile_lc3.elf"), std::size_t{1} << 24);
  ASSERT_TRUE(elf) << elf.error().message;
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= scaled(40); ++seed) {
    SCOPED_TRACE(seed);
    lc3::Lc3Options options;
    options.load_os = false;
    auto created = lc3::Lc3Vm::create(system(), options, *elf);
    ASSERT_TRUE(created) << created.error().message;
    lc3::Lc3Vm& vm = **created;
    const auto set_seed = vm.machine().find_vmcall("set_seed");
    ASSERT_TRUE(set_seed);
    const std::array<std::uint64_t, 1> argument{seed * 0x9e3779b97f4a7c15};
    ASSERT_TRUE(vm.machine().call(*set_seed, argument));
    const auto note = [&refused](const auto& result) {
      if (!result) ++refused;
      return result.has_value();
    };
    std::mt19937_64 random(seed);
    for (int i = 0; i < 60; ++i) {
      switch (random() % 9) {
        case 0: {
          const std::uint64_t budget = random() % 1000;
          if (const auto result = vm.run(budget); note(result)) {
            EXPECT_LE(result->executed, budget);
            EXPECT_LT(static_cast<std::uint32_t>(result->stop), kStopReasonCount);
          }
          break;
        }
        case 1:
          if (const auto records = vm.trace(random() % 20000); note(records)) EXPECT_LE(records->size(), 20000u);
          break;
        case 2: {
          const std::vector<std::uint8_t> bytes(random() % 10000);
          if (const auto fed = vm.feed(bytes); note(fed)) EXPECT_LE(*fed, kInputCapacity);
          break;
        }
        case 3: {
          std::string output;
          if (note(vm.drain(output))) EXPECT_LE(output.size(), kOutputCapacity);
          break;
        }
        case 4: note(vm.registers()); break;
        case 5: note(vm.read_memory(static_cast<std::uint16_t>(random()), random() % 70000)); break;
        case 6: note(vm.instrument(InstrumentMode::kCollect)); break;
        case 7: note(vm.statistics()); break;
        default: note(vm.restore_state(std::vector<std::byte>(sizeof(State)))); break;
      }
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace warmfork::test
