// Snapshots, and what it takes from nothing to a first answer: by booting, from a snapshot's file, by a fork, from a
// pool. What is thrown away afterwards is not part of it. (From the start of a process, and with LC-3 code of earlier
// ones: lc3_start.hpp.)
#include "base/file.hpp"
#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/suites.hpp"
#include "bench/temporary_directory.hpp"
#include "fork/pool.hpp"
#include "fork/snapshot_file.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::bench {
namespace {

constexpr std::uint64_t kDirtyPages = 8;  // of every request, and so of every layer
constexpr std::size_t kMostFileBytes = std::size_t{1} << 30;
constexpr std::array<WindowShape, 2> kShapes{
    {{.window_bytes = 256 << 10, .block_pages = 32}, {.window_bytes = std::uint64_t{8} << 20, .block_pages = 1024}}};

using SharedSnapshot = std::shared_ptr<const Snapshot>;

// Ticks of what `act` does; it must succeed.
template <class Act>
Status timed(Histogram& ticks, Act&& act) {
  const std::uint64_t begin = tsc_now();
  WARMFORK_TRY(act());
  ticks.record(tsc_now_ordered() - begin);
  return {};
}

// Into `fork`, which the caller lets go of when the time is taken.
Status first_answer(const ForkFixture& fixture, ForkSource& source, std::unique_ptr<Fork>& fork) {
  WARMFORK_TRY_ASSIGN(fork, source.make());
  WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source.make_cpu());
  if (cpu != nullptr) WARMFORK_TRY(fork->bind(*cpu));
  return fixture.request(*fork, 42, kDirtyPages);
}

// The least that something new needs: a VM with a vCPU. Another VM is open, as in every process that uses forks.
Status make_empty_vm(const kvm::Kvm& kvm, Histogram& ticks) {
  const std::uint64_t begin = tsc_now();
  WARMFORK_TRY_ASSIGN(const kvm::VmFd vm, kvm.create_vm());
  WARMFORK_TRY_ASSIGN(const kvm::VcpuFd vcpu, vm.create_vcpu(0));
  ticks.record(tsc_now_ordered() - begin);
  return {};
}

// A request dirties pages and answers with what was in them: in a fork of a layer not its argument.
Result<std::uint64_t> answer_of(const kvm::Kvm& kvm, const ForkFixture& fixture, const SharedSnapshot& snapshot) {
  WARMFORK_TRY_ASSIGN(const auto source, make_fork_source(kvm, snapshot, {.kind = ForkKind::kVm}, 1));
  WARMFORK_TRY_ASSIGN(const auto fork, source->make());
  const std::array<std::uint64_t, 2> arguments{42, kDirtyPages};
  return fork->call(fixture.function(), arguments, {.timeout_ns = kTimeoutNs});
}

// Where the bytes of a snapshot are copied, written and read without being one.
class Plain {
 public:
  explicit Plain(std::uint64_t bytes) : from_(bytes, std::byte{1}), to_(bytes, std::byte{2}) {}
  [[nodiscard]] Status copy() {
    std::memcpy(to_.data(), from_.data(), from_.size());
    asm volatile("" : : "r"(to_.data()) : "memory");
    return {};
  }
  [[nodiscard]] Status write(const std::string& path) const {
    return replace_file(path, [&](int fd) { return write_all(fd, from_, path); });
  }
  [[nodiscard]] static Status read(const std::string& path) {
    WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, kMostFileBytes));
    asm volatile("" : : "r"(bytes.data()) : "memory");
    return {};
  }

 private:
  std::vector<std::byte> from_, to_;
};

struct SnapshotTimes {
  Histogram take, save, load, copy, write, read;
  std::uint64_t stored_bytes = 0, file_bytes = 0;
};

