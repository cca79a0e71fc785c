#include "lc3/jit/code_cache.hpp"

#include "lc3/jit/version.hpp"
#include "lc3/jit/xbyak_compiler.hpp"
#include "trace/trace.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace warmfork::lc3::jit {
namespace {

constexpr std::size_t kPageSize = 4096;
constexpr std::size_t kSharedVersions = 8;  // that are looked through for one that is the same

struct TierMetrics {
  explicit TierMetrics(std::string_view tier)
      : compiles(metrics::counter(metrics::Family::kJitCompiles, {tier})),
        blocks(metrics::gauge(metrics::Family::kJitBlocks, {tier})),
        code_bytes(metrics::gauge(metrics::Family::kJitCodeBytes, {tier})),
        duration(metrics::histogram(metrics::Family::kJitCompileDuration, {tier})) {}
  metrics::Counter compiles;
  metrics::Gauge blocks, code_bytes;
  metrics::Histogram duration;
};
const TierMetrics fast_metrics("xbyak"), better_metrics("orc");
const metrics::Counter disk_hits = metrics::counter(metrics::Family::kJitCache, {"hit"});
const metrics::Counter disk_misses = metrics::counter(metrics::Family::kJitCache, {"miss"});
const metrics::Counter disk_refusals = metrics::counter(metrics::Family::kJitCache, {"refused"});

constexpr trace::Kind kCompile{"jit", "compile", "instructions"};

}  // namespace

Result<std::uint64_t> CodeCache::compile(const Request& request) {
  const std::lock_guard lock(mutex_);
  WARMFORK_TRY_ASSIGN(const Made made, make(request, false));
  if (made.id != 0 && observer_) observer_(made);
  return made.address;
}

Result<Made> CodeCache::compile_counting(const Request& request) {
  const std::lock_guard lock(mutex_);
  return make(request, true);
}

Result<Made> CodeCache::make(const Request& request, bool counting) {
  trace::Span span(kCompile);
  const auto begin = std::chrono::steady_clock::now();
  for (const std::uint16_t address : request.lost) {
    if (losses_[address] < options_.tolerated_losses) {
      ++losses_[address];
    } else {
      left_out_.set(address);
    }
  }
  if (!is_root_[request.pc]) {
    is_root_.set(request.pc);
    roots_.push_back(request.pc);
  }

  Passes passes = options_.passes;
  if (counting) passes.forwarding = false;  // every load and store is counted where it is
  Unit unit = translate_all(request.words, request.lea_sets_cc, passes);
  if (unit.blocks.empty()) {
    ++counters_.refusals;
    return Made{};
  }
  // A machine that has just lost a version does not look at it again: it gets a new one of the same.
  const bool may_share = shared_words_.has_value() && !counting;
  if (may_share && request.lost.empty()) {
    for (const Shared& earlier : made_shared_) {
      if (earlier.unit == unit) return Made{.address = earlier.address};
    }
  }
  if (const std::string wrong = verify(unit); !wrong.empty()) {
    return fail(ErrorKind::kUnsupported, "compiling from x{:04X}: {}", request.pc, wrong);
  }
  // Reading a file takes less time than compiling, so the machine waits for it.
  std::optional<MachineCode> found;
  // A file's code has no marks.
  const bool marks = options_.names != nullptr && options_.names->wants_marks();
  if (options_.disk != nullptr && !counting && !marks) found = options_.disk->find(unit, request.words);
  const bool optimised = found.has_value();
  WARMFORK_TRY_ASSIGN(const MachineCode code, optimised  ? Result<MachineCode>(*std::move(found))
                                              : counting ? compile_with_xbyak(unit, {.marks = marks, .counting = true})
                                              : options_.compiler
                                                  ? options_.compiler(unit, space_.address + used_ + kCodeText)
                                                  : compile_with_xbyak(unit, {.marks = marks}));
  const std::span<std::byte> place = allocate(version_bytes(unit, code), true);
  if (place.empty()) {
    ++counters_.refusals;
    return Made{};
  }
  // Only its words are looked at: none of a block has been left out.
  WARMFORK_TRY(write_version(unit, code, {request.words, left_out_, request.lea_sets_cc}, ++last_id_, place));
  ++counters_.versions;
  if (optimised) ++counters_.optimised;
  std::uint64_t instructions = 0;
  for (const auto& [first, block] : unit.blocks) instructions += block.count;
  counters_.instructions += instructions;
  span.argument(instructions);
  counters_.code_bytes += code.bytes.size();
  const auto took =
      static_cast<std::uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count());
  counters_.compile_ns += took;
  (optimised ? better_ : fast_).add(unit, code);
  if (!optimised) {
    ++fast_.compiles;
    fast_metrics.duration.record_ns(took);
  }
  const std::uint64_t address = address_of(place);
  name(address, code);
  if (may_share) {
    if (made_shared_.size() == kSharedVersions) made_shared_.erase(made_shared_.begin());
    made_shared_.push_back({unit, address});
  }
  Made made{.id = last_id_, .address = address, .epoch = epoch_, .optimised = optimised};
  if (observer_ || counting) {
    auto words = std::make_shared<std::array<std::uint16_t, kMemoryWords>>();
    std::ranges::copy(request.words, words->begin());
    made.words = std::move(words);
    made.unit = std::make_shared<const Unit>(std::move(unit));
  }
  return made;
}

