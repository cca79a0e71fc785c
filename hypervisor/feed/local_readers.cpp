#include "feed/local_readers.hpp"

#include <pthread.h>
#include <sched.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace warmfork::feed {
namespace {

using Word = std::atomic<std::uint64_t>;
constexpr std::size_t kWord = sizeof(std::uint64_t);
constexpr std::size_t kCacheLine = 64;

Status pin(std::thread& thread, int cpu) {
  if (cpu < 0) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = ::pthread_setaffinity_np(thread.native_handle(), sizeof set, &set); error != 0) {
    return fail(ErrorKind::kHost, "CPU {}: {}", cpu, std::strerror(error));
  }
  return {};
}

}  // namespace

LocalReaders::Slot* LocalReaders::slot(std::uint64_t packet) const {
  // SAFETY: start() has made a Slot at every multiple of the stride.
  return reinterpret_cast<Slot*>(memory_.data() + (packet & (slots_ - 1)) * stride_);
}

Word* LocalReaders::words(Slot* slot) {
  // SAFETY: start() has made the words behind each Slot.
  return reinterpret_cast<Word*>(slot + 1);
}

Result<std::unique_ptr<LocalReaders>> LocalReaders::start(std::size_t longest, const Options& options) {
  std::unique_ptr<LocalReaders> readers(new LocalReaders);
  readers->longest_ = longest;
  const std::size_t payload_words = (longest + kWord - 1) / kWord;
  readers->stride_ = (sizeof(Slot) + payload_words * kWord + kCacheLine - 1) / kCacheLine * kCacheLine;
  readers->slots_ = std::bit_floor(std::max<std::size_t>(options.ring_bytes / readers->stride_, 2));
  WARMFORK_TRY_ASSIGN(readers->memory_, Mapping::anonymous(readers->slots_ * readers->stride_));
  for (std::size_t i = 0; i < readers->slots_; ++i) {
    std::byte* const at = readers->memory_.data() + i * readers->stride_;
    new (at) Slot{};
    for (std::size_t word = 0; word < payload_words; ++word) new (at + sizeof(Slot) + word * kWord) Word(0);
  }
  readers->reports_.resize(options.readers);
  readers->seen_.resize(options.readers);
  for (unsigned i = 0; i < options.readers; ++i) readers->reports_[i].name = fmt::format("local{}", i);
  if (metrics::on()) {
    readers->numbers_.emplace([self = readers.get()](metrics::Collector& collector) {
      for (std::size_t i = 0; i < self->seen_.size(); ++i) {
        collector.count(metrics::Family::kFeedRead, {self->reports_[i].name}, self->seen_[i].received);
        collector.count(metrics::Family::kFeedDropped, {self->reports_[i].name}, self->seen_[i].dropped);
      }
    });
  }
  for (unsigned i = 0; i < options.readers; ++i) {
    readers->threads_.emplace_back([self = readers.get(), i] { self->read(self->reports_[i], self->seen_[i]); });
    WARMFORK_TRY(pin(readers->threads_.back(), options.cpu));
  }
  return readers;
}

LocalReaders::~LocalReaders() { (void)finish(); }

void LocalReaders::publish(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept {
  const std::uint64_t packet = next_++;
  Slot* const at = slot(packet);
  at->version.store(2 * packet + 1, std::memory_order_relaxed);
  // Whoever reads one of the words below also sees the version above (or a later one).
  std::atomic_thread_fence(std::memory_order_release);
  const std::size_t size = std::min(payload.size(), longest_);
  at->timestamp.store(timestamp, std::memory_order_relaxed);
  at->size.store(size, std::memory_order_relaxed);
  Word* const to = words(at);
  std::size_t i = 0;
  for (; i + kWord <= size; i += kWord) {
    std::uint64_t word;
    std::memcpy(&word, payload.data() + i, kWord);
    to[i / kWord].store(word, std::memory_order_relaxed);
  }
  if (i < size) {
    std::uint64_t word = 0;
    std::memcpy(&word, payload.data() + i, size - i);
    to[i / kWord].store(word, std::memory_order_relaxed);
  }
  at->version.store(2 * packet + 2, std::memory_order_release);
}

void LocalReaders::read(ReaderReport& report, Seen& seen) const {
  std::vector<std::uint64_t> copy((longest_ + kWord - 1) / kWord);
  constexpr unsigned kPolls = 4096;  // in vain, before the processor is offered to others
  unsigned polls = 0;
  std::uint64_t next = 0;
  for (;;) {
    Slot* const at = slot(next);
    const std::uint64_t version = at->version.load(std::memory_order_acquire);
    if (version == 2 * next + 2) {
      const std::size_t size = std::min<std::size_t>(at->size.load(std::memory_order_relaxed), longest_);
      const Word* const from = words(at);
      for (std::size_t i = 0; i * kWord < size; ++i) copy[i] = from[i].load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (at->version.load(std::memory_order_relaxed) == version) {
        seen.received.set(++report.received);
        report.bytes += size;
        report.checksum += XXH3_64bits(copy.data(), size);
        ++next;
        polls = 0;
      }
    } else if (version > 2 * next + 2) {
      // Overtaken. The slot holds, or is about to hold, a packet that many rounds ahead.
      const std::uint64_t there = (version - 1) / 2 - slots_ / 2;
      report.dropped += there - next;
      seen.dropped.set(report.dropped);
      next = there;
    } else if (next == end_.load(std::memory_order_acquire)) {
      return;
    } else if (++polls >= kPolls) {
      polls = 0;
      std::this_thread::yield();
    }
  }
}

std::vector<ReaderReport> LocalReaders::finish() {
  end_.store(next_, std::memory_order_release);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return reports_;
}

std::uint64_t expected_checksum(const Tape& tape, std::uint64_t packets) {
  if (tape.empty()) return 0;
  const std::uint64_t loops = packets / tape.totals().packets;
  const std::uint64_t rest = packets % tape.totals().packets;
  std::uint64_t whole = 0, part = 0, seen = 0;
  for (const Packet& packet : tape) {
    const std::uint64_t hash = XXH3_64bits(packet.payload().data(), packet.bytes);
    whole += hash;
    if (seen++ < rest) part += hash;
  }
  return whole * loops + part;
}

}  // namespace warmfork::feed
