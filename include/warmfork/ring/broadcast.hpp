// A ring of records from one writer to any number of readers. The writer never waits and knows no reader; a reader that
// is too slow loses records, learns of it before it believes any of their bytes, and counts them exactly.
//
//   the writer's part: it writes, readers only read                 a reader's page, if it wants one: it alone writes
//   0x0000 | magic capacity                          |              0x0000 | magic                                |
//   0x0080 | intent: may be overwritten up to here   |              0x0080 | position: read up to here            |
//   0x0088 | tail: written up to here                |              0x0088 | sequence: of the next record         |
//   0x0090 | latest: where the last record begins    |              0x0090 | lost: records, up to here            |
//   0x1000 | data: `capacity` bytes, a power of two  |              0x1000 (end)
//
//   record | length:32 | type:16 | flags:16 | sequence:64 | payload … | up to a multiple of 16
//
// Positions count bytes, sequence numbers records, both freely through 64 bits; a record never straddles the end (as
// spsc.hpp) and takes at most a quarter of the data.
//
// Overrun (the idea is that of Aeron's broadcast buffer). Before the writer touches a byte it says so: intent goes up
// to the end of what it is about to write, then the bytes, then tail. A reader reads the bytes and then intent: the
// record at position p was whole if intent - p <= capacity, for then nothing up to its end had been given up to be
// overwritten. Otherwise it drops what it has read, goes on at the latest record, and finds how many it has lost from
// that one's number. model/broadcast.pml has this and its proof.
//
// intent, tail and latest share one cache line: the writer stores them together, and a reader needs them together.
//
// Reading in place: peek, use the bytes, and believe what came of it only if still_there() says so afterwards. Bytes
// that are overwritten meanwhile can be anything, so nothing may be done with them that garbage could harm (no
// pointers, no loops bounded by them). Otherwise read(), which copies first. Of a Hostile writer there is only read():
// it can write without saying so, and all that is certain then is that lengths, positions and numbers are sound and
// nothing outside is touched.
//
// Readers poll; there is no doorbell, as the writer knows none of them.
//
// Policies, violations and threads: memory.hpp. Each reader object has one thread.
#pragma once

#include "warmfork/ring/memory.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork::ring {

inline constexpr std::uint64_t kBroadcastMagic = 0x0001'5453'4342'4657;        // "WFBCST", version 1
inline constexpr std::uint64_t kBroadcastReaderMagic = 0x0001'4452'4342'4657;  // "WFBCRD", version 1

struct alignas(kPageBytes) BroadcastPage {
  std::uint64_t magic;
  std::uint64_t capacity;
  alignas(kApart) std::uint64_t intent;
  std::uint64_t tail;
  std::uint64_t latest;
};

/// For whoever watches the readers; nothing depends on it.
struct alignas(kPageBytes) BroadcastReaderPage {
  std::uint64_t magic;
  alignas(kApart) std::uint64_t position;
  std::uint64_t sequence;
  std::uint64_t lost;
};

static_assert(sizeof(BroadcastPage) == kPageBytes && sizeof(BroadcastReaderPage) == kPageBytes);
static_assert(offsetof(BroadcastPage, magic) == 0 && offsetof(BroadcastPage, capacity) == 8);
static_assert(offsetof(BroadcastPage, intent) == 0x80 && offsetof(BroadcastPage, tail) == 0x88);
static_assert(offsetof(BroadcastPage, latest) == 0x90);
static_assert(offsetof(BroadcastReaderPage, magic) == 0 && offsetof(BroadcastReaderPage, position) == 0x80);
static_assert(offsetof(BroadcastReaderPage, sequence) == 0x88 && offsetof(BroadcastReaderPage, lost) == 0x90);

[[nodiscard]] constexpr std::uint64_t broadcast_part_bytes(std::uint64_t capacity) { return kPageBytes + capacity; }

/// Makes the part an empty ring whose first record will lie at `start` (a multiple of 16; another than 0 is for tests)
/// and have number 0. Before writer and readers run.
inline void format_broadcast(BroadcastPage& page, std::uint64_t capacity, std::uint64_t start = 0) {
  page.capacity = capacity;
  store_relaxed(&page.intent, start);
  store_relaxed(&page.tail, start);
  store_relaxed(&page.latest, start);
  store_release(&page.magic, kBroadcastMagic);  // last: whoever finds it finds the rest
}

