#include "fork/snapshot.hpp"

#include "base/resident_pages.hpp"
#include "fork/fork.hpp"
#include "machine/backend_probe.hpp"
#include "warmfork/abi/layout.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace warmfork {
namespace {

bool is_zero(std::span<const std::byte> page) {
  // Equal to itself one word on, and the first word is zero: memcmp at full speed without a page of zeros.
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  std::uint64_t first = 0;
  std::memcpy(&first, page.data(), kWord);
  return first == 0 && std::memcmp(page.data(), page.data() + kWord, page.size() - kWord) == 0;
}

}  // namespace

Result<std::shared_ptr<Snapshot>> Snapshot::begin(const kvm::Kvm&, Guest& guest, const x86::CpuModel& cpu) {
  if (!guest.ready()) {
    return fail(ErrorKind::kUsage, "{}: a snapshot is taken of a guest that waits for vmcalls", guest.program().name);
  }
  std::shared_ptr<Snapshot> snapshot(new Snapshot);
  snapshot->program_ = guest.shared_program();
  snapshot->layout_ = guest.memory().shared_layout();
  snapshot->cpu_model_ = cpu;
  snapshot->book_ = guest.process().book();
  snapshot->overrides_ = guest.memory().overrides();
  snapshot->call_stack_ = guest.call_stack();
  const std::size_t pages = snapshot->layout_->window_bytes() / kPage;
  snapshot->nonzero_ = PageSet(pages);
  snapshot->delta_ = PageSet(pages);
  return snapshot;
}

Status Snapshot::store_state(const kvm::Kvm& kvm, kvm::VcpuFd& vcpu, std::span<std::byte> window) const {
  // Between two calls a program's extended state is the x87 control word and MXCSR; all other registers belong to
  // whoever calls (System V AMD64 ABI, 3.2.1 and 3.2.3). So the pristine area holds these two, and says that everything
  // else is in its initial configuration: XRSTOR then clears it, whatever states this processor has (Intel SDM vol. 1,
  // 13.4 and 13.8).
  constexpr std::size_t kControlWord = 0;
  constexpr std::size_t kMxcsr = 24;
  constexpr std::size_t kStateBv = 512;
  constexpr std::size_t kAreaSize = 576;
  constexpr std::uint64_t kX87 = 1;
  WARMFORK_TRY_ASSIGN(const std::vector<std::byte> state, vcpu.xsave(kvm.xsave_size()));
  std::uint64_t used = 0;
  std::memcpy(&used, &state[kStateBv], sizeof used);
  std::array<std::byte, kAreaSize> area{};
  std::memcpy(&area[kMxcsr], &state[kMxcsr], 4);
  if ((used & kX87) != 0) {
    std::memcpy(&area[kControlWord], &state[kControlWord], 2);
    std::memcpy(&area[kStateBv], &kX87, sizeof kX87);
  }
  const std::uint64_t offset = *layout_->window_offset(Gva{WARMFORK_FORK_PAGE});
  const auto page = window.subspan(offset, kPage);
  std::ranges::fill(page, std::byte{0});  // generation 0, no random bytes: every fork gets its own
  std::ranges::copy(area, page.begin());
  return {};
}

Result<std::shared_ptr<const Snapshot>> Snapshot::take(const kvm::Kvm& kvm, Machine& master) {
  WARMFORK_TRY_ASSIGN(std::shared_ptr<Snapshot> snapshot, begin(kvm, master, master.cpu_model()));
  WARMFORK_TRY(check_xrstor(kvm, master.cpu_model()));
  snapshot->image_ = master.image();
  const std::span<const std::byte> window = master.memory().window();
  snapshot->window_fd_ = UniqueFd(::memfd_create("warmfork-window", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!snapshot->window_fd_) return fail_errno("memfd_create");
  const int fd = snapshot->window_fd_.get();
  if (::ftruncate(fd, static_cast<off_t>(window.size())) != 0) {
    return fail_errno("a snapshot of {} bytes", window.size());
  }
  {
    WARMFORK_TRY_ASSIGN(const Mapping frozen, Mapping::shared(fd, window.size()));
    WARMFORK_TRY(for_each_private_page(window, [&](std::size_t page) {
      const auto bytes = window.subspan(page * kPage, kPage);
      if (is_zero(bytes)) return;
      std::memcpy(frozen.data() + page * kPage, bytes.data(), kPage);
      snapshot->nonzero_.add(page);
    }));
    WARMFORK_TRY(snapshot->store_state(kvm, master.vcpu(), frozen.bytes()));
    snapshot->nonzero_.add(*snapshot->layout_->window_offset(Gva{WARMFORK_FORK_PAGE}) / kPage);
  }
  // F_SEAL_WRITE forbids writable shared mappings, not private ones.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return fail_errno("sealing a snapshot of {} bytes", window.size());
  }
  WARMFORK_TRY_ASSIGN(snapshot->view_, Mapping::shared_read_only(fd, window.size()));
  return std::shared_ptr<const Snapshot>(std::move(snapshot));
}

Result<std::shared_ptr<const Snapshot>> Snapshot::take(const kvm::Kvm& kvm, Fork& fork) {
  const std::shared_ptr<const Snapshot>& base = fork.snapshot();
  WARMFORK_TRY_ASSIGN(std::shared_ptr<Snapshot> snapshot, begin(kvm, fork, base->cpu_model_));
  snapshot->image_ = base->image_;
  snapshot->base_ = base;
  const std::span<const std::byte> window = fork.memory().window();
  const std::span<const std::byte> old = base->window();
  WARMFORK_TRY_ASSIGN(snapshot->view_, Mapping::private_file(base->window_fd(), window.size()));
  const std::span<std::byte> view = snapshot->view_.bytes();
  const auto copy_pages = [&](std::span<const std::byte> from) {
    return [&view, from](std::size_t first, std::size_t count) {
      std::memcpy(view.data() + first * kPage, from.data() + first * kPage, count * kPage);
    };
  };
  base->delta_.for_each_run(copy_pages(old));
  // What the fork never touched is the base's; of the rest, what differs.
  PageSet candidates = base->nonzero_;  // pages given back by an anonymous window read as zero now
  WARMFORK_TRY(for_each_private_page(window, [&](std::size_t page) { candidates.add(page); }));
  const std::size_t fork_page = *snapshot->layout_->window_offset(Gva{WARMFORK_FORK_PAGE}) / kPage;
  candidates.remove(fork_page);
  PageSet own(candidates.pages());
  candidates.for_each_run([&](std::size_t first, std::size_t count) {
    for (std::size_t page = first; page < first + count; ++page) {
      if (std::memcmp(window.data() + page * kPage, old.data() + page * kPage, kPage) != 0) own.add(page);
    }
  });
  own.for_each_run(copy_pages(window));
  own.add(fork_page);
  WARMFORK_TRY(snapshot->store_state(kvm, fork.vcpu(), view));
  WARMFORK_TRY(snapshot->view_.make_read_only());
  snapshot->own_pages_ = own.count();
  snapshot->nonzero_ = base->nonzero_;
  snapshot->delta_ = base->delta_;
  own.for_each_run([&](std::size_t first, std::size_t count) {
    for (std::size_t page = first; page < first + count; ++page) {
      snapshot->delta_.add(page);
      snapshot->nonzero_.add(page);
    }
  });
  return std::shared_ptr<const Snapshot>(std::move(snapshot));
}

}  // namespace warmfork
