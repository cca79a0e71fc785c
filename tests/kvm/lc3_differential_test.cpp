// The LC-3 in the guest against the reference machine, which shares nothing with it: random programs run instruction by
// instruction on both, and the whole visible state must be equal after each one; memory and output at the end.
#include "lc3/core/instruction.hpp"
#include "lc3/os/os_image.hpp"
#include "lc3_fixture.hpp"
#include "reference/reference_machine.hpp"

#include <array>
#include <random>

namespace warmfork::test {
namespace {

using lc3::Lc3Vm;
using lc3::TraceRecord;
using Words = std::vector<std::uint16_t>;
using Random = std::mt19937;

constexpr std::uint16_t kOrigin = 0x3000;
constexpr std::uint64_t kMostInstructions = 4000;  // of one program

std::uint16_t pick(Random& random, std::initializer_list<std::uint16_t> choices) {
  return choices.begin()[random() % choices.size()];
}

// A word of any operation, all equally likely, from the table that decoder and interpreter are made from.
std::uint16_t random_instruction(Random& random) {
  const lc3::InstructionInfo& info = lc3::kInstructions[random() % lc3::kOperationCount];
  return static_cast<std::uint16_t>(info.match | (random() & ~info.mask & 0xffffU));
}

// As above without what ends most programs at once: system instructions and jumps through random registers.
std::uint16_t random_calm_instruction(Random& random) {
  for (;;) {
    const std::uint16_t word = random_instruction(random);
    const lc3::Instruction instruction = lc3::decode(word);
    if (instruction.info().has(lc3::kSystem)) continue;
    if (instruction.operation == lc3::Operation::kJmp || instruction.operation == lc3::Operation::kJsrr) {
      if (random() % 8 != 0) continue;
    }
    if (instruction.operation == lc3::Operation::kBr || instruction.operation == lc3::Operation::kJsr) {
      // Short and mostly forward, so that control flow stays in the program; backward branches make loops.
      const int offset = static_cast<int>(random() % 12) - 3;
      return lc3::with_operand(
          word,
          instruction.operation == lc3::Operation::kBr ? lc3::OperandKind::kPcOffset9 : lc3::OperandKind::kPcOffset11,
          offset);
    }
    return word;
  }
}

struct Subject {
  lc3::Lc3Options options;
  lc3_reference::Options reference;
  Words program;
  std::array<std::uint16_t, 8> registers{};
  std::string input;
};

Subject make_subject(std::uint64_t seed) {
  Random random(static_cast<Random::result_type>(seed));
  Subject subject;
  subject.options.edition = random() % 3 == 0 ? 2 : 3;
  subject.options.strict_privilege = random() % 4 == 0;
  subject.options.traps = random() % 2 == 0 ? lc3::TrapMode::kNative : lc3::TrapMode::kOs;
  subject.options.detect_idle = false;
  subject.options.stop_for_output = false;
  subject.options.stop_at_empty_vectors = false;
  subject.reference = {
      subject.options.edition == 2 ? lc3_reference::Edition::kSecond : lc3_reference::Edition::kThird,
      subject.options.strict_privilege ? lc3_reference::Privilege::kStrict : lc3_reference::Privilege::kRelaxed,
      subject.options.traps == lc3::TrapMode::kNative ? lc3_reference::Traps::kNative : lc3_reference::Traps::kOs};

  // Some programs let the keyboard interrupt them: KBSR[14] is set by the first instructions.
  if (random() % 4 == 0) subject.program = {0x2002, 0xb002, 0x0e02, 0x4000, lc3::kKbsr};  // LD, STI, BR over the data
  const unsigned kind = random() % 4;
  const std::size_t size = 16 + random() % 200;
  while (subject.program.size() < size) {
    switch (kind) {
      case 0: subject.program.push_back(static_cast<std::uint16_t>(random())); break;
      case 1: subject.program.push_back(random_instruction(random)); break;
      default:
        subject.program.push_back(random() % 40 == 0 ? random_instruction(random) : random_calm_instruction(random));
    }
  }
  subject.program.push_back(pick(random, {0xf025, 0x0fff, 0xc000, 0x8000}));
  for (std::uint16_t& value : subject.registers) {
    value = static_cast<std::uint16_t>(
        pick(random, {0, 0x3000, 0x3040, 0xfdf0, 0xfe00, 0xffff, 0x0020, 0x0100, 0x0180, 0x7fff}) + random() % 8);
  }
  subject.registers[6] = pick(random, {0xfe00, 0x4000, 0x3000, 0x0000});
  for (unsigned i = random() % 20; i > 0; --i) subject.input.push_back(static_cast<char>(random()));
  return subject;
}

class Lc3Differential : public Lc3Test {
 protected:
  void prepare(Lc3Vm& vm, lc3_reference::ReferenceMachine& reference, const Subject& subject) {
    ASSERT_TRUE(vm.power_on(subject.options));
    const lc3::Program& os = lc3::os_image(subject.options.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird);
    for (const lc3::Segment& segment : os.segments) reference.load_os(segment.origin, segment.words);
    lc3::Program program;
    program.files = {"random"};
    program.segments = {{kOrigin, subject.program, 0}};
    ASSERT_TRUE(vm.load(program));
    reference.load(kOrigin, subject.program);
    reference.start(kOrigin);
    for (unsigned i = 0; i < 8; ++i) {
      ASSERT_TRUE(vm.write_register(static_cast<lc3::RegisterId>(i), subject.registers[i]));
      reference.set_reg(i, subject.registers[i]);
    }
    const auto fed =
        vm.feed(std::span(reinterpret_cast<const std::uint8_t*>(subject.input.data()), subject.input.size()));
    ASSERT_TRUE(fed && *fed == subject.input.size());
    reference.type(subject.input);
  }