void add_snapshot(const std::string& kind, const SnapshotTimes& times, const WindowShape& shape,
                  std::vector<Figure>& out) {
  const auto finish = [&](Figure figure) {
    figure.params["window_bytes"] = static_cast<double>(shape.window_bytes);
    // No parameter: another build's guest may have a page more, and is the same figure.
    figure.counters["stored_bytes"] = static_cast<double>(times.stored_bytes);
    return figure;
  };
  const auto add = [&](const char* name, const Histogram& ticks, const char* floor_name, const Histogram& floor_ticks) {
    Figure figure = finish(from_ticks(fmt::format("snapshot/{}/{}", name, kind), ticks));
    Figure floor = finish(from_ticks(fmt::format("floors/snapshot/{}/{}", floor_name, kind), floor_ticks));
    set_floor(figure, floor);
    out.push_back(std::move(figure));
    out.push_back(std::move(floor));
  };
  add("take", times.take, "copy", times.copy);
  add("save", times.save, "write", times.write);
  add("load", times.load, "read", times.read);
  Figure size = finish(from_values("snapshot/size/" + kind, "bytes", {static_cast<double>(times.file_bytes)}));
  const Figure least =
      finish(from_values("floors/snapshot/stored_bytes/" + kind, "bytes", {static_cast<double>(times.stored_bytes)}));
  set_floor(size, least);
  out.push_back(std::move(size));
  out.push_back(least);
}

// A snapshot of a master (full) and one of a fork of it that has served a request (a layer): taken, written, read.
Status measure_snapshots(const SuiteOptions& options, const WindowShape& shape, std::vector<Figure>& out) {
  options.say(fmt::format("snapshot: take, save, load, of a window of {} KiB", shape.window_bytes >> 10));
  WARMFORK_TRY_ASSIGN(ForkFixture fixture, ForkFixture::create(*options.kvm, shape));
  WARMFORK_TRY_ASSIGN(const TemporaryDirectory directory, TemporaryDirectory::make());
  WARMFORK_TRY_ASSIGN(const auto source, fixture.source({.kind = ForkKind::kVm}));
  WARMFORK_TRY_ASSIGN(const auto fork, source->make());
  WARMFORK_TRY(fixture.request(*fork, 1, kDirtyPages));
  WARMFORK_TRY_ASSIGN(const SharedSnapshot layer, Snapshot::take(*options.kvm, *fork));
  struct One {
    SharedSnapshot snapshot;
    std::string name, file, plain_file;
    SnapshotTimes times;
    std::optional<Plain> plain;
  };
  std::array<One, 2> both{{{.snapshot = fixture.snapshot(), .name = "full", .file = {}, .plain_file = {}, .plain = {}},
                           {.snapshot = layer, .name = "layer", .file = {}, .plain_file = {}, .plain = {}}}};
  SharedSnapshot base;
  for (One& one : both) {
    one.file = directory.file(one.name);
    one.plain_file = directory.file(one.name + ".plain");
    one.times.stored_bytes = one.snapshot->stored_bytes();
    WARMFORK_TRY(save_snapshot(*one.snapshot, one.file));
    one.times.file_bytes = std::filesystem::file_size(one.file);
    one.plain.emplace(one.times.file_bytes);
    WARMFORK_TRY(one.plain->write(one.plain_file));
    WARMFORK_TRY(one.plain->copy());
    // What has been loaded is what was saved: it answers the same.
    WARMFORK_TRY_ASSIGN(const SharedSnapshot loaded, load_snapshot(*options.kvm, one.file, {.base = base}));
    WARMFORK_TRY_ASSIGN(const std::uint64_t before, answer_of(*options.kvm, fixture, one.snapshot));
    WARMFORK_TRY_ASSIGN(const std::uint64_t after, answer_of(*options.kvm, fixture, loaded));
    const std::uint64_t expected = 42 + (base ? kDirtyPages : 0);
    if (before != expected || after != expected) {
      return fail(ErrorKind::kGuestFault, "a {} snapshot answers {}, and {} once loaded; expected {}", one.name, before,
                  after, expected);
    }
    if (!base) base = loaded;
  }
  for (std::uint64_t i = 0; i < options.samples(100, 3); ++i) {
    for (One& one : both) {
      SnapshotTimes& times = one.times;
      SharedSnapshot taken, loaded;
      WARMFORK_TRY(timed(times.take, [&]() -> Status {
        WARMFORK_TRY_ASSIGN(taken, &one == &both[0] ? Snapshot::take(*options.kvm, fixture.master())
                                                    : Snapshot::take(*options.kvm, *fork));
        return {};
      }));
      WARMFORK_TRY(timed(times.copy, [&] { return one.plain->copy(); }));
      WARMFORK_TRY(timed(times.save, [&] { return save_snapshot(*one.snapshot, one.file); }));
      WARMFORK_TRY(timed(times.write, [&] { return one.plain->write(one.plain_file); }));
      WARMFORK_TRY(timed(times.load, [&]() -> Status {
        WARMFORK_TRY_ASSIGN(
            loaded, load_snapshot(*options.kvm, one.file, {.base = &one == &both[0] ? SharedSnapshot() : base}));
        return {};
      }));
      WARMFORK_TRY(timed(times.read, [&] { return Plain::read(one.plain_file); }));
    }
  }
  for (const One& one : both) add_snapshot(one.name, one.times, shape, out);
  return {};
}

