#include "lc3/host/lc3_failure.hpp"

#include "lc3/core/instruction.hpp"
#include "lc3/os/os_image.hpp"

#include <fmt/format.h>

namespace warmfork::lc3 {
namespace {

const char* exception_name(std::uint32_t vector) {
  switch (vector) {
    case kPrivilegeException: return "RTI in user mode";
    case kIllegalOpcodeException: return "illegal opcode";
    case kAccessException: return "access violation";
    default: return "exception";
  }
}

Lc3Failure exception_failure(std::uint32_t vector, std::uint16_t address) {
  return {fmt::format("{} (exception x{:02X})", exception_name(vector), vector), static_cast<std::uint8_t>(vector),
          false, address};
}

Lc3Failure trap_failure(std::uint32_t vector, std::uint16_t address) {
  return {fmt::format("trap x{:02X} has no routine", vector), static_cast<std::uint8_t>(vector), true, address};
}

}  // namespace

Result<std::optional<Lc3Failure>> find_failure(Lc3Vm& vm, const Lc3Options& options, const RunResult& result) {
  if (result.stop == StopReason::kUnhandledException) return exception_failure(result.vector, result.pc);
  if (result.stop == StopReason::kUnhandledTrap) return trap_failure(result.vector, result.pc);
  if (result.stop == StopReason::kUnhandledInterrupt) {
    return Lc3Failure{fmt::format("interrupt x{:02X} has no routine", result.vector),
                      static_cast<std::uint8_t>(result.vector), false, result.pc};
  }
  if (result.stop != StopReason::kHalted || !options.load_os) return std::nullopt;

  // The OS ends a program with a message by the instructions at STOP, with all registers as they were: what happened
  // can be read from them and from the stack.
  const auto& os = os_image(options.edition == 2 ? Edition::kSecond : Edition::kThird);
  const Symbol* stop = os.find_symbol("STOP");
  constexpr std::uint16_t kStopWords = 4;
  if (stop == nullptr || result.pc < stop->address || result.pc > stop->address + kStopWords) return std::nullopt;
  WARMFORK_TRY_ASSIGN(const Registers registers, vm.registers());
  WARMFORK_TRY_ASSIGN(const auto exception, vm.last_exception());
  WARMFORK_TRY_ASSIGN(const auto pushed, vm.read_memory(registers.general[6], 1));
  if (!exception) {
    std::uint16_t after = pushed.front();
    if (options.edition == 2) {  // R7 itself may have been what stopped the clock
      const Symbol* saved = os.find_symbol("SAVED_R7");
      if (saved == nullptr) return std::nullopt;
      WARMFORK_TRY_ASSIGN(const auto word, vm.read_memory(saved->address, 1));
      after = word.front();
    }
    const auto address = static_cast<std::uint16_t>(after - 1);
    WARMFORK_TRY_ASSIGN(const auto word, vm.read_memory(address, 1));
    return trap_failure(word.front() & 0xFFU, address);
  }
  return exception_failure(*exception, pushed.front());
}

}  // namespace warmfork::lc3
