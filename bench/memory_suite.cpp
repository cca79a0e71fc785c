// Memory as a guest sees it, beside the same loops over the same memory in the host: throughput and latency by how much
// is touched, by the distance between two accesses, on small and huge pages of the host and on this machine's NUMA
// nodes; and the first touch of a page.
#include "base/tsc_clock.hpp"
#include "bench/memory_loops.hpp"
#include "bench/numa.hpp"
#include "bench/suites.hpp"
#include "machine/machine.hpp"
#include "memory/shared_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>

extern "C" const unsigned char warmfork_bench_memory_begin[];
extern "C" const unsigned char warmfork_bench_memory_end[];

namespace warmfork::bench {
namespace {

using memory_loops::Answer;
using memory_loops::Loop;
using memory_loops::Task;

constexpr std::uint64_t kBlockBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kLine = 64;
constexpr std::uint64_t kNodes = 1024;  // of a chain by stride: too many for the first TLB, as many for every stride
constexpr std::uint64_t kWalks = kBlockBytes / kPage;  // a line in each page: more pages than any TLB holds
constexpr std::array<std::uint64_t, 3> kSizes{4 << 10, 64 << 10, 1 << 20};
constexpr std::array<std::uint64_t, 5> kStrides{64, 512, 4 << 10, 16 << 10, 64 << 10};

std::string size_name(std::uint64_t bytes) {
  if (bytes >= 1 << 20) return fmt::format("{}MiB", bytes >> 20);
  return bytes >= 1 << 10 ? fmt::format("{}KiB", bytes >> 10) : fmt::format("{}B", bytes);
}

// Bytes of `memory` that this process has mapped by huge pages: "AnonHugePages" of its entry in /proc/self/smaps.
std::uint64_t huge_bytes(std::span<const std::byte> memory) {
  std::ifstream file("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (first.find('-') != std::string::npos && !first.ends_with(':')) {
      inside = std::strtoull(first.c_str(), nullptr, 16) == reinterpret_cast<std::uintptr_t>(memory.data());
    } else if (std::uint64_t kib = 0; inside && first == "AnonHugePages:" && words >> kib) {
      return kib << 10;
    }
  }
  return 0;
}

// What memory the loops walk. The guest maps all of it by pages of 2 MiB; what the processor's TLB holds depends on the
// host's pages as well.
enum class Memory : std::uint8_t {
  kShared,      // a shared region
  kSmallPages,  // private to this process, and only read by the guest (it is a code region): pages of 4 KiB …
  kHugePages,   // … or 2 MiB, if the kernel has any
};

// A block of memory, shared by a guest and this thread.
class Block {
 public:
  // On `nodes`, if there are any.
  [[nodiscard]] static Result<Block> create(const kvm::Kvm& kvm, Memory memory, const std::vector<int>& nodes = {}) {
    Block block;
    const bool shared = memory == Memory::kShared;
    MachineConfig config{.memory_bytes = std::uint64_t{1} << 20, .stack_bytes = 64 << 10};
    WARMFORK_TRY_ASSIGN(block.sum_, SharedMemory::create(kPage, true));
    config.shared_regions = {{"sum", kPage, SharedAccess::kReadWrite}};
    config.shared = {block.sum_};
    if (shared) {
      WARMFORK_TRY_ASSIGN(block.memory_, SharedMemory::create(kBlockBytes));
      config.shared_regions.push_back({"block", kBlockBytes, SharedAccess::kReadWrite});
      config.shared.push_back(block.memory_);
    } else {
      config.code_bytes = kBlockBytes;
    }
    const auto elf = std::as_bytes(std::span(warmfork_bench_memory_begin, warmfork_bench_memory_end));
    WARMFORK_TRY_ASSIGN(block.machine_, Machine::create(kvm, elf, "memory", std::move(config)));
    const CodeRegion& code = block.machine_->code_region();
    block.bytes_ = shared ? block.memory_->bytes() : code.bytes;
    if (!shared) {  // a hint: huge_bytes() says what has become of it
      ::madvise(block.bytes_.data(), block.bytes_.size(),
                memory == Memory::kHugePages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    if (!nodes.empty()) WARMFORK_TRY(place_on(block.bytes_, nodes));
    std::memset(block.bytes_.data(), 0, block.bytes_.size());
    WARMFORK_TRY(block.machine_->boot());
    WARMFORK_TRY_ASSIGN(block.function_, block.machine_->find_vmcall("memory_loop"));
    WARMFORK_TRY_ASSIGN(const auto sum, block.machine_->shared_region("sum"));
    block.sum_gva_ = sum.begin.value;
    block.gva_ = code.begin.value;
    if (shared) {
      WARMFORK_TRY_ASSIGN(const auto region, block.machine_->shared_region("block"));
      block.gva_ = region.begin.value;
    }
    return block;
  }

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

  [[nodiscard]] Result<Answer> in_guest(const Task& task) {
    const std::array<std::uint64_t, 5> arguments{gva_, static_cast<std::uint64_t>(task.loop), task.bytes, task.count,
                                                 sum_gva_};
    Answer answer;
    WARMFORK_TRY_ASSIGN(answer.ticks, machine_->call(function_, arguments, {.timeout_ns = kTimeoutNs}));
    std::memcpy(&answer.sum, sum_->bytes().data(), sizeof answer.sum);
    return answer;
  }
  [[nodiscard]] Answer in_host(const Task& task) const {
    // SAFETY: bytes as characters, which may alias anything.
    return memory_loops::run(reinterpret_cast<unsigned char*>(bytes().data()), task);
  }

  // One random cycle through a line in every `stride` of the first `count` strides. With a large stride each line lies
  // elsewhere in its page, or all would compete for the same few places of a cache.
  void lay_chain(std::uint64_t stride, std::uint64_t count) {
    std::vector<std::uint64_t> order(count);
    std::iota(order.begin(), order.end(), std::uint64_t{0});
    std::shuffle(order.begin() + 1, order.end(), std::mt19937_64(7));
    const auto offset = [&](std::uint64_t node) {
      return node * stride + (stride > kLine ? node * kLine % std::min(stride, kPage) : 0);
    };
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t next = offset(order[(i + 1) % count]);
      std::memcpy(bytes().data() + offset(order[i]), &next, sizeof next);
    }
  }

 private:
  std::shared_ptr<SharedMemory> memory_, sum_;
  std::unique_ptr<Machine> machine_;
  std::span<std::byte> bytes_;
  Gva function_;
  std::uint64_t gva_ = 0, sum_gva_ = 0;
};

struct Sides {
  std::vector<double> guest, host;  // ticks
};

// The loop in the guest and in the host, in turns; `before` comes before each of them. A loop that has not computed the
// same in both is an error.
Result<Sides> measure(Block& block, const Task& task, std::uint64_t samples, const std::function<void()>& before = {}) {
  Sides sides;
  for (std::uint64_t i = 0; i <= samples; ++i) {
    if (before) before();
    WARMFORK_TRY_ASSIGN(const Answer guest, block.in_guest(task));
    if (before) before();
    const Answer host = block.in_host(task);
    if (guest.sum != host.sum) {
      return fail(ErrorKind::kGuestFault, "memory loop {}: {} in the guest, {} in the host",
                  static_cast<std::uint64_t>(task.loop), guest.sum, host.sum);
    }
    if (i == 0) continue;
    // What a hostile clock could say is no concern here, a division by zero is.
    sides.guest.push_back(static_cast<double>(std::max<std::uint64_t>(guest.ticks, 1)));
    sides.host.push_back(static_cast<double>(std::max<std::uint64_t>(host.ticks, 1)));
  }
  return sides;
}

// How samples in ticks become figures.
struct Kind {
  std::string name;       // "memory/" + this, and its floor "floors/memory/" + this
  double per_sample = 1;  // bytes, or accesses, of one sample
  bool rate = false;      // bytes/s; else ns an access
  std::map<std::string, double> params;
  std::map<std::string, std::string> labels;
};

void add(const Kind& kind, const Sides& sides, std::vector<Figure>& out) {
  const auto figure = [&](std::string name, std::vector<double> ticks) {
    for (double& value : ticks) {
      const double ns = value * tsc_ns_per_tick();
      value = kind.rate ? kind.per_sample * 1e9 / ns : ns / kind.per_sample;
    }
    Figure made = from_values(std::move(name), kind.rate ? "bytes/s" : "ns", std::move(ticks));
    made.params = kind.params;
    made.labels = kind.labels;
    return made;
  };
  Figure guest = figure("memory/" + kind.name, sides.guest);
  Figure host = figure("floors/memory/" + kind.name, sides.host);
  set_floor(guest, host);
  if (!kind.rate) guest.counters["over_floor_ns"] = guest.p50 - host.p50;
  out.push_back(std::move(guest));
  out.push_back(std::move(host));
}

// As many bytes or accesses a sample whatever the size: long against the clock, short against a time slice.
constexpr std::uint64_t kBytesPerSample = 2 << 20;
constexpr std::uint64_t kAccessesPerSample = 16 << 10;

Status measure_sizes(const SuiteOptions& options, Block& block, std::vector<Figure>& out) {
  for (const std::uint64_t bytes : kSizes) {
    const std::string size = size_name(bytes);
    options.say("memory: loops over " + size);
    const std::uint64_t samples = options.samples(300, 3);
    const auto one = [&](const char* name, Loop loop, bool rate) -> Status {
      const Task task{.loop = loop, .bytes = bytes, .count = rate ? kBytesPerSample / bytes : kAccessesPerSample};
      WARMFORK_TRY_ASSIGN(const Sides sides, measure(block, task, samples));
      add({.name = fmt::format("{}/{}", name, size),
           .per_sample = static_cast<double>(rate ? kBytesPerSample : kAccessesPerSample),
           .rate = rate,
           .params = {{"bytes", static_cast<double>(bytes)}},
           .labels = {}},
          sides, out);
      return {};
    };
    WARMFORK_TRY(one("sequential_read", Loop::kSequentialRead, true));
    WARMFORK_TRY(one("sequential_write", Loop::kSequentialWrite, true));
    block.lay_chain(kLine, bytes / kLine);
    WARMFORK_TRY(one("random_read", Loop::kChain, false));
    WARMFORK_TRY(one("random_write", Loop::kRandomWrite, false));
  }
  return {};
}

Status measure_strides(const SuiteOptions& options, Memory memory, std::vector<Figure>& out) {
  WARMFORK_TRY_ASSIGN(Block block, Block::create(*options.kvm, memory));
  const std::uint64_t huge = huge_bytes(block.bytes());
  if (memory == Memory::kHugePages && huge == 0) {
    options.remark("memory: no huge pages here (/sys/kernel/mm/transparent_hugepage/enabled), so no figures with them");
    return {};
  }
  const char* const pages = memory == Memory::kHugePages ? "2MiB" : "4KiB";
  // Of the host's page tables; KVM's can have them only where these do.
  const auto note_pages = [&] {
    for (std::size_t i = out.size() - 2; i < out.size(); ++i) {
      out[i].counters["huge_fraction"] = static_cast<double>(huge) / static_cast<double>(kBlockBytes);
    }
  };
  for (const std::uint64_t stride : kStrides) {
    options.say(fmt::format("memory: a line every {}, host pages of {}", size_name(stride), pages));
    block.lay_chain(stride, kNodes);
    const Task task{.loop = Loop::kChain, .bytes = kBlockBytes, .count = kAccessesPerSample};
    WARMFORK_TRY_ASSIGN(const Sides sides, measure(block, task, options.samples(300, 3)));
    add({.name = fmt::format("stride/{}/{}_pages", size_name(stride), pages),
         .per_sample = static_cast<double>(kAccessesPerSample),
         .params = {{"stride", static_cast<double>(stride)}, {"lines", static_cast<double>(kNodes)}},
         .labels = {}},
        sides, out);
    note_pages();
  }
  // As many lines, close together and one to a page: the caches see the same, the difference is the way to the page.
  options.say(fmt::format("memory: page walks, host pages of {}", pages));
  const Task task{.loop = Loop::kChain, .bytes = kBlockBytes, .count = kWalks};
  block.lay_chain(kLine, kWalks);
  WARMFORK_TRY_ASSIGN(const Sides dense, measure(block, task, options.samples(300, 3)));
  block.lay_chain(kPage, kWalks);
  WARMFORK_TRY_ASSIGN(const Sides sides, measure(block, task, options.samples(300, 3)));
  add({.name = fmt::format("page_walk/{}_pages", pages),
       .per_sample = static_cast<double>(kWalks),
       .params = {{"stride", static_cast<double>(kPage)}, {"lines", static_cast<double>(kWalks)}},
       .labels = {}},
      sides, out);
  for (const auto& [figure, ticks] : {std::pair{&*(out.end() - 2), &dense.guest}, {&*(out.end() - 1), &dense.host}}) {
    const double close = from_values("dense", "ticks", *ticks).p50 * tsc_ns_per_tick() / static_cast<double>(kWalks);
    figure->counters["over_dense_ns"] = figure->p50 - close;
  }
  note_pages();
  return {};
}

// A page that is nowhere: in the guest an exit, KVM's fault and the host's; in the host its own fault.
Status measure_first_touch(const SuiteOptions& options, Block& block, std::vector<Figure>& out) {
  options.say("memory: first touch of a page");
  constexpr std::uint64_t kTouched = 64;
  const auto none = [&] { ::madvise(block.bytes().data(), kTouched * kPage, MADV_REMOVE); };
  const Task task{.loop = Loop::kTouch, .bytes = kBlockBytes, .count = kTouched};
  WARMFORK_TRY_ASSIGN(const Sides sides, measure(block, task, options.samples(100, 3), none));
  add({.name = "first_touch", .per_sample = kTouched, .params = {{"pages", kTouched}}, .labels = {}}, sides, out);
  return {};
}

// Memory of the measuring CPU's node; where there are more nodes, of the others, and of all in turns.
Status measure_nodes(const SuiteOptions& options, std::vector<Figure>& out) {
  const std::vector<int> nodes = memory_nodes();
  const int own = std::max(node_of_cpu(options.cpu), 0);
  std::vector<std::pair<std::string, std::vector<int>>> policies{{"local", {own}}};
  const auto other = std::ranges::find_if(nodes, [&](int node) { return node != own; });
  if (other != nodes.end()) {
    policies.emplace_back("remote", std::vector{*other});
    policies.emplace_back("interleaved", nodes);
  } else {
    options.remark("memory: one NUMA node: there is no memory/numa/remote and no memory/numa/interleaved");
  }
  for (const auto& [policy, on] : policies) {
    options.say("memory: NUMA, " + policy);
    auto block = Block::create(*options.kvm, Memory::kShared, on);
    if (!block && block.error().kind == ErrorKind::kUnsupported) {
      options.remark("memory: no memory/numa: " + block.error().message);
      return {};
    }
    if (!block) return Failure(block.error());
    block->lay_chain(kLine, kBlockBytes / kLine);
    const Task task{.loop = Loop::kChain, .bytes = kBlockBytes, .count = kAccessesPerSample};
    WARMFORK_TRY_ASSIGN(const Sides sides, measure(*block, task, options.samples(100, 3)));
    add({.name = "numa/" + policy,
         .per_sample = static_cast<double>(kAccessesPerSample),
         .params = {{"bytes", static_cast<double>(kBlockBytes)}, {"nodes", static_cast<double>(nodes.size())}},
         .labels = {}},
        sides, out);
  }
  return {};
}

}  // namespace

SuiteResult run_memory(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  {
    WARMFORK_TRY_ASSIGN(Block block, Block::create(*options.kvm, Memory::kShared));
    WARMFORK_TRY(measure_sizes(options, block, figures));
    WARMFORK_TRY(measure_first_touch(options, block, figures));
  }
  for (const Memory memory : {Memory::kSmallPages, Memory::kHugePages}) {
    WARMFORK_TRY(measure_strides(options, memory, figures));
  }
  WARMFORK_TRY(measure_nodes(options, figures));
  return figures;
}

}  // namespace warmfork::bench