Status measure_answers(const SuiteOptions& options, const WindowShape& shape, std::vector<Figure>& out) {
  options.say(fmt::format("startup: to the first answer, window of {} KiB", shape.window_bytes >> 10));
  const kvm::Kvm& kvm = *options.kvm;
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(kvm, shape));
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(kvm));
  WARMFORK_TRY(probe.warm_up());
  WARMFORK_TRY_ASSIGN(const TemporaryDirectory directory, TemporaryDirectory::make());
  const std::string file = directory.file("snapshot");
  WARMFORK_TRY(save_snapshot(*fixture.snapshot(), file));
  WARMFORK_TRY_ASSIGN(const auto source, fixture.source({.kind = ForkKind::kVm}));
  WARMFORK_TRY_ASSIGN(const auto pool, Pool::create(kvm, fixture.snapshot(), {.ready = 1, .most = 1}));
  Histogram boot, from_file, fork, pooled, empty_vm, exits;
  for (std::uint64_t i = 0; i < options.samples(100, 3); ++i) {
    std::optional<ForkFixture> cold;
    WARMFORK_TRY(timed(boot, [&]() -> Status {
      WARMFORK_TRY_ASSIGN(cold, ForkFixture::create(kvm, shape));
      return cold->request(cold->master(), 42, kDirtyPages);
    }));
    cold.reset();
    std::unique_ptr<ForkSource> own;
    std::unique_ptr<Fork> made;
    WARMFORK_TRY(timed(from_file, [&]() -> Status {
      WARMFORK_TRY_ASSIGN(SharedSnapshot loaded, load_snapshot(kvm, file));
      WARMFORK_TRY_ASSIGN(own, make_fork_source(kvm, std::move(loaded), {.kind = ForkKind::kVm}, 1));
      return first_answer(fixture, *own, made);
    }));
    made.reset();
    own.reset();
    WARMFORK_TRY(timed(fork, [&] { return first_answer(fixture, *source, made); }));
    made.reset();
    std::optional<Lease> lease;
    WARMFORK_TRY(timed(pooled, [&]() -> Status {
      WARMFORK_TRY_ASSIGN(lease, pool->acquire());
      return fixture.request(lease->fork(), 42, kDirtyPages);
    }));
    lease.reset();
    WARMFORK_TRY(make_empty_vm(kvm, empty_vm));
    WARMFORK_TRY(probe.exit_round_trip(exits));
  }
  Figure vm_floor = from_ticks("floors/create_vm", empty_vm);
  Figure exit_floor = from_ticks("floors/cpl3_exit", exits);
  const auto add = [&](const char* name, const Histogram& ticks, const Figure& floor) {
    Figure figure = from_ticks(std::string("startup/answer/") + name, ticks);
    figure.params["window_bytes"] = static_cast<double>(shape.window_bytes);
    set_floor(figure, floor);
    out.push_back(std::move(figure));
  };
  add("boot", boot, vm_floor);
  add("snapshot_file", from_file, vm_floor);
  add("fork", fork, vm_floor);
  add("pool", pooled, exit_floor);
  if (&shape != &kShapes.front()) return {};
  out.push_back(std::move(vm_floor));
  out.push_back(std::move(exit_floor));
  return {};
}

