#include "bench/lc3_compilers.hpp"

#include "base/tsc_clock.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/jit/host_runner.hpp"
#include "lc3/jit/llvm_module.hpp"
#include "lc3/jit/xbyak_compiler.hpp"
#include "lc3_bench/native_kernels.hpp"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <random>

namespace warmfork::bench {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::array kSizes = {10U, 100U, 1000U};
constexpr std::size_t kCodeSpace = std::size_t{4} << 20;

enum class Shape : std::uint8_t { kStraight, kLoops };
using Words = std::array<std::uint16_t, lc3::kMemoryWords>;

// A program as long as people ask compilers for: straight stretches and branches, as random as code is. Or the same in
// loops, one after the other, each as long as a branch back can be: the optimising compiler needs them to have anything
// to do.
std::unique_ptr<Words> generated_program(std::uint32_t instructions, Shape shape) {
  constexpr std::uint32_t kLongestLoop = 250;
  std::mt19937 random(1234);
  std::vector<std::uint16_t> words;
  for (std::uint32_t i = 0; i < instructions; ++i) {
    // To the end of the loop, whose last instruction is the branch back.
    std::uint32_t left = 32;
    if (shape == Shape::kLoops) {
      const std::uint32_t begin = i / kLongestLoop * kLongestLoop;
      left = std::min(begin + kLongestLoop, instructions) - 1 - i;
      if (left == 0) {
        words.push_back(static_cast<std::uint16_t>(0x0200 | ((begin - i - 1) & 0x1ff)));  // BRp
        continue;
      }
    }
    const auto pick = random() % 16;
    const auto registers = static_cast<std::uint16_t>((random() & 0x3f) << 6);
    if (pick < 5) {
      words.push_back(static_cast<std::uint16_t>(0x1000 | registers | (random() & 7)));
    } else if (pick < 8) {
      words.push_back(static_cast<std::uint16_t>(0x1020 | registers | (random() & 0x1f)));
    } else if (pick < 10) {
      words.push_back(static_cast<std::uint16_t>(0x5000 | registers | (random() & 7)));
    } else if (pick < 12) {
      words.push_back(static_cast<std::uint16_t>(0x6000 | registers | (random() & 0x3f)));
    } else if (pick < 13) {
      words.push_back(static_cast<std::uint16_t>(0x7000 | registers | (random() & 0x3f)));
    } else {
      const auto condition = static_cast<std::uint16_t>((1 + random() % 6) << 9);
      words.push_back(static_cast<std::uint16_t>(condition | (random() % std::min(32U, left))));  // BR, forward
    }
  }
  words.push_back(0xf025);
  auto memory = std::make_unique<Words>();
  std::ranges::copy(words, memory->begin() + lc3::kUserBase);
  return memory;
}

lc3::jit::CodeCache::Request request_for(const Words& words) {
  return {.words = words, .pc = lc3::kUserBase, .lea_sets_cc = false, .lost = {}};
}

std::uint64_t instructions_of(const lc3::jit::Unit& unit) {
  std::uint64_t instructions = 0;
  for (const auto& [first, block] : unit.blocks) instructions += block.count;
  return instructions;
}

// Nanoseconds per LC-3 instruction, from words to code that can be executed.
Result<Figure> compile_cost(const SuiteOptions& options, std::uint32_t instructions) {
  const auto words = generated_program(instructions, Shape::kStraight);
  std::vector<double> ns;
  double bytes = 0;
  for (std::uint64_t i = 0; i < options.samples(200, 5); ++i) {
    WARMFORK_TRY_ASSIGN(const lc3::jit::HostCode code, lc3::jit::HostCode::create(std::size_t{2} << 20));
    populate_pages(code.space().host);
    lc3::jit::CodeCache cache(code.space());
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY(cache.compile(request_for(*words)));
    const double took = tsc_to_ns(tsc_now_ordered() - begin);
    const lc3::jit::CacheCounters counters = cache.counters();
    ns.push_back(took / static_cast<double>(counters.instructions));
    bytes = static_cast<double>(counters.code_bytes) / static_cast<double>(counters.instructions);
  }
  Figure figure = from_values(
      instructions == 1000 ? "jit/compile/xbyak" : fmt::format("jit/compile/xbyak/{}", instructions), "ns/instr", ns);
  figure.counters["code_bytes_per_instruction"] = bytes;
  figure.params["instructions"] = instructions;
  return figure;
}

// The optimising compiler on a unit, again and again: nanoseconds per LC-3 instruction, added to `ns`. Returns the
// code.
Result<lc3::jit::MachineCode> optimise(
    const std::function<Result<lc3::jit::MachineCode>(const lc3::jit::Unit&)>& compile, const lc3::jit::Unit& unit,
    std::uint64_t times, std::vector<double>& ns) {
  lc3::jit::MachineCode code;
  for (std::uint64_t i = 0; i < times; ++i) {
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY_ASSIGN(code, compile(unit));
    ns.push_back(tsc_to_ns(tsc_now_ordered() - begin) / static_cast<double>(instructions_of(unit)));
  }
  return code;
}

Result<Figure> optimise_kernels(const SuiteOptions& options, const lc3::jit::LlvmModule& llvm) {
  WARMFORK_TRY_ASSIGN(const auto compile, llvm.make_compiler(false));
  std::vector<double> ns;
  for (const lc3_bench::NativeKernel& kernel : lc3_bench::native_kernels()) {
    WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::assemble(kernel.source, "kernel.asm"));
    const auto words = std::make_unique<Words>();
    for (const lc3::Segment& segment : program.segments) {
      std::ranges::copy(segment.words, words->begin() + segment.origin);
    }
    const lc3::jit::WordSet none;
    lc3::jit::Unit unit = lc3::jit::translate({*words, none, false}, std::array{program.entry()});
    lc3::jit::run_passes(unit, {});
    WARMFORK_TRY(optimise(compile, unit, options.samples(10, 1), ns));
  }
  return from_values("jit/compile/orc", "ns/instr", ns);
}