/// As check_spsc().
[[nodiscard]] inline Violation check_broadcast(const BroadcastPage& page, std::uint64_t capacity) {
  const std::uint64_t magic = load_acquire(&page.magic);
  if (magic != kBroadcastMagic) return {Reason::kMagic, magic, kBroadcastMagic};
  const std::uint64_t size = load_relaxed(&page.capacity);
  if (size != capacity) return {Reason::kCapacity, size, capacity};
  return {};
}

struct BroadcastHeader {
  static constexpr std::uint64_t kBytes = 16;
  static constexpr std::uint64_t kPadding = std::uint64_t{1} << 48;

  static constexpr std::uint64_t make(std::uint32_t size, std::uint16_t type) {
    return size | std::uint64_t{type} << 32;
  }
  static constexpr std::uint32_t size(std::uint64_t header) { return static_cast<std::uint32_t>(header); }
  static constexpr std::uint16_t type(std::uint64_t header) { return static_cast<std::uint16_t>(header >> 32); }
  static constexpr std::uint64_t record(std::uint32_t size) { return (std::uint64_t{size} + kBytes + 15) & ~15ULL; }
};

/// The writer trusts its own part, for it reads none of it: there is one kind.
class alignas(kApart) BroadcastWriter {
 public:
  /// `page`: the writer's part, formatted; `capacity` and `start` as it was.
  BroadcastWriter(BroadcastPage& page, std::uint64_t capacity, std::uint64_t start = 0)
      : page_(page),
        // SAFETY: the part goes on behind its page (broadcast_part_bytes).
        data_(reinterpret_cast<std::byte*>(&page) + kPageBytes),
        capacity_(capacity),
        next_(start),
        published_(start),
        latest_(start),
        intent_(start) {}

  [[nodiscard]] std::uint32_t longest() const {
    return static_cast<std::uint32_t>(capacity_ / 4 - BroadcastHeader::kBytes);
  }
  /// Number of the next record.
  [[nodiscard]] std::uint64_t sequence() const { return sequence_; }

  /// From now on gives up `bytes` more than a claim needs whenever it has to give up any. Readers may be so much less
  /// far behind, and the line that they all look at is written that much less often: once for many records that are
  /// published together. A multiple of 16; at most a quarter of the capacity (a longer one is shortened to that).
  void announce_ahead(std::uint64_t bytes) { ahead_ = bytes < capacity_ / 4 ? bytes : capacity_ / 4; }

  /// Room for a record of up to `size` bytes, 16-byte aligned. Null: longer than longest(), or half of the ring is
  /// committed and not published: more of it would overwrite the latest record that readers can find.
  [[nodiscard]] std::byte* claim(std::uint32_t size) {
    const std::uint64_t need = BroadcastHeader::record(size);
    if (need > capacity_ / 4) return nullptr;
    std::uint64_t at = next_ & (capacity_ - 1);
    const std::uint64_t to_end = capacity_ - at;
    const std::uint64_t padding = need <= to_end ? 0 : to_end;
    if (next_ - published_ + padding + need > capacity_ / 2) return nullptr;
    // Never back: the bytes of a longer claim that was shortened or forgotten have perhaps been written.
    const std::uint64_t end = next_ + padding + need;
    if (end - next_ > intent_ - next_) {
      intent_ = end + ahead_;
      store_relaxed(&page_.intent, intent_);
    }
    // The stores to the record must not be seen before intent is: a reader that reads one of them, and intent behind an
    // acquire fence of its own, then finds this intent. (On x86 stores stay in order: this is for the compiler.)
    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (padding != 0) {
      const auto rest = static_cast<std::uint32_t>(to_end - BroadcastHeader::kBytes);
      put_header(at, BroadcastHeader::make(rest, 0) | BroadcastHeader::kPadding, sequence_);
      next_ += padding;
      at = 0;
    }
    return data_ + at + BroadcastHeader::kBytes;
  }

  /// Ends the claimed record, with at most the bytes claimed.
  void commit(std::uint32_t size, std::uint16_t type = 0) {
    put_header(next_ & (capacity_ - 1), BroadcastHeader::make(size, type), sequence_++);
    latest_ = next_;
    next_ += BroadcastHeader::record(size);
  }

  /// Shows readers all that was committed.
  void publish() {
    if (next_ == published_) return;
    published_ = next_;
    // latest before tail: a reader that has seen tail finds a latest that is at least as new.
    store_relaxed(&page_.latest, latest_);
    store_release(&page_.tail, next_);  // release: the records are there before tail says so
  }

