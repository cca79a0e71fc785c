/* The yardstick: an LC-3 simulator as it is usually written, one C `switch` over the opcode of one instruction after
 * the other. It is meant to be an honest, clean and complete user-mode core, not a slow one: no I/O, no privilege, TRAP
 * x25 and an instruction limit end it. One thread per machine. */
#ifndef WARMFORK_BENCH_LC3_SWITCH_INTERPRETER_H
#define WARMFORK_BENCH_LC3_SWITCH_INTERPRETER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  uint16_t memory[0x10000];
  uint16_t registers[8];
  uint16_t pc;
  uint16_t condition; /* 4 N, 2 Z, 1 P */
  int halted;
} SwitchMachine;

/* Runs at most `limit` instructions; returns how many it ran. Sets `halted` on TRAP x25 or an unknown opcode. */
uint64_t switch_run(SwitchMachine* machine, uint64_t limit);

#ifdef __cplusplus
}
#endif

#endif