  static std::string show(const TraceRecord& r) {
    return fmt::format(
        "R {:04x} {:04x} {:04x} {:04x} {:04x} {:04x} {:04x} {:04x} PC {:04x} PSR {:04x} SSP {:04x} USP {:04x}",
        r.registers[0], r.registers[1], r.registers[2], r.registers[3], r.registers[4], r.registers[5], r.registers[6],
        r.registers[7], r.pc, r.psr, r.saved_ssp, r.saved_usp);
  }

  static TraceRecord state_of(const lc3_reference::ReferenceMachine& reference) {
    TraceRecord record{};
    for (unsigned i = 0; i < 8; ++i) record.registers[i] = reference.reg(i);
    record.pc = reference.pc();
    record.psr = reference.psr();
    record.saved_ssp = reference.saved_ssp();
    record.saved_usp = reference.saved_usp();
    return record;
  }

  // What the reference knows of a record: everything up to the notes on the instruction that was executed.
  static bool same_machine(const TraceRecord& a, const TraceRecord& b) {
    return std::ranges::equal(a.registers, b.registers) && a.pc == b.pc && a.psr == b.psr &&
           a.saved_ssp == b.saved_ssp && a.saved_usp == b.saved_usp;
  }

  // Runs one subject to its end or to the limit; returns the instructions executed.
  void run_pair(Lc3Vm& vm, const Subject& subject, std::uint64_t& executed) {
    lc3_reference::ReferenceMachine reference(subject.reference);
    ASSERT_NO_FATAL_FAILURE(prepare(vm, reference, subject));
    executed = 0;
    std::string output;
    bool waiting = false;
    while (executed < kMostInstructions && reference.state() == lc3_reference::State::kRunning && !waiting) {
      const auto records = vm.trace(kMostInstructions - executed);
      ASSERT_TRUE(records) << records.error().message;
      for (const TraceRecord& record : *records) {
        const std::uint16_t pc = reference.pc();
        ASSERT_NE(reference.step(), lc3_reference::State::kWaitingForInput)
            << "the reference waits for input at " << pc << ", the guest does not";
        ++executed;
        const TraceRecord expected = state_of(reference);
        if (!same_machine(record, expected)) {
          FAIL() << "instruction " << executed << " at x" << fmt::format("{:04X}: ", pc)
                 << lc3::disassemble(reference.peek(pc), pc).view() << "\n  guest     " << show(record)
                 << "\n  reference " << show(expected);
        }
      }
      ASSERT_TRUE(vm.drain(output));
      if (!records->empty()) continue;
      // The guest executed nothing: it waits for input or is halted (an interrupt's frame may have reached MCR), and so
      // must the reference be.
      const lc3_reference::State end = reference.step();
      ASSERT_NE(end, lc3_reference::State::kRunning) << "the guest stops at x" << fmt::format("{:04X}", reference.pc());
      waiting = end == lc3_reference::State::kWaitingForInput;
    }
    const auto registers = vm.registers();
    ASSERT_TRUE(registers) << registers.error().message;
    ASSERT_EQ(registers->pc, reference.pc());
    ASSERT_EQ(registers->psr, reference.psr());
    for (unsigned i = 0; i < 8; ++i) ASSERT_EQ(registers->general[i], reference.reg(i)) << "R" << i;
    const auto memory = vm.read_memory(0, lc3::kDeviceBase);
    ASSERT_TRUE(memory) << memory.error().message;
    for (std::uint32_t address = 0; address < lc3::kDeviceBase; ++address) {
      ASSERT_EQ((*memory)[address], reference.peek(static_cast<std::uint16_t>(address)))
          << fmt::format("x{:04X}", address);
    }
    // A native IN that waits has shown its prompt; in the reference it has not begun.
    std::string expected = reference.take_output();
    constexpr std::string_view kPrompt = "Input a character> ";
    if (waiting && output.size() == expected.size() + kPrompt.size()) expected += kPrompt;
    ASSERT_EQ(output, expected);
  }
};

// At least ten million instructions on the build machine's KVM.
TEST_F(Lc3Differential, RandomProgramsAgreeAfterEveryInstruction) {
  const auto vm = make_lc3();
  ASSERT_NE(vm, nullptr);
  const char* const fixed = std::getenv("WARMFORK_TEST_SEED");
  const std::uint64_t first_seed = fixed != nullptr ? std::strtoull(fixed, nullptr, 0) : std::random_device{}();
  const std::uint64_t wanted = scaled(10'000'000);
  std::uint64_t total = 0;
  std::uint64_t programs = 0;
  for (std::uint64_t seed = first_seed; total < wanted; ++seed) {
    SCOPED_TRACE(fmt::format("WARMFORK_TEST_SEED={}", seed));
    std::uint64_t executed = 0;
    ASSERT_NO_FATAL_FAILURE(run_pair(*vm, make_subject(seed), executed));
    total += executed;
    ++programs;
  }
  RecordProperty("instructions", std::to_string(total));
  RecordProperty("programs", std::to_string(programs));
  std::printf("%llu programs, %llu instructions, from seed %llu\n", static_cast<unsigned long long>(programs),
              static_cast<unsigned long long>(total), static_cast<unsigned long long>(first_seed));
}

// Whole runs rather than single steps, cut into random slices: the same end, however a run is divided.
TEST_F(Lc3Differential, SlicedRunsEndWhereSingleStepsDo) {
  const auto vm = make_lc3();
  ASSERT_NE(vm, nullptr);
  Random random(7);
  for (std::uint64_t seed = 1; seed <= scaled(300); ++seed) {
    SCOPED_TRACE(seed);
    Subject subject = make_subject(seed);
    // A run looks for interrupts every 1,024 instructions, a step before each: take interrupts out of this comparison.
    subject.input.clear();
    lc3_reference::ReferenceMachine reference(subject.reference);
    ASSERT_NO_FATAL_FAILURE(prepare(*vm, reference, subject));
    std::uint64_t executed = 0;
    std::string output;
    for (;;) {
      const std::uint64_t budget = std::min<std::uint64_t>(random() % 700 + 1, kMostInstructions - executed);
      const auto result = vm->run(budget);
      ASSERT_TRUE(result) << result.error().message;
      executed += result->executed;
      ASSERT_TRUE(vm->drain(output));
      if (result->stop == lc3::StopReason::kOutputFull) continue;
      if (result->stop != lc3::StopReason::kBudget) break;
      ASSERT_EQ(result->executed, budget);
      if (executed == kMostInstructions) break;
    }
    for (std::uint64_t i = 0; i < executed; ++i) ASSERT_NE(reference.step(), lc3_reference::State::kWaitingForInput);
    const auto registers = vm->registers();
    ASSERT_TRUE(registers);
    for (unsigned i = 0; i < 8; ++i) ASSERT_EQ(registers->general[i], reference.reg(i)) << "R" << i;
    ASSERT_EQ(registers->pc, reference.pc());
    ASSERT_EQ(registers->psr, reference.psr());
    ASSERT_EQ(output, reference.take_output());
  }
}

}  // namespace
}  // namespace warmfork::test