  /// claim, copy, commit; not yet published. False: as claim().
  [[nodiscard]] bool put(std::span<const std::byte> payload, std::uint16_t type = 0) {
    if (payload.size() > longest()) return false;
    const auto size = static_cast<std::uint32_t>(payload.size());
    std::byte* const to = claim(size);
    if (to == nullptr) return false;
    copy_once(to, payload.data(), size);  // readers may be reading what it overwrites
    commit(size, type);
    return true;
  }
  /// put and publish. False: longer than longest().
  [[nodiscard]] bool push(std::span<const std::byte> payload, std::uint16_t type = 0) {
    if (payload.size() > longest()) return false;
    if (!put(payload, type)) {
      publish();
      if (!put(payload, type)) return false;
    }
    publish();
    return true;
  }

 private:
  void put_header(std::uint64_t at, std::uint64_t header, std::uint64_t sequence) {
    // SAFETY: `at` is masked and a multiple of 16.
    auto* const words = reinterpret_cast<std::uint64_t*>(data_ + at);
    store_relaxed(words, header);
    store_relaxed(words + 1, sequence);
  }

  BroadcastPage& page_;
  std::byte* data_;
  std::uint64_t capacity_;
  std::uint64_t next_;
  std::uint64_t published_;
  std::uint64_t latest_;
  std::uint64_t intent_;  // at or ahead of next_
  std::uint64_t ahead_ = 0;
  std::uint64_t sequence_ = 0;
};

/// What a look at a broadcast ring has found.
enum class Found : std::uint32_t {
  kNothing,    // no new record
  kRecord,     // one
  kOverrun,    // the writer was faster; look again, from the latest record on. lost() counts with the next record
  kViolation,  // Hostile only: the writer was caught, now or before
};

struct BroadcastRecord {
  std::uint64_t sequence = 0;
  std::uint32_t size = 0;  // of the payload, which may be more than was copied
  std::uint16_t type = 0;
};

template <class Policy>
class alignas(kApart) BroadcastReader {
 public:
  /// Begins with the first record that ever was; what is overwritten of it by now is counted as lost. join() begins
  /// with the present. `own`: a page of the reader's for publish_cursor(), or null.
  BroadcastReader(const BroadcastPage& page, std::uint64_t capacity, std::uint64_t start = 0,
                  BroadcastReaderPage* own = nullptr)
      : page_(page),
        // SAFETY: the part goes on behind its page (broadcast_part_bytes).
        data_(reinterpret_cast<const std::byte*>(&page) + kPageBytes),
        own_(own),
        capacity_(capacity),
        next_(start),
        seen_(start) {}

  /// Records that this reader did not get, of those up to the last it got (from the first on, or from where it joined).
  [[nodiscard]] std::uint64_t lost() const { return lost_; }
  /// Number of the record expected next.
  [[nodiscard]] std::uint64_t sequence() const { return expected_; }
  [[nodiscard]] const Violation& violation() const { return violation_; }

  /// Goes to the present: the next record read is the latest one there is, or with `skip_latest` the first after it.
  /// Nothing before it counts as lost. kRecord: done; kNothing: there is no record yet, and the first will be the next;
  /// kOverrun: the writer was faster, try again.
  [[nodiscard]] Found join(bool skip_latest = false) {
    if (!refresh()) return Found::kViolation;
    if (seen_ == next_) return Found::kNothing;  // nothing was written since the cursor; it stays
    const bool moved = go_to_latest();
    if (violation_) return Found::kViolation;
    if (!moved) return Found::kOverrun;
    const Found found = look();
    if (found != Found::kRecord) return found;
    expected_ = current_.sequence;  // what came before is not lost
    if (skip_latest) accept();
    return Found::kRecord;
  }

  /// The next record, copied: at most out.size() bytes of its payload, each read once, and only if they were whole.
  [[nodiscard]] Found read(std::span<std::byte> out, BroadcastRecord& record) {
    const Found found = look();
    if (found != Found::kRecord) return found;
    const std::size_t size = out.size() < current_.size ? out.size() : current_.size;
    Policy::copy_racing(out.data(), payload_, size);
    if (!still_there()) return overrun();
    record = current_;
    accept();
    return Found::kRecord;
  }

