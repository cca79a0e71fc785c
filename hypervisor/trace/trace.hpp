// Where the time of this process goes, event by event: each thread notes what it has done and from when to when.
//
// While nothing records, an instrumented place costs one load and one branch that is never taken. While something does,
// an event costs two reads of the TSC and five stores into a ring of the thread's own: no lock, allocation or system
// call. All rings are reserved when the recording starts; a thread takes one, and has its pages made present, with its
// first event. A full ring forgets its oldest event: the newest are kept, and how many were lost is known.
//
// An event is noted at its end. So of nested events the outer one is never lost before the inner ones, and what is left
// of a full ring still nests.
//
// Threads: everything from any thread, but for what says otherwise.
#pragma once

#include "base/result.hpp"
#include "base/tsc_clock.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::trace {

/// What an event is; for each kind one constant that lives as long as the process.
struct Kind {
  const char* category;                              // "kvm", "call", "fork", "jit": what viewers filter by
  const char* name;                                  // shown
  const char* argument = nullptr;                    // what the event's number is called; nullptr: it has none
  std::string (*describe)(std::uint64_t) = nullptr;  // if there is one: its text follows the name, in place of a number
};

namespace detail {
inline constinit std::atomic<std::uint32_t> recording{0};  // 0: nothing records
void note(const Kind& kind, std::uint64_t begin, std::uint64_t argument);
}  // namespace detail

[[nodiscard]] inline bool recording() { return detail::recording.load(std::memory_order_relaxed) != 0; }

/// For an event whose kind is known only at its end: `end(begin(), kind, …)`.
[[nodiscard]] inline std::uint64_t begin() {
  if (!recording()) [[likely]]
    return 0;
  return tsc_now();
}
inline void end(std::uint64_t begun, const Kind& kind, std::uint64_t argument = 0) {
  if (begun != 0) [[unlikely]]
    detail::note(kind, begun, argument);
}

/// An event from here to the end of the scope.
class Span {
 public:
  explicit Span(const Kind& kind, std::uint64_t argument = 0) : kind_(kind), argument_(argument), begun_(begin()) {}
  ~Span() { end(begun_, kind_, argument_); }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;
  void argument(std::uint64_t value) { argument_ = value; }

 private:
  const Kind& kind_;
  std::uint64_t argument_;
  std::uint64_t begun_;
};

/// How the calling thread is called in recordings: "name", or "name number". `name` lives as long as the process. Takes
/// effect with the thread's first event in a recording.
void name_thread(const char* name);
void name_thread(const char* name, std::size_t number);

/// What guest functions are called: for describe_function(). Allocates and locks: for those who look a function up.
void name_function(std::uint64_t address, std::string_view name);
/// The name, or the address in hexadecimal if there is none or if several programs have different functions there.
[[nodiscard]] std::string describe_function(std::uint64_t address);

struct Options {
  std::size_t events_per_thread = std::size_t{1} << 16;  // rounded up to a power of two; 32 bytes each
  std::size_t threads = 128;                             // that can have events; those of others are lost, and counted
};
inline constexpr std::size_t kFewestEvents = 64;
inline constexpr std::size_t kMostEvents = std::size_t{1} << 20;

/// What was recorded.
struct Recording {
  struct Event {
    std::uint64_t begin;  // TSC
    std::uint64_t end;
    const Kind* kind;
    std::uint64_t argument;
  };
  struct Thread {
    int id = 0;  // the kernel's
    std::string name;
    std::uint64_t recorded = 0;  // `lost` of them are gone
    std::uint64_t lost = 0;
    std::vector<Event> events;  // by begin; of those that begin together the longest first
  };
  std::uint64_t start = 0;  // TSC
  std::uint64_t stop = 0;
  std::vector<Thread> threads;               // in the order of their first events
  std::uint64_t without_ring = 0;            // events of threads for which there was no ring
  [[nodiscard]] std::uint64_t lost() const;  // all that are missing
};

/// Starts to record, for the whole process. Errors: kUsage (something records already, or sizes out of range), kHost
/// (no memory). The memory's address range stays reserved for good, since a thread may be in the middle of an event.
[[nodiscard]] Status start(const Options& options = {});
/// Between these nothing is noted. For measurements of what noting costs; one thread at a time, not beside stop().
void pause();
void resume();
/// Ends the recording and returns it; empty if there was none. Events that have not ended are not in it.
[[nodiscard]] Recording stop();

/// Writes a recording in the Trace Event Format of Chrome and Perfetto: complete events ("ph": "X") with times in
/// microseconds since its start, names of threads, and what was lost under otherData. `program` and `verb` say there
/// whose it is. Errors (kHost) name `path`.
/// Source: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format).
[[nodiscard]] Status write_json(const Recording& recording, int fd, const std::string& path, std::string_view program,
                                std::string_view verb);

}  // namespace warmfork::trace
