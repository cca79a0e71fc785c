#include "trace/trace.hpp"

#include "base/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>

namespace warmfork::trace {
namespace {

struct Slot {
  std::atomic<std::uint64_t> begin, end, kind, argument;
};
static_assert(sizeof(Slot) == 32);

struct alignas(128) Ring {
  std::atomic<std::uint64_t> count{0};  // events noted; written by its thread only
  std::atomic<bool> taken{false};       // what follows is set
  int thread = 0;
  std::array<char, 40> name{};
  Slot* slots = nullptr;
};

struct Recorder {
  Recorder(Mapping memory, std::size_t each, std::size_t threads)
      : memory(std::move(memory)), mask(each - 1), rings(threads) {}
  Mapping memory;
  const std::uint64_t mask;
  std::vector<Ring> rings;
  std::atomic<std::uint64_t> asked{0};  // threads that wanted a ring
  std::atomic<std::uint64_t> without_ring{0};
  std::uint64_t start = 0;
};

std::mutex control;
// All there ever were: a thread that has begun an event may end it at any time later.
std::vector<std::unique_ptr<Recorder>>& recorders() {
  static auto* const all = new std::vector<std::unique_ptr<Recorder>>;
  return *all;
}
std::atomic<Recorder*> current{nullptr};

struct Mine {
  Recorder* recorder;
  Ring* ring;  // nullptr: there was none left
  const char* name;
  std::size_t number;
};
constexpr std::size_t kNoNumber = ~std::size_t{0};
thread_local constinit Mine mine{nullptr, nullptr, nullptr, kNoNumber};

// The thread's first event in this recording.
[[gnu::noinline]] void take_ring(Recorder& recorder) {
  mine.recorder = &recorder;
  mine.ring = nullptr;
  const std::uint64_t number = recorder.asked.fetch_add(1, std::memory_order_relaxed);
  if (number >= recorder.rings.size()) return;
  Ring& ring = recorder.rings[number];
  const std::size_t bytes = (recorder.mask + 1) * sizeof(Slot);
  const std::span<std::byte> place = recorder.memory.bytes().subspan(number * bytes, bytes);
  populate_pages(place);
  // SAFETY: zeroed memory of this ring alone, aligned to its size; atomics of integers need no construction.
  ring.slots = reinterpret_cast<Slot*>(place.data());
  ring.thread = ::gettid();
  std::string name = mine.name == nullptr ? fmt::format("thread {}", ring.thread) : mine.name;
  if (mine.name != nullptr && mine.number != kNoNumber) name += fmt::format(" {}", mine.number);
  name.copy(ring.name.data(), ring.name.size() - 1);
  mine.ring = &ring;
  ring.taken.store(true, std::memory_order_release);
}

struct FunctionNames {
  std::mutex mutex;
  std::map<std::uint64_t, std::string> names;  // empty: several
};
FunctionNames& functions() {
  static auto* const all = new FunctionNames;
  return *all;
}

Recording::Thread collect(const Ring& ring, std::uint64_t mask) {
  Recording::Thread thread;
  thread.id = ring.thread;
  thread.name = ring.name.data();
  const std::uint64_t capacity = mask + 1;
  thread.recorded = ring.count.load(std::memory_order_acquire);
  // The oldest of a full ring is never taken: its thread may be in the middle of an event, and is writing over it.
  const auto oldest = [&](std::uint64_t count) { return count >= capacity ? count - capacity + 1 : 0; };
  const std::uint64_t first = oldest(thread.recorded);
  thread.events.reserve(thread.recorded - first);
  for (std::uint64_t i = first; i < thread.recorded; ++i) {
    const Slot& slot = ring.slots[i & mask];
    // SAFETY: the address of a Kind, which the ring's thread has put there.
    thread.events.push_back({slot.begin.load(std::memory_order_relaxed), slot.end.load(std::memory_order_relaxed),
                             reinterpret_cast<const Kind*>(slot.kind.load(std::memory_order_relaxed)),
                             slot.argument.load(std::memory_order_relaxed)});
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  const std::uint64_t safe = oldest(ring.count.load(std::memory_order_relaxed));
  thread.lost = std::clamp(safe, first, thread.recorded);
  thread.events.erase(thread.events.begin(), thread.events.begin() + static_cast<std::ptrdiff_t>(thread.lost - first));
  std::ranges::sort(thread.events, [](const Recording::Event& a, const Recording::Event& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  return thread;
}

}  // namespace

namespace detail {

void note(const Kind& kind, std::uint64_t begin, std::uint64_t argument) {
  Recorder* const recorder = current.load(std::memory_order_acquire);
  if (recorder == nullptr) return;  // the recording has ended meanwhile
  if (mine.recorder != recorder) [[unlikely]] {
    if (begin < recorder->start) return;  // of the recording before
    take_ring(*recorder);
  }
  Ring* const ring = mine.ring;
  if (ring == nullptr) [[unlikely]] {
    recorder->without_ring.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::uint64_t count = ring->count.load(std::memory_order_relaxed);
  Slot& slot = ring->slots[count & recorder->mask];
  slot.begin.store(begin, std::memory_order_relaxed);
  slot.end.store(tsc_now(), std::memory_order_relaxed);
  slot.kind.store(reinterpret_cast<std::uint64_t>(&kind), std::memory_order_relaxed);
  slot.argument.store(argument, std::memory_order_relaxed);
  ring->count.store(count + 1, std::memory_order_release);
}

}  // namespace detail

void name_thread(const char* name) { name_thread(name, kNoNumber); }
void name_thread(const char* name, std::size_t number) {
  mine.name = name;
  mine.number = number;
}

void name_function(std::uint64_t address, std::string_view name) {
  FunctionNames& all = functions();
  const std::scoped_lock lock(all.mutex);
  const auto [known, added] = all.names.try_emplace(address, name);
  if (!added && known->second != name) known->second.clear();
}

std::string describe_function(std::uint64_t address) {
  FunctionNames& all = functions();
  const std::scoped_lock lock(all.mutex);
  const auto known = all.names.find(address);
  if (known == all.names.end() || known->second.empty()) return fmt::format("{:#x}", address);
  return known->second;
}

std::uint64_t Recording::lost() const {
  std::uint64_t sum = without_ring;
  for (const Thread& thread : threads) sum += thread.lost;
  return sum;
}

Status start(const Options& options) {
  if (options.events_per_thread < kFewestEvents || options.events_per_thread > kMostEvents) {
    return fail(ErrorKind::kUsage, "a recording of {} events a thread: {} to {} are possible",
                options.events_per_thread, kFewestEvents, kMostEvents);
  }
  if (options.threads == 0 || options.threads > 1024) {
    return fail(ErrorKind::kUsage, "a recording of {} threads: 1 to 1024 are possible", options.threads);
  }
  const std::scoped_lock lock(control);
  if (current.load(std::memory_order_relaxed) != nullptr)
    return fail(ErrorKind::kUsage, "events are being recorded already");
  const std::size_t each = std::bit_ceil(options.events_per_thread);
  WARMFORK_TRY_ASSIGN(Mapping memory, Mapping::anonymous(options.threads * each * sizeof(Slot)));
  auto& all = recorders();
  all.push_back(std::make_unique<Recorder>(std::move(memory), each, options.threads));
  all.back()->start = tsc_now();
  current.store(all.back().get(), std::memory_order_release);
  detail::recording.store(1, std::memory_order_release);
  return {};
}

void pause() { detail::recording.store(0, std::memory_order_release); }
void resume() {
  if (current.load(std::memory_order_relaxed) != nullptr) detail::recording.store(1, std::memory_order_release);
}

Recording stop() {
  const std::scoped_lock lock(control);
  Recording recording;
  Recorder* const recorder = current.load(std::memory_order_relaxed);
  if (recorder == nullptr) return recording;
  detail::recording.store(0, std::memory_order_release);
  current.store(nullptr, std::memory_order_release);
  recording.start = recorder->start;
  recording.stop = tsc_now();
  recording.without_ring = recorder->without_ring.load(std::memory_order_relaxed);
  for (const Ring& ring : recorder->rings) {
    if (ring.taken.load(std::memory_order_acquire)) recording.threads.push_back(collect(ring, recorder->mask));
  }
  // What is written by a thread that is late lands in fresh pages, and nobody reads it.
  ::madvise(recorder->memory.data(), recorder->memory.size(), MADV_DONTNEED);
  return recording;
}

}  // namespace warmfork::trace