// An LC-3 machine that prints a character and halts: new, or a fork of one that has the program.
Status measure_lc3(const SuiteOptions& options, std::vector<Figure>& out) {
  constexpr std::uint64_t kBudget = 1000;
  const kvm::Kvm& kvm = *options.kvm;
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::assemble("  .ORIG x3000\n  LD R0, A\n  OUT\n  HALT\n"
                                                                "A .FILL x41\n  .END\n",
                                                                "start.asm"));
  const auto finish = [&](lc3::Lc3Vm& vm) -> Status {
    WARMFORK_TRY_ASSIGN(const lc3::RunResult ran, vm.run(kBudget, {.timeout_ns = kTimeoutNs}));
    std::string output;
    WARMFORK_TRY(vm.drain(output));
    if (ran.stop == lc3::StopReason::kHalted && output == "A") return {};
    return fail(ErrorKind::kGuestFault, "startup: an LC-3 program: {}, output \"{}\"", lc3::stop_name(ran.stop),
                output);
  };
  for (const char* const name : lc3::kEngineNames) {
    options.say(fmt::format("startup: an LC-3 machine, {}", name));
    const lc3::Lc3Options how{.engine = *lc3::engine_named(name)};
    WARMFORK_TRY_ASSIGN(const auto master, lc3::Lc3Vm::create(kvm, how));
    WARMFORK_TRY(master->load(program));
    WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, master->machine()));
    WARMFORK_TRY_ASSIGN(const auto source, make_fork_source(kvm, std::move(snapshot), {.kind = ForkKind::kVm}, 1));
    Histogram cold, warm, empty_vm;
    for (std::uint64_t i = 0; i < options.samples(60, 3); ++i) {
      std::unique_ptr<lc3::Lc3Vm> vm;
      WARMFORK_TRY(timed(cold, [&]() -> Status {
        WARMFORK_TRY_ASSIGN(vm, lc3::Lc3Vm::create(kvm, how));
        WARMFORK_TRY(vm->load(program));
        return finish(*vm);
      }));
      vm.reset();
      std::unique_ptr<Fork> fork;
      WARMFORK_TRY(timed(warm, [&]() -> Status {
        WARMFORK_TRY_ASSIGN(fork, source->make());
        vm = master->attach(*fork);
        return finish(*vm);
      }));
      vm.reset();
      fork.reset();
      WARMFORK_TRY(make_empty_vm(kvm, empty_vm));
    }
    const Figure floor = from_ticks("floors/create_vm", empty_vm);
    for (const auto& [kind, ticks] : {std::pair{"cold", &cold}, {"fork", &warm}}) {
      out.push_back(from_ticks(fmt::format("startup/lc3/{}/{}", name, kind), *ticks));
      set_floor(out.back(), floor);
    }
  }
  return {};
}

}  // namespace

SuiteResult run_snapshot(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  for (const WindowShape& shape : kShapes) WARMFORK_TRY(measure_snapshots(options, shape, figures));
  return figures;
}

SuiteResult run_startup(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  for (const WindowShape& shape : kShapes) WARMFORK_TRY(measure_answers(options, shape, figures));
  WARMFORK_TRY(measure_lc3(options, figures));
  return figures;
}

}  // namespace warmfork::bench
