// The page that a requester (the benchmark) and its server process (server.cpp) share, and the numbers of the
// descriptors a server starts with. Freestanding: the server is built with musl, the requester is not.
//
// A request: the requester writes `argument`, then the next sequence number into `asked`, and wakes whoever sleeps on
// it. The server writes what is next to `answered`, then the same number there, and wakes the requester. One request at
// a time. When the server has ended, whatever the reason, the requester's watcher writes kGone into `answered`.
#pragma once

#include <stdint.h>

namespace warmfork::bench {

enum class ServerMode : uint32_t { kFork, kPipe, kFutex };

// Each side's words have cache lines of their own.
struct Channel {  // NOLINT(clang-analyzer-optin.performance.Padding)
  // Written before the server starts.
  ServerMode mode;
  int32_t parent;  // process id of the requester
  int32_t cpu;     // to pin to; -1: none
  uint32_t has_crash_on;
  uint64_t crash_on;
  uint64_t window_bytes;
  uint64_t dirty_pages;

  // Written by the server before it ends without having become ready.
  uint32_t failed_step;  // a ServerStep
  int32_t failed_errno;

  alignas(128) uint32_t asked;
  uint64_t argument;

  alignas(128) uint32_t answered;
  int32_t fork_errno;    // kFork: why fork failed; 0: it did not
  int32_t child_status;  // kFork: as waitpid gave it
  uint64_t answer;
  uint64_t service_ticks;  // kFork: TSC ticks from before fork until the child was reaped
};

enum ServerStep : uint32_t { kStepNone, kStepParent, kStepPin, kStepWindow };

inline constexpr uint32_t kStarting = 0xffff'fffe;  // `answered` before the server is warm, from when on it is 0
inline constexpr uint32_t kGone = 0xffff'ffff;
inline constexpr uint32_t kLastSequence = 0x7fff'ffff;  // after it comes 1 again

inline constexpr int kChannelFd = 3;
inline constexpr int kRequestFd = 4;  // kPipe: eight bytes a request
inline constexpr int kAnswerFd = 5;   // kPipe: eight bytes an answer
inline constexpr int kFirstUnusedFd = 6;

inline constexpr uint64_t kServerPage = 4096;

// linux/futex.h is not among musl's headers. Not the private variants: the two sides are different processes.
inline constexpr int kFutexWait = 0;
inline constexpr int kFutexWake = 1;

}  // namespace warmfork::bench