Result<Figure> optimise_generated(const SuiteOptions& options, const lc3::jit::LlvmModule& llvm,
                                  std::uint32_t instructions) {
  WARMFORK_TRY_ASSIGN(const auto compile, llvm.make_compiler(false));
  const auto words = generated_program(instructions, Shape::kLoops);
  const lc3::jit::WordSet none;
  lc3::jit::Unit unit = lc3::jit::translate({*words, none, false}, std::array{lc3::kUserBase});
  lc3::jit::run_passes(unit, {});
  std::vector<double> ns;
  WARMFORK_TRY_ASSIGN(const lc3::jit::MachineCode code, optimise(compile, unit, options.samples(10, 1), ns));
  WARMFORK_TRY_ASSIGN(const lc3::jit::MachineCode fast, lc3::jit::compile_with_xbyak(unit));
  const auto per_instruction = [&](const lc3::jit::MachineCode& made) {
    return static_cast<double>(made.bytes.size()) / static_cast<double>(instructions_of(unit));
  };
  Figure figure = from_values(fmt::format("jit/compile/orc/{}", instructions), "ns/instr", ns);
  figure.counters["code_bytes_per_instruction"] = per_instruction(code);
  figure.counters["xbyak_code_bytes_per_instruction"] =
      per_instruction(fast);  // of the same loops, and part of the other
  figure.params["instructions"] = instructions;
  return figure;
}

// Bytes of `space` that lie in pages somebody has written.
Result<std::uint64_t> written_bytes(std::span<std::byte> space) {
  std::vector<unsigned char> present((space.size() + kPage - 1) / kPage);
  if (::mincore(space.data(), space.size(), present.data()) != 0) return fail_errno("mincore");
  return kPage *
         static_cast<std::uint64_t>(std::ranges::count_if(present, [](unsigned char page) { return (page & 1) != 0; }));
}

// What the C library's malloc has given away. 0 where another takes its place (sanitizers).
std::uint64_t heap_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

