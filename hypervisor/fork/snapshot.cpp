#include "fork/snapshot.hpp"

#include "base/resident_pages.hpp"
#include "fork/fork.hpp"
#include "fork/fork_page.hpp"
#include "fork/frozen_window.hpp"
#include "machine/backend_probe.hpp"
#include "trace/trace.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace warmfork {
namespace {

constexpr trace::Kind kSnapshot{"fork", "snapshot"};

bool is_zero(std::span<const std::byte> page) {
  // Equal to itself one word on, and the first word is zero: memcmp at full speed without a page of zeros.
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  std::uint64_t first = 0;
  std::memcpy(&first, page.data(), kWord);
  return first == 0 && std::memcmp(page.data(), page.data() + kWord, page.size() - kWord) == 0;
}

std::size_t fork_page_of(const GuestLayout& layout) { return *layout.window_offset(Gva{WARMFORK_FORK_PAGE}) / kPage; }

using Page = std::array<std::byte, kPage>;

Result<Page> make_fork_page(const kvm::Kvm& kvm, kvm::VcpuFd& vcpu) {
  WARMFORK_TRY_ASSIGN(const std::vector<std::byte> area, vcpu.xsave(kvm.xsave_size()));
  Page page;
  write_fork_page(page, PristineState::of_area(area));
  return page;
}

}  // namespace

Result<SnapshotParts> Snapshot::begin(Guest& guest, const x86::CpuModel& cpu) {
  if (!guest.ready()) {
    return fail(ErrorKind::kUsage, "{}: a snapshot is taken of a guest that waits for vmcalls", guest.program().name);
  }
  SnapshotParts parts;
  parts.program = guest.shared_program();
  parts.layout = guest.memory().shared_layout();
  parts.cpu_model = cpu;
  parts.features = x86::user_features(cpu) | x86::native_features();
  parts.book = guest.process().book();
  parts.overrides = guest.memory().overrides();
  parts.call_stack = guest.call_stack();
  parts.own = PageSet(parts.layout->window_bytes() / kPage);
  parts.own.add(fork_page_of(*parts.layout));
  return parts;
}

Result<std::shared_ptr<const Snapshot>> Snapshot::take(const kvm::Kvm& kvm, Machine& master) {
  const trace::Span span(kSnapshot);
  WARMFORK_TRY(check_xrstor(kvm, master.cpu_model()));
  WARMFORK_TRY_ASSIGN(SnapshotParts parts, begin(master, master.cpu_model()));
  parts.image = master.image();
  parts.code = master.code_region();
  const std::span<const std::byte> window = master.memory().window();
  WARMFORK_TRY_ASSIGN(const Page fork_page, make_fork_page(kvm, master.vcpu()));
  WARMFORK_TRY(for_each_private_page(window, [&](std::size_t page) {
    if (!is_zero(window.subspan(page * kPage, kPage))) parts.own.add(page);
  }));
  WARMFORK_TRY_ASSIGN(FrozenWindow frozen, freeze_window(window.size(), [&](const WriteWindow& write) {
                        Status written;
                        parts.own.for_each_run([&](std::size_t first, std::size_t count) {
                          if (written) written = write(first * kPage, window.subspan(first * kPage, count * kPage));
                        });
                        if (written) written = write(fork_page_of(*parts.layout) * kPage, fork_page);
                        return written;
                      }));
  parts.window_fd = std::move(frozen.fd);
  parts.view = std::move(frozen.view);
  return assemble(std::move(parts));
}

Result<std::shared_ptr<const Snapshot>> Snapshot::take(const kvm::Kvm& kvm, Fork& fork) {
  const trace::Span span(kSnapshot);
  const std::shared_ptr<const Snapshot>& base = fork.snapshot();
  WARMFORK_TRY_ASSIGN(SnapshotParts parts, begin(fork, base->cpu_model()));
  parts.image = base->parts_.image;
  parts.code = base->code_region();
  parts.base = base;
  const std::span<const std::byte> window = fork.memory().window();
  const std::span<const std::byte> old = base->window();
  // What the fork never touched is the base's; of the rest, what differs.
  PageSet candidates = base->nonzero_;  // pages given back by an anonymous window read as zero now
  WARMFORK_TRY(for_each_private_page(window, [&](std::size_t page) { candidates.add(page); }));
  candidates.remove(fork_page_of(*parts.layout));
  candidates.for_each_run([&](std::size_t first, std::size_t count) {
    for (std::size_t page = first; page < first + count; ++page) {
      if (std::memcmp(window.data() + page * kPage, old.data() + page * kPage, kPage) != 0) parts.own.add(page);
    }
  });
  WARMFORK_TRY_ASSIGN(parts.view, layer_view(*base));
  const std::span<std::byte> view = parts.view.bytes();
  parts.own.for_each_run([&](std::size_t first, std::size_t count) {
    std::memcpy(view.data() + first * kPage, window.data() + first * kPage, count * kPage);
  });
  // Never the fork's own page, with its generation and random bytes. If the next call begins pristine, what the vCPU
  // holds is of another life or another fork, and the fork goes on with the base's state.
  const std::size_t at = fork_page_of(*parts.layout) * kPage;
  if (fork.begins_pristine()) {
    std::ranges::copy(old.subspan(at, kPage), view.subspan(at, kPage).begin());
  } else {
    WARMFORK_TRY_ASSIGN(const Page fork_page, make_fork_page(kvm, fork.vcpu()));
    std::ranges::copy(fork_page, view.subspan(at, kPage).begin());
  }
  WARMFORK_TRY(parts.view.make_read_only());
  return assemble(std::move(parts));
}

Result<Mapping> layer_view(const Snapshot& base) {
  const std::span<const std::byte> old = base.window();
  WARMFORK_TRY_ASSIGN(Mapping view, Mapping::private_file(base.window_fd(), old.size()));
  base.delta().for_each_run([&](std::size_t first, std::size_t count) {
    std::memcpy(view.data() + first * kPage, old.data() + first * kPage, count * kPage);
  });
  return view;
}

Result<std::shared_ptr<const Snapshot>> Snapshot::assemble(SnapshotParts parts) {
  const std::size_t window = parts.layout->window_bytes();
  if (parts.image->size() != parts.layout->image_bytes() || parts.code.bytes.size() != parts.layout->code().size ||
      parts.view.size() != window || parts.own.pages() != window / kPage ||
      (parts.base != nullptr) == static_cast<bool>(parts.window_fd)) {
    return fail(ErrorKind::kUsage, "a snapshot of {} + {} + {} bytes and {} pages, its layout has {} + {} + {}",
                parts.image->size(), parts.code.bytes.size(), parts.view.size(), parts.own.pages(),
                parts.layout->image_bytes(), parts.layout->code().size, window);
  }
  const std::shared_ptr<Snapshot> snapshot(new Snapshot(std::move(parts)));
  const SnapshotParts& has = snapshot->parts_;
  if (has.base == nullptr) {
    snapshot->nonzero_ = has.own;
    snapshot->delta_ = PageSet(window / kPage);
    return std::shared_ptr<const Snapshot>(snapshot);
  }
  snapshot->nonzero_ = has.base->nonzero_;
  snapshot->delta_ = has.base->delta_;
  has.own.for_each_run([&](std::size_t first, std::size_t count) {
    for (std::size_t page = first; page < first + count; ++page) {
      snapshot->delta_.add(page);
      snapshot->nonzero_.add(page);
    }
  });
  return std::shared_ptr<const Snapshot>(snapshot);
}

}  // namespace warmfork
