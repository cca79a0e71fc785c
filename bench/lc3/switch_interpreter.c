#include "switch_interpreter.h"

static uint16_t sign_extend(uint16_t value, int bits) {
  if ((value >> (bits - 1)) & 1) value |= (uint16_t)(0xffff << bits);
  return value;
}

static void set_condition(SwitchMachine* machine, uint16_t value) {
  if (value == 0) {
    machine->condition = 2;
  } else if (value >> 15) {
    machine->condition = 4;
  } else {
    machine->condition = 1;
  }
}

uint64_t switch_run(SwitchMachine* machine, uint64_t limit) {
  uint16_t* memory = machine->memory;
  uint16_t* registers = machine->registers;
  uint64_t executed = 0;
  while (executed < limit && !machine->halted) {
    const uint16_t word = memory[machine->pc++];
    const uint16_t high = (word >> 9) & 7;
    const uint16_t middle = (word >> 6) & 7;
    ++executed;
    switch (word >> 12) {
      case 0x0: /* BR */
        if (high & machine->condition) machine->pc = (uint16_t)(machine->pc + sign_extend(word & 0x1ff, 9));
        break;
      case 0x1: /* ADD */
        if (word & 0x20) {
          registers[high] = (uint16_t)(registers[middle] + sign_extend(word & 0x1f, 5));
        } else {
          registers[high] = (uint16_t)(registers[middle] + registers[word & 7]);
        }
        set_condition(machine, registers[high]);
        break;
      case 0x2: /* LD */
        registers[high] = memory[(uint16_t)(machine->pc + sign_extend(word & 0x1ff, 9))];
        set_condition(machine, registers[high]);
        break;
      case 0x3: /* ST */ memory[(uint16_t)(machine->pc + sign_extend(word & 0x1ff, 9))] = registers[high]; break;
      case 0x4: { /* JSR, JSRR */
        const uint16_t target = registers[middle];
        registers[7] = machine->pc;
        machine->pc = (word & 0x800) ? (uint16_t)(machine->pc + sign_extend(word & 0x7ff, 11)) : target;
        break;
      }
      case 0x5: /* AND */
        if (word & 0x20) {
          registers[high] = registers[middle] & sign_extend(word & 0x1f, 5);
        } else {
          registers[high] = registers[middle] & registers[word & 7];
        }
        set_condition(machine, registers[high]);
        break;
      case 0x6: /* LDR */
        registers[high] = memory[(uint16_t)(registers[middle] + sign_extend(word & 0x3f, 6))];
        set_condition(machine, registers[high]);
        break;
      case 0x7: /* STR */ memory[(uint16_t)(registers[middle] + sign_extend(word & 0x3f, 6))] = registers[high]; break;
      case 0x9: /* NOT */
        registers[high] = (uint16_t)~registers[middle];
        set_condition(machine, registers[high]);
        break;
      case 0xa: /* LDI */
        registers[high] = memory[memory[(uint16_t)(machine->pc + sign_extend(word & 0x1ff, 9))]];
        set_condition(machine, registers[high]);
        break;
      case 0xb: /* STI */
        memory[memory[(uint16_t)(machine->pc + sign_extend(word & 0x1ff, 9))]] = registers[high];
        break;
      case 0xc: /* JMP */ machine->pc = registers[middle]; break;
      case 0xe: /* LEA */ registers[high] = (uint16_t)(machine->pc + sign_extend(word & 0x1ff, 9)); break;
      case 0xf: /* TRAP */
        if ((word & 0xff) == 0x25) machine->halted = 1;
        break;
      default: /* RTI and the reserved opcode have no meaning here */ machine->halted = 1; break;
    }
  }
  return executed;
}