struct HostBytes {
  std::uint64_t kept = 0;     // for as long as the code can be used
  std::uint64_t waiting = 0;  // beyond those, until the optimiser has got to it
};

Result<HostBytes> host_bytes(const Words& words) {
  WARMFORK_TRY_ASSIGN(const lc3::jit::HostCode code, lc3::jit::HostCode::create(kCodeSpace));
  const std::uint64_t before = heap_bytes();
  lc3::jit::Made made;
  auto cache = std::make_unique<lc3::jit::CodeCache>(code.space());
  cache->on_version([&made](const lc3::jit::Made& version) { made = version; });
  WARMFORK_TRY(cache->compile(request_for(words)));
  const std::uint64_t with_unit = heap_bytes();
  made = {};
  const std::uint64_t after = heap_bytes();
  return HostBytes{.kept = after - before, .waiting = with_unit - after};
}

// `llvm`: none, and what the fast compiler made stays alone.
Result<Figure> memory_use(const lc3::jit::LlvmModule* llvm, std::uint32_t instructions) {
  const auto words = generated_program(instructions, Shape::kLoops);
  WARMFORK_TRY_ASSIGN(const HostBytes host, host_bytes(*words));
  WARMFORK_TRY_ASSIGN(const lc3::jit::HostCode code, lc3::jit::HostCode::create(kCodeSpace));
  lc3::jit::CodeCache cache(code.space());
  lc3::jit::Made made;
  cache.on_version([&made](const lc3::jit::Made& version) { made = version; });
  WARMFORK_TRY(cache.compile(request_for(*words)));
  std::uint64_t code_bytes = cache.counters().code_bytes;
  if (llvm != nullptr) {
    WARMFORK_TRY_ASSIGN(const auto compile, llvm->make_compiler(false));
    WARMFORK_TRY_ASSIGN(const lc3::jit::MachineCode better, compile(*made.unit));
    WARMFORK_TRY_ASSIGN(const bool replaced, cache.replace(made, better, 0));
    if (!replaced) return fail(ErrorKind::kHost, "LLVM's code for {} instructions found no room", instructions);
    code_bytes += better.bytes.size();
  }
  WARMFORK_TRY_ASSIGN(const std::uint64_t written, written_bytes(code.space().host));
  const auto per_instruction = [count = static_cast<double>(instructions_of(*made.unit))](std::uint64_t bytes) {
    return static_cast<double>(bytes) / count;
  };
  Figure figure = from_values(fmt::format("jit/memory/{}/{}", llvm != nullptr ? "orc" : "xbyak", instructions),
                              "bytes/instr", {per_instruction(written + host.kept)});
  figure.counters["code_bytes_per_instruction"] = per_instruction(code_bytes);
  figure.counters["table_bytes_per_instruction"] = per_instruction(written - code_bytes);
  if (host.kept != 0) {
    figure.counters["host_bytes_per_instruction"] = per_instruction(host.kept);
    figure.counters["waiting_bytes_per_instruction"] = per_instruction(host.waiting);
  }
  figure.params["instructions"] = instructions;
  return figure;
}

}  // namespace

SuiteResult run_lc3_compilers(const SuiteOptions& options) {
  WARMFORK_TRY_ASSIGN(const lc3::jit::LlvmModule* llvm, lc3::jit::llvm_module());
  std::vector<Figure> figures;
  const auto add = [&figures](Result<Figure> figure) -> Status {
    if (!figure) return Failure(std::move(figure).error());
    figures.push_back(*std::move(figure));
    return {};
  };
  for (const std::uint32_t instructions : kSizes) WARMFORK_TRY(add(compile_cost(options, instructions)));
  WARMFORK_TRY(add(optimise_kernels(options, *llvm)));
  for (const std::uint32_t instructions : kSizes) WARMFORK_TRY(add(optimise_generated(options, *llvm, instructions)));
  for (const std::uint32_t instructions : kSizes) {
    WARMFORK_TRY(add(memory_use(nullptr, instructions)));
    WARMFORK_TRY(add(memory_use(llvm, instructions)));
  }
  return figures;
}

}  // namespace warmfork::bench