  /// Several of the next records, at most `most`: for each in turn `take(record, payload)` copies what it wants of the
  /// payload, or returns false to leave it and all behind it. Nothing that was copied may be believed unless this
  /// returns kRecord; then `taken` records were whole, and are done with. Costs less than as many read(): the line that
  /// the writer stores to for every record is read twice for all of them, and not twice for each.
  template <class Take>
  [[nodiscard]] Found read_some(std::uint32_t most, std::uint32_t& taken, Take&& take)
    requires Policy::kTrustsPeer
  {
    taken = 0;
    if (most > kSome) most = kSome;
    const Found found = look();
    if (found != Found::kRecord) return found;
    // Headers first, from the one look() has checked: what they say is believed after one look at intent.
    struct Header {
      std::uint64_t header, sequence, at;
    };
    Header headers[kSome];
    std::uint32_t count = 0;
    std::uint64_t at = next_;
    while (count != most && seen_ - at - 1 < capacity_) {
      const std::uint64_t offset = at & (capacity_ - 1);
      // SAFETY: masked, and positions are multiples of 16 whatever the headers say.
      const auto* const words = reinterpret_cast<const std::uint64_t*>(data_ + offset);
      __builtin_prefetch(data_ + ((at + kAhead) & (capacity_ - 1)));
      const std::uint64_t header = load_relaxed(words);
      if ((header & BroadcastHeader::kPadding) != 0) {
        at += capacity_ - offset;
        continue;
      }
      headers[count++] = {header, load_relaxed(words + 1), at};
      at += BroadcastHeader::record(BroadcastHeader::size(header));
    }
    if (!still_there()) return overrun();
    for (std::uint32_t i = 0; i != count; ++i) {
      const BroadcastRecord record{headers[i].sequence, BroadcastHeader::size(headers[i].header),
                                   BroadcastHeader::type(headers[i].header)};
      const std::byte* const payload = data_ + (headers[i].at & (capacity_ - 1)) + BroadcastHeader::kBytes;
      if (!take(record, payload)) break;
      ++taken;
    }
    if (taken == 0) return Found::kNothing;
    if (!still_there()) {
      taken = 0;
      return overrun();
    }
    // Without an overrun in between numbers are consecutive, but for the first.
    const Header& last = headers[taken - 1];
    lost_ += headers[0].sequence - expected_;
    expected_ = last.sequence + 1;
    next_ = last.at + BroadcastHeader::record(BroadcastHeader::size(last.header));
    resynchronised_ = false;
    return Found::kRecord;
  }
  static constexpr std::uint32_t kSome = 32;

  /// The next record where it lies: `payload` until still_there() says no. Then advance().
  [[nodiscard]] Found peek(std::span<const std::byte>& payload, BroadcastRecord& record)
    requires Policy::kTrustsPeer
  {
    const Found found = look();
    if (found != Found::kRecord) return found;
    payload = {payload_, current_.size};
    record = current_;
    return found;
  }
  /// Whether the record last looked at was whole until now: everything read from it before this call was.
  [[nodiscard]] bool still_there() const {
    // Acquire fence: the reads of the record come before the read of intent.
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return load_relaxed(&page_.intent) - position_ <= capacity_;
  }
  /// After peek(): true, and the record is done with and counts as read; false: it was overwritten meanwhile, and
  /// nothing that was read from it may be believed.
  [[nodiscard]] bool advance()
    requires Policy::kTrustsPeer
  {
    if (!still_there()) {
      (void)overrun();
      return false;
    }
    accept();
    return true;
  }

  /// Writes position, number and losses to the reader's own page, for others to see.
  void publish_cursor() {
    if (own_ == nullptr) return;
    store_relaxed(&own_->position, next_);
    store_relaxed(&own_->sequence, expected_);
    store_relaxed(&own_->lost, lost_);
    store_release(&own_->magic, kBroadcastReaderMagic);
  }

 private:
  // How far ahead of a header read_some() asks for memory, in bytes: the next header's place depends on this one.
  static constexpr std::uint64_t kAhead = 512;

