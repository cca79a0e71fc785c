// Compiled LC-3 code as the machine that runs it sees it.
//
// A *version* is one immutable unit: tables, machine code, and a copy of every LC-3 word that the code was made from.
// It lies in memory that the host writes and the machine only reads and executes, and is position independent:
//
//   +0x00000  CodeVersion
//   +0x01000  entries   u32[65536]  offset of the code that begins at this LC-3 address, 0: none
//   +0x41000  guarded   u8[65536]   1: a word that code was made from, or device space; stores of it are done carefully
//   +0x51000  machine code, then the ranges and their words
//
// Rules that make it exact without ever changing code once it can be executed:
//   - A machine *attaches* a version only after it has compared all words the version was made from with its memory.
//   - A store to a guarded word is done by the interpreter. If it changes the word, the machine *loses* the version: it
//     goes on interpreting until it is offered another.
//   - Whatever else changes memory (loading, a debugger, the host) makes the machine compare again.
//   - Words that change often are left out of later versions: they are interpreted, and no store to them is special.
//   - A version that counts is attached only by machines that count (State::counts), and one that does not by no
//   others.
// A newer version is published by storing its address in `successor`; machines look for it between slices of running.
//
// Registers in compiled code and at its borders (the same as in the fast interpreter):
//   r8d … r15d  R0 … R7, valid in their low 16 bits
//   eax         at borders: the last result (condition code), valid in its low 16 bits
//   rbx         address of State::memory          rbp   base of the version
//   rdi         instructions that may still be executed, none of the code to come being counted
//   rdx         State::counts, in a version that counts
//   rcx, rdx, rsi are free otherwise. The stack belongs to the fast interpreter.
// Code is entered by a jump to an entry. It leaves by a jump through State::exits with the LC-3 address in esi:
//   exits[0]    the instruction there is to be interpreted; it is not counted as cold
//   exits[1]    a transfer of control to an address without an entry
#pragma once

#include "warmfork/lc3/layout.h"

#include <cstddef>
#include <cstdint>

namespace warmfork::lc3 {

inline constexpr std::uint64_t kCodeMagic = 0x3130'6564'6f63'334c;  // "L3code01"

struct CodeRange {
  std::uint16_t first;
  std::uint16_t count;  // at most 65,535
  std::uint32_t words;  // offset of the copy, from the version's base
};

struct CodeVersion {
  std::uint64_t magic;
  std::uint64_t id;         // never 0, unique in the region
  std::uint64_t successor;  // address of a newer version, 0: none; the only field that changes
  std::uint32_t bytes;      // all of the version
  std::uint32_t range_count;
  std::uint32_t ranges;       // offset of CodeRange[range_count]
  std::uint32_t lea_sets_cc;  // the edition it is for: 1 if LEA sets the condition code
  std::uint32_t counters;     // that it uses of Instrumentation::code_counts; 0: it does not count
};

inline constexpr std::uint32_t kCodeEntries = WARMFORK_LC3_CODE_ENTRIES;
inline constexpr std::uint32_t kCodeGuarded = WARMFORK_LC3_CODE_GUARDED;
inline constexpr std::uint32_t kCodeText = WARMFORK_LC3_CODE_TEXT;
static_assert(sizeof(CodeVersion) <= kCodeEntries);

}  // namespace warmfork::lc3
