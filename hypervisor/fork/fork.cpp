#include "fork/fork.hpp"

#include "base/entropy.hpp"
#include "base/resident_pages.hpp"
#include "base/tsc_clock.hpp"
#include "fork/page_copy.hpp"
#include "fork/space_forks.hpp"
#include "fork/vm_forks.hpp"
#include "metrics/metrics.hpp"
#include "trace/trace.hpp"
#include "warmfork/abi/fork_info.hpp"

#include <array>
#include <atomic>
#include <cstring>

namespace warmfork {
namespace {

constexpr trace::Kind kReset{"fork", "reset", "pages_copied"};

NullIo no_io;

std::uint64_t next_generation() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

// What resets leave in the metrics, by ResetMode; kAuto is none that a fork has.
struct ResetMetrics {
  explicit ResetMetrics(ResetMode mode)
      : resets(metrics::counter(metrics::Family::kResets, {name_of(mode)})),
        pages(metrics::counter(metrics::Family::kResetPages, {name_of(mode)})),
        duration(metrics::histogram(metrics::Family::kResetDuration, {name_of(mode)})) {}
  metrics::Counter resets, pages;
  metrics::Histogram duration;
};
const std::array kResetMetrics{ResetMetrics(ResetMode::kFullCopy), ResetMetrics(ResetMode::kDirtyLog),
                               ResetMetrics(ResetMode::kDirtyRing), ResetMetrics(ResetMode::kCowRemap)};
const ResetMetrics& metrics_of(ResetMode mode) {
  return kResetMetrics[static_cast<std::size_t>(mode) - static_cast<std::size_t>(ResetMode::kFullCopy)];
}

}  // namespace

Fork::Fork(std::shared_ptr<const Snapshot> snapshot, const ForkOptions& options, const SharedBindings& shared)
    : snapshot_(std::move(snapshot)), options_(options) {
  options_.shared = shared;
  program_ = snapshot_->program();
  call_stack_ = snapshot_->call_stack();
}

Fork::~Fork() {
  if (cpu_ != nullptr && space_ != nullptr) cpu_->release(*space_);
  strategy_.reset();
  if (home_.leave) home_.leave();
}

Status Fork::make_window(Population population) {
  const GuestLayout& layout = *snapshot_->layout();
  const std::span<const std::byte> frozen = snapshot_->window();
  // Only windows with 2 MiB pages need their alignment.
  const bool large = layout.heap().size >= 2 * x86::kLargePageSize;
  const std::size_t skew = large ? layout.window_skew() : 0;
  const std::size_t alignment = large ? x86::kLargePageSize : kPage;
  population_ = population;
  if (population == Population::kCow) {
    WARMFORK_TRY_ASSIGN(window_, Mapping::private_file(snapshot_->window_fd(), frozen.size(), skew, alignment));
  } else {
    WARMFORK_TRY_ASSIGN(window_, Mapping::anonymous(skew + frozen.size(), alignment));
  }
  if (population != Population::kCow) {
    // The pages about to be written appear at once, which is cheaper than one fault each.
    snapshot_->nonzero().for_each_run([&](std::size_t first, std::size_t count) {
      populate_pages(window_.bytes().subspan(skew + first * kPage, count * kPage));
    });
  }
  return {};
}

void Fork::fill_window() {
  const PageSet& pages = population_ == Population::kCow ? snapshot_->delta() : snapshot_->nonzero();
  std::byte* const to = space_->window().data();
  const std::byte* const from = snapshot_->window().data();
  pages.for_each_run([&](std::size_t first, std::size_t count) {
    std::memcpy(to + first * kPage, from + first * kPage, count * kPage);
  });
}

Status Fork::settle(Home home, Population population, ResetMode mode) {
  const std::uint64_t begin = tsc_now();
  WARMFORK_TRY(make_window(population));
  const std::size_t bytes = snapshot_->window().size();
  const GuestRegions regions{.image = snapshot_->image(),
                             .code = snapshot_->code_region().bytes,
                             .window = window_.bytes().last(bytes),
                             .tables = home.tables,
                             .window_gpa = home.window_gpa,
                             .tables_gpa = home.tables_gpa,
                             .window_slot = home.window_slot,
                             .shared = home.shared};
  WARMFORK_TRY_ASSIGN(space_, AddressSpace::build(snapshot_->layout(), regions));
  if (!snapshot_->overrides().empty()) WARMFORK_TRY(space_->rebuild_tables(snapshot_->overrides()));
  space_->set_backing({.nonzero = &snapshot_->nonzero(), .file_backed = population == Population::kCow});
  if (options_.kind == ForkKind::kVm) own_vm_ = home.vm;
  WARMFORK_TRY(space_->attach_window(*home.vm, tracking_needs(mode, *snapshot_).window_flags));
  process_.emplace(*space_, options_.io != nullptr ? *options_.io : no_io, linux_abi::ProcessConfig{});
  if (options_.heap_limit_bytes != 0) process_->limit_heap(options_.heap_limit_bytes);
  mode_ = mode;
  strategy_ = make_reset_strategy(mode, options_.reset == ResetMode::kAuto, {*snapshot_, *space_, *home.vm});
  const std::uint64_t prepared = tsc_now_ordered();
  fill_window();
  WARMFORK_TRY(begin_life());
  times_ = {.prepare_ticks = prepared - begin, .fill_ticks = tsc_now_ordered() - prepared};
  home_ = std::move(home);  // last: a fork that could not be made leaves the home to its source
  return {};
}

Status Fork::begin_life() {
  process_->restore(snapshot_->book());
  process_->reseed(options_.seed);
  ForkInfo info{};
  std::array<std::byte, 16> program_random;
  if (options_.seed) {
    process_->fill_random(std::as_writable_bytes(std::span(info.random)));
    process_->fill_random(program_random);
  } else {
    std::array<std::byte, sizeof info.random + program_random.size()> random;
    draw_entropy(random);
    std::memcpy(info.random, random.data(), sizeof info.random);
    std::memcpy(program_random.data(), random.data() + sizeof info.random, program_random.size());
  }
  info.generation = generation_ = next_generation();
  info.instruction_budget = options_.instruction_budget;
  space_->set_fork_info(info);
  if (const Gva at = snapshot_->book().random_bytes; at.value != 0) WARMFORK_TRY(space_->write(at, program_random));
  fault_.reset();
  host_error_.reset();
  exit_code_ = 0;
  state_ = State::kReady;
  pristine_entry_ = true;
  if (cpu_ != nullptr && cpu_->runs(*space_)) cpu_->begin_life();
  return {};
}

Status Fork::bind(GuestCpu& cpu) {
  if (state_ == State::kServing) return Failure(describe_unready("bind"));
  if (cpu_ != nullptr && cpu_ != &cpu) {
    WARMFORK_TRY(cpu_->leave(*space_));
  }
  cpu_ = &cpu;
  WARMFORK_TRY_ASSIGN(const bool changed, cpu.take_over(*space_));
  if (!changed) return {};
  pristine_entry_ = true;
  if (state_ == State::kStopped) {  // where it was stopped was in the processor's registers
    state_ = State::kEnded;
    host_error_ = Error{ErrorKind::kUsage, fmt::format("{}: the stopped call has lost its vCPU", program_->name)};
  }
  return {};
}

Status Fork::reset() {
  const metrics::Timer timer;
  trace::Span span(kReset);
  const std::uint64_t before = stats_.pages_copied;
  Status done = put_back();
  const std::uint64_t copied = stats_.pages_copied - before;
  span.argument(copied);
  if (timer.runs() && done) {
    const ResetMetrics& metrics = metrics_of(mode_);
    metrics.resets.add();
    metrics.pages.add(copied);
    metrics.duration.record_ticks(timer.ticks());
  }
  return done;
}

Status Fork::put_back() {
  if (state_ == State::kServing) [[unlikely]]
    return Failure(describe_unready("reset"));
  if (cpu_ != nullptr && cpu_->runs(*space_)) {
    if (!cpu_->clean()) [[unlikely]]
      WARMFORK_TRY(cpu_->recover());
    WARMFORK_TRY(cpu_->collect_dirty(*space_));
  }
  if (state_ != State::kReady) [[unlikely]] {
    // The processor may have pushed a frame; not every KVM calls that a write of the guest's.
    const auto stack = snapshot_->layout()->window_offset(snapshot_->layout()->exception_stack().begin);
    if (stack) space_->dirty().add(*stack / kPage);
  }
  if (space_->tables_changed()) [[unlikely]]
    WARMFORK_TRY(space_->rebuild_tables(snapshot_->overrides()));
  ++stats_.resets;
  WARMFORK_TRY(strategy_->reset(stats_));
  return begin_life();
}

Result<std::uint64_t> Fork::private_bytes() const {
  std::uint64_t pages = space_->tables_used();
  WARMFORK_TRY(for_each_private_page(space_->window(), [&](std::size_t) { ++pages; }));
  return pages * kPage;
}

namespace {

struct ForkMetrics {
  explicit ForkMetrics(ForkKind kind)
      : forks(metrics::counter(metrics::Family::kForks, {name_of(kind)})),
        duration(metrics::histogram(metrics::Family::kForkDuration, {name_of(kind)})) {}
  metrics::Counter forks;
  metrics::Histogram duration;
};
const ForkMetrics kVmForks(ForkKind::kVm), kSpaceForks(ForkKind::kSpace);

}  // namespace

Result<std::unique_ptr<Fork>> ForkSource::make_with(const SharedBindings& shared) {
  const metrics::Timer timer;
  auto made = make_one(shared);
  if (timer.runs() && made) {
    const ForkMetrics& metrics = kind() == ForkKind::kVm ? kVmForks : kSpaceForks;
    metrics.forks.add();
    metrics.duration.record_ticks(timer.ticks());
  }
  return made;
}

Result<std::unique_ptr<ForkSource>> make_fork_source(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot,
                                                     const ForkOptions& options, std::size_t capacity) {
  WARMFORK_TRY(check_bindings(*snapshot->layout(), options.shared));
  if (options.kind == ForkKind::kVm) return VmForks::create(kvm, std::move(snapshot), options);
  return SpaceForks::create(kvm, std::move(snapshot), options, capacity);
}

}  // namespace warmfork