  // The header at next_, checked: position_, current_ and payload_.
  [[nodiscard]] Found look() {
    if (next_ == seen_) {
      if (!refresh()) return Found::kViolation;
      if (next_ == seen_) return Found::kNothing;
    }
    if constexpr (!Policy::kTrustsPeer) {
      if (violation_) return Found::kViolation;
    }
    for (bool padded = false;; padded = true) {
      const std::uint64_t at = next_ & (capacity_ - 1);
      const std::uint64_t to_end = capacity_ - at;
      // SAFETY: masked, and positions are multiples of 16 whatever the writer says.
      const auto* const words = reinterpret_cast<const std::uint64_t*>(data_ + at);
      const std::uint64_t header = load_relaxed(words);
      const std::uint64_t sequence = load_relaxed(words + 1);
      position_ = next_;
      if (!still_there()) return overrun();  // before anything of it is believed, even its length
      if ((header & BroadcastHeader::kPadding) != 0) {
        if constexpr (!Policy::kTrustsPeer) {
          const std::uint64_t bytes = BroadcastHeader::record(BroadcastHeader::size(header));
          if (bytes != to_end || padded || at == 0) return caught(Reason::kPadding, bytes, to_end);
          if (bytes > seen_ - next_) return caught(Reason::kLength, bytes, seen_ - next_);
        }
        next_ += to_end;
        if (next_ == seen_) {
          if (!refresh()) return Found::kViolation;
          if (next_ == seen_) return Found::kNothing;
        }
        continue;
      }
      if constexpr (!Policy::kTrustsPeer) {
        const std::uint64_t bytes = BroadcastHeader::record(BroadcastHeader::size(header));
        std::uint64_t most = seen_ - next_ < to_end ? seen_ - next_ : to_end;
        if (most > capacity_ / 4) most = capacity_ / 4;
        if (bytes > most) return caught(Reason::kLength, bytes, most);
        // Without an overrun the number is the next one; after one it is a later one.
        const bool sound = resynchronised_ ? sequence - expected_ < std::uint64_t{1} << 63 : sequence == expected_;
        if (!sound) return caught(Reason::kSequence, sequence, expected_);
      }
      current_ = {sequence, BroadcastHeader::size(header), BroadcastHeader::type(header)};
      payload_ = data_ + at + BroadcastHeader::kBytes;
      return Found::kRecord;
    }
  }

  void accept() {
    lost_ += current_.sequence - expected_;
    expected_ = current_.sequence + 1;
    next_ += BroadcastHeader::record(current_.size);
    resynchronised_ = false;
  }

  [[nodiscard]] Found overrun() {
    (void)go_to_latest();
    return violation_ ? Found::kViolation : Found::kOverrun;
  }

  // Looks at tail. Positions are compared by signed distance: a reader that slept can be any number of rings behind.
  [[nodiscard]] bool refresh() {
    const std::uint64_t value = load_acquire(&page_.tail);  // acquire: the records up to it are there
    if constexpr (!Policy::kTrustsPeer) {
      if (violation_) return false;
      if (value - seen_ >= std::uint64_t{1} << 63) return fault(Reason::kIndex, value, seen_);
      if (value % BroadcastHeader::kBytes != 0) return fault(Reason::kAlignment, value, BroadcastHeader::kBytes);
    }
    seen_ = value;
    return true;
  }

  // True: next_ is at the latest record. False: a violation, or the writer is just publishing; next_ is where it was.
  [[nodiscard]] bool go_to_latest() {
    // latest before tail, so that tail is usually the newer one, and what lies at latest can be read. As latest is
    // stored before its tail, the reader can also fall in between; then the next look finds both.
    const std::uint64_t latest = load_acquire(&page_.latest);
    if (!refresh()) return false;
    if constexpr (!Policy::kTrustsPeer) {
      if (latest % BroadcastHeader::kBytes != 0) return fault(Reason::kAlignment, latest, BroadcastHeader::kBytes);
    }
    if (seen_ - latest - 1 >= capacity_) return false;
    next_ = latest;
    resynchronised_ = true;
    return true;
  }

  Found caught(Reason reason, std::uint64_t value, std::uint64_t limit) {
    (void)fault(reason, value, limit);
    return Found::kViolation;
  }
  bool fault(Reason reason, std::uint64_t value, std::uint64_t limit) {
    if (!violation_) violation_ = {reason, value, limit};
    return false;
  }

  const BroadcastPage& page_;
  const std::byte* data_;
  BroadcastReaderPage* own_;
  std::uint64_t capacity_;
  std::uint64_t next_;  // position of the next record
  std::uint64_t seen_;  // tail when it was last looked at
  std::uint64_t expected_ = 0;
  std::uint64_t lost_ = 0;
  bool resynchronised_ = false;  // next_ is not behind the last record accepted, but at a later one
  std::uint64_t position_ = 0;   // of the record last looked at
  const std::byte* payload_ = nullptr;
  BroadcastRecord current_;
  Violation violation_;
};

}  // namespace warmfork::ring
