#include "fork/pool_forks.hpp"

#include <algorithm>
#include <utility>

namespace warmfork {
namespace {

constexpr std::size_t kMostForks = std::size_t{1} << 16;

}  // namespace

Status PoolForks::open(const kvm::Kvm& kvm, const std::shared_ptr<const Snapshot>& snapshot, const PoolOptions& options,
                       std::vector<PoolEntry*>& free) {
  if (options.most == 0 || options.ready > options.most) {
    return fail(ErrorKind::kUsage, "a pool with {} forks made ahead and {} at most", options.ready, options.most);
  }
  std::size_t limit = kMostForks;
  const bool shares_vm = options.fork.kind == ForkKind::kSpace;
  if (shares_vm) {
    const int vcpus = std::max(kvm.check_extension(KVM_CAP_MAX_VCPUS), kvm.check_extension(KVM_CAP_NR_VCPUS));
    limit = std::min(limit, static_cast<std::size_t>(std::max(vcpus, 4)));  // api.rst: 4 where neither is reported
  }
  if (options.most > limit) {
    return fail(ErrorKind::kLimit, "a pool of {} {} forks, at most {} can run at once{}", options.most,
                name_of(options.fork.kind), limit, shares_vm ? " in one VM of this KVM" : "");
  }
  most_ = options.most;
  // Nothing on the way of a released fork allocates.
  entries_.reserve(options.most);
  free.reserve(options.most);
  fresh_.reserve(options.most);
  idle_cpus_.reserve(options.most);
  WARMFORK_TRY_ASSIGN(source_, make_fork_source(kvm, snapshot, options.fork, options.most));
  for (std::size_t i = 0; i < options.ready; ++i) {
    Parts parts;
    // The first one gets its vCPU at once: where vCPUs cannot be made, that is known here.
    const bool complete = !shares_vm || i == 0;
    if (complete) {
      WARMFORK_TRY(prepare(parts));
    } else {
      WARMFORK_TRY_ASSIGN(parts.fork, source_->make());
    }
    entries_.push_back(std::make_unique<PoolEntry>());
    take_parts(*entries_.back(), std::move(parts));
    (complete ? free : fresh_).push_back(entries_.back().get());
    counts_.usable += complete ? 1 : 0;
    ++counts_.alive;
  }
  return {};
}

bool PoolForks::may_grow() const {
  if (!has_room()) return false;
  return hopeless() || Clock::now() >= grow_again_;
}

// A fork with a vCPU. The KVM objects are made without the lock: that takes milliseconds.
Result<PoolEntry*> PoolForks::grow(Lock& lock) {
  PoolEntry* entry = nullptr;
  if (fresh_.empty()) {
    entries_.push_back(std::make_unique<PoolEntry>());
    entry = entries_.back().get();
    ++counts_.alive;
  } else {
    entry = fresh_.back();
    fresh_.pop_back();
  }
  Parts parts{.fork = std::move(entry->fork)};
  if (!idle_cpus_.empty()) {
    parts.spare = idle_cpus_.back();
    idle_cpus_.pop_back();
  }
  ++counts_.making;
  lock.unlock();
  Status made = prepare(parts);
  lock.lock();
  --counts_.making;
  if (made) ++counts_.usable;
  take_parts(*entry, std::move(parts));
  if (made) return entry;
  grow_again_ = Clock::now() + kGrowAgainAfter;
  if (entry->fork) {
    fresh_.push_back(entry);
  } else {
    std::erase_if(entries_, [&](const auto& each) { return each.get() == entry; });
    --counts_.alive;
  }
  return Failure(std::move(made).error());
}

void PoolForks::take_parts(PoolEntry& entry, Parts parts) {
  entry.fork = std::move(parts.fork);
  entry.cpu = parts.cpu;
  counts_.vcpus += parts.vcpus_made;
  if (parts.spare != nullptr) idle_cpus_.push_back(parts.spare);
}

// Without the lock.
Status PoolForks::prepare(Parts& parts) {
  const std::scoped_lock making(source_mutex_);
  if (!parts.fork) {
    WARMFORK_TRY_ASSIGN(parts.fork, source_->make());
  }
  if (source_->kind() == ForkKind::kVm) {
    parts.cpu = &parts.fork->cpu();
    ++parts.vcpus_made;
    return {};
  }
  // What a fork that could not be reset has left behind may be broken itself; then it lies idle until the VM goes.
  if (parts.spare != nullptr && !parts.fork->bind(*parts.spare)) parts.spare = nullptr;
  if (parts.spare == nullptr) {
    WARMFORK_TRY_ASSIGN(parts.spare, source_->make_cpu());
    ++parts.vcpus_made;
    WARMFORK_TRY(parts.fork->bind(*parts.spare));
  }
  parts.cpu = std::exchange(parts.spare, nullptr);
  return {};
}

void PoolForks::discard(Lock& lock, PoolEntry& entry) {
  const auto found = std::ranges::find(entries_, &entry, &std::unique_ptr<PoolEntry>::get);
  const std::unique_ptr<PoolEntry> gone = std::move(*found);
  entries_.erase(found);
  --counts_.usable;
  ++counts_.replaced;
  ++counts_.broken;
  ++counts_.making;  // whoever finds no fork at all must wait for the room this one leaves
  lock.unlock();
  gone->fork.reset();
  lock.lock();
  --counts_.making;
  --counts_.broken;
  --counts_.alive;
  if (source_->kind() == ForkKind::kSpace) {
    idle_cpus_.push_back(gone->cpu);
  } else {
    --counts_.vcpus;
  }
}

void PoolForks::cancel_all() {
  for (const auto& entry : entries_) {
    if (entry->cpu != nullptr) entry->cpu->cancel();
  }
}

std::string PoolForks::describe() const {
  const bool copied = source_->population() == Population::kCopy;
  return fmt::format("{} forks, {}, reset by {}", name_of(source_->kind()), copied ? "copied" : "copied on write",
                     name_of(source_->reset_mode()));
}

}  // namespace warmfork