Result<bool> CodeCache::replace(const Made& made, const MachineCode& code, std::uint64_t took_ns) {
  const std::lock_guard lock(mutex_);
  // Alone, a machine only ever uses the latest.
  if (made.epoch != epoch_ || (!shared_words_ && made.id != last_id_)) return false;
  const std::span<std::byte> place = allocate(version_bytes(*made.unit, code), false);
  if (place.empty()) {
    ++counters_.refusals;
    return false;
  }
  const WordSet none;
  WARMFORK_TRY(write_version(*made.unit, code, {*made.words, none, made.unit->lea_sets_cc}, ++last_id_, place));
  name(address_of(place), code);
  ++counters_.optimised;
  counters_.optimise_ns += took_ns;
  better_.add(*made.unit, code);
  ++better_.compiles;
  better_metrics.duration.record_ns(took_ns);
  // SAFETY: written by write_version(), in this epoch; machines read it at the same time.
  auto* header = reinterpret_cast<CodeVersion*>(space_.host.data() + (made.address - space_.address));
  std::atomic_ref(header->successor).store(address_of(place), std::memory_order_release);
  return true;
}

Unit CodeCache::translate_all(std::span<const std::uint16_t, kMemoryWords> words, bool lea_sets_cc,
                              const Passes& passes) const {
  WordSet left_out = left_out_;
  if (shared_words_) {
    for (std::uint32_t i = 0; i < kMemoryWords; ++i) {
      if (words[i] != (*shared_words_)[i]) left_out.set(i);
    }
  }
  Unit unit = translate({words, left_out, lea_sets_cc}, roots_, options_.max_instructions);
  run_passes(unit, passes);
  return unit;
}

Unit CodeCache::unit(std::span<const std::uint16_t, kMemoryWords> words, bool lea_sets_cc) const {
  const std::lock_guard lock(mutex_);
  return translate_all(words, lea_sets_cc, options_.passes);
}

void CodeCache::clear() {
  const std::lock_guard lock(mutex_);
  roots_.clear();
  is_root_.reset();
  left_out_.reset();
  std::ranges::fill(losses_, std::uint8_t{0});
  shared_words_.reset();
  made_shared_.clear();
  begin_anew();
}

void CodeCache::begin_anew() {
  used_ = 0;
  fast_.blocks = fast_.code_bytes = better_.blocks = better_.code_bytes = 0;
  ++epoch_;
  if (options_.names != nullptr) options_.names->clear();
}

std::span<std::byte> CodeCache::allocate(std::size_t bytes, bool may_restart) {
  const std::size_t rounded = (bytes + kPageSize - 1) / kPageSize * kPageSize;
  if (rounded > space_.host.size() - used_) {
    // Alone, the machine that asks is stopped, and goes on in the new version only.
    if (!may_restart || shared_words_ || rounded > space_.host.size()) return {};
    begin_anew();
    ++counters_.restarts;
  }
  const auto place = space_.host.subspan(used_, rounded);
  if (used_ < touched_) std::memset(place.data(), 0, std::min<std::size_t>(kCodeText, touched_ - used_));
  used_ += rounded;
  touched_ = std::max(touched_, used_);
  return place;
}

bool CodeCache::shared() const {
  const std::lock_guard lock(mutex_);
  return shared_words_.has_value();
}

void CodeCache::share(std::span<const std::uint16_t, kMemoryWords> words) {
  const std::lock_guard lock(mutex_);
  shared_words_.emplace(words.begin(), words.end());
}

void CodeCache::collect(metrics::Collector& collector) const {
  const CacheCounters disk = counters();
  collector.add(disk_hits, disk.disk_hits);
  collector.add(disk_misses, disk.disk_misses);
  collector.add(disk_refusals, disk.disk_refused);
  const std::lock_guard lock(mutex_);
  const auto add = [&](const TierMetrics& metrics, const Tier& tier) {
    collector.add(metrics.compiles, tier.compiles);
    collector.add(metrics.blocks, static_cast<double>(tier.blocks));
    collector.add(metrics.code_bytes, static_cast<double>(tier.code_bytes));
  };
  add(fast_metrics, fast_);
  add(better_metrics, better_);
}

CacheCounters CodeCache::counters() const {
  const std::lock_guard lock(mutex_);
  CacheCounters counters = counters_;
  if (options_.disk != nullptr) {
    const DiskCounters disk = options_.disk->counters();
    counters.disk_hits = disk.hits;
    counters.disk_misses = disk.misses;
    counters.disk_refused = disk.refused;
    counters.disk_written = disk.written;
    counters.disk_failures = disk.failures;
    counters.disk_trimmed = disk.trimmed;
  }
  return counters;
}

std::vector<std::uint16_t> lost_since(const CodeUse& use, std::uint32_t before) {
  constexpr std::uint32_t kRing = sizeof CodeUse::lost / sizeof CodeUse::lost[0];
  std::vector<std::uint16_t> lost;
  const std::uint32_t count = std::min(use.lost_count - before, kRing);
  for (std::uint32_t i = use.lost_count - count; i != use.lost_count; ++i) lost.push_back(use.lost[i % kRing]);
  return lost;
}

}  // namespace warmfork::lc3::jit
