#include "lc3/jit/orc/orc_compiler.hpp"

#include "lc3/jit/orc/lower.hpp"
#include "lc3/jit/orc/thunks.hpp"

#include <fmt/format.h>
#include <llvm/ADT/StringMap.h>
#include <llvm/Analysis/AliasAnalysis.h>
#include <llvm/DebugInfo/DWARF/DWARFContext.h>
#include <llvm/ExecutionEngine/JITLink/JITLink.h>
#include <llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h>
#include <llvm/ExecutionEngine/Orc/CompileUtils.h>
#include <llvm/ExecutionEngine/Orc/Core.h>
#include <llvm/ExecutionEngine/Orc/ExecutorProcessControl.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>
#include <llvm/IR/DiagnosticInfo.h>
#include <llvm/IR/DiagnosticPrinter.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/ErrorHandling.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/ADCE.h>
#include <llvm/Transforms/Scalar/CorrelatedValuePropagation.h>
#include <llvm/Transforms/Scalar/DeadStoreElimination.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/GVN.h>
#include <llvm/Transforms/Scalar/IndVarSimplify.h>
#include <llvm/Transforms/Scalar/JumpThreading.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/LoopRotation.h>
#include <llvm/Transforms/Scalar/Reassociate.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>
#include <llvm/Transforms/Scalar/Sink.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>

namespace warmfork::lc3::jit {
namespace {

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";
constexpr std::size_t kPageSize = 4096;

/// LLVM's fatal errors do not come back. Its frames hold nothing that must be released but memory.
struct FatalError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] void on_fatal_error(void* /*unused*/, const char* reason, bool /*diagnose*/) { throw FatalError(reason); }

/// Rewrites 16-bit counters into several that all have to be kept, as it cannot see that they do not overflow:
/// measured, a fifth slower. LLVM has this switch for its command line only.
void without_strength_reduction() {
  auto& options = llvm::cl::getRegisteredOptions();
  const auto found = options.find("disable-lsr");
  if (found == options.end()) return;
  static_cast<llvm::cl::opt<bool>*>(found->second)->setValue(true);  // NOLINT: of this type in every version so far
}

void initialise_llvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::install_fatal_error_handler(on_fatal_error);
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    without_strength_reduction();
  });
}

Failure of_llvm(const char* what, llvm::Error error) {
  return fail(ErrorKind::kUnsupported, "LLVM, {}: {}", what, llvm::toString(std::move(error)));
}

/// The linker's view of the machine's code region: everything one after the other from `address` on, in this memory.
class CodeMemory final : public llvm::jitlink::JITLinkMemoryManager {
 public:
  void begin(std::uint64_t address) {
    address_ = address;
    bytes_.clear();
  }
  [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }

  using JITLinkMemoryManager::allocate;
  void allocate(const llvm::jitlink::JITLinkDylib* /*library*/, llvm::jitlink::LinkGraph& graph,
                OnAllocatedFunction on_allocated) override {
    if (!bytes_.empty()) {
      return on_allocated(llvm::make_error<llvm::StringError>("a second object", llvm::inconvertibleErrorCode()));
    }
    llvm::jitlink::BasicLayout layout(graph);
    std::size_t size = 0;
    for (auto& [group, segment] : layout.segments()) {
      size = llvm::alignTo(size, segment.Alignment);
      segment.Addr = llvm::orc::ExecutorAddr(address_ + size);
      size += segment.ContentSize + segment.ZeroFillSize;
    }
    bytes_.resize(size);
    for (auto& [group, segment] : layout.segments()) {
      segment.WorkingMem = reinterpret_cast<char*>(bytes_.data() + (segment.Addr.getValue() - address_));  // NOLINT
    }
    if (auto error = layout.apply()) return on_allocated(std::move(error));
    on_allocated(std::make_unique<Allocation>());
  }

  using JITLinkMemoryManager::deallocate;
  void deallocate(std::vector<FinalizedAlloc> allocations, OnDeallocatedFunction on_deallocated) override {
    for (FinalizedAlloc& allocation : allocations) (void)allocation.release();
    on_deallocated(llvm::Error::success());
  }

 private:
  class Allocation final : public InFlightAlloc {
   public:
    void abandon(OnAbandonedFunction on_abandoned) override { on_abandoned(llvm::Error::success()); }
    void finalize(OnFinalizedFunction on_finalized) override {
      on_finalized(FinalizedAlloc(llvm::orc::ExecutorAddr(1)));  // one is enough: there is nothing to give back
    }
  };

  std::uint64_t address_ = 0;
  std::vector<std::uint8_t> bytes_;
};

void optimise(llvm::Module& module, llvm::TargetMachine& target) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&target);
  // There is no library where this code runs.
  llvm::TargetLibraryInfoImpl library(llvm::Triple(module.getTargetTriple()));
  library.disableAllFunctions();
  functions.registerPass([&] { return llvm::TargetLibraryAnalysis(library); });
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);

  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  passes.addPass(llvm::EarlyCSEPass(true));
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::JumpThreadingPass());
  passes.addPass(llvm::CorrelatedValuePropagationPass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::InstCombinePass());
  llvm::LoopPassManager in_loops;
  in_loops.addPass(llvm::LoopRotatePass());
  in_loops.addPass(llvm::LICMPass(llvm::LICMOptions()));
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(std::move(in_loops), true));
  passes.addPass(llvm::GVNPass());
  passes.addPass(llvm::DSEPass());
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::ADCEPass());
  passes.addPass(llvm::SimplifyCFGPass());
  for (llvm::Function& function : module) {
    if (!function.isDeclaration()) passes.run(function, functions);  // intrinsics come to be declared
  }
}

}  // namespace

class OrcCompiler::Impl {
 public:
  Impl(const OrcOptions& options, std::unique_ptr<llvm::TargetMachine> target)
      : options_(options),
        target_(std::move(target)),
        session_(std::make_unique<llvm::orc::UnsupportedExecutorProcessControl>(nullptr, nullptr, kTriple,
                                                                                static_cast<unsigned>(kPageSize))),
        linker_(session_, memory_),
        library_(session_.createBareJITDylib("lc3")) {
    session_.setErrorReporter([this](llvm::Error error) { reported_ += llvm::toString(std::move(error)) + "; "; });
  }
  ~Impl() { llvm::consumeError(session_.endSession()); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result<MachineCode> compile(const Unit& unit, std::span<const std::uint16_t> wanted, std::uint64_t address,
                              OrcListing* listing) {
    if (broken_) return fail(ErrorKind::kUnsupported, "LLVM failed before: {}", reported_);
    try {
      return compile_all(unit, wanted, address, listing);
    } catch (const FatalError& error) {
      broken_ = true;
      reported_ = error.what();
      return fail(ErrorKind::kUnsupported, "LLVM failed: {}", error.what());
    }
  }

 private:
  Result<MachineCode> compile_all(const Unit& unit, std::span<const std::uint16_t> wanted, std::uint64_t address,
                                  OrcListing* listing) {
    const std::vector<Region> regions = make_regions(unit, wanted, options_.region);
    MachineCode code;
    if (regions.empty()) return code;
    WARMFORK_TRY_ASSIGN(const auto object, compile_regions(unit, regions, listing));
    WARMFORK_TRY_ASSIGN(const std::vector<Function> functions, link(*object, address, regions));
    code.bytes = memory_.bytes();
    if (options_.marks && !functions.empty()) code.marks = marks_of(*object, functions.front().offset);
    append_thunks(code, functions);
    std::ranges::sort(code.entries, {}, &MachineCode::Mark::address);
    return code;
  }

  Result<std::unique_ptr<llvm::MemoryBuffer>> compile_regions(const Unit& unit, std::span<const Region> regions,
                                                              OrcListing* listing) {
    llvm::LLVMContext context;
    std::string said;
    context.setDiscardValueNames(true);
    context.setDiagnosticHandlerCallBack(
        [](const llvm::DiagnosticInfo* info, void* text) {
          llvm::raw_string_ostream out(*static_cast<std::string*>(text));
          llvm::DiagnosticPrinterRawOStream printer(out);
          if (info->getSeverity() == llvm::DS_Error) info->print(printer);
        },
        &said);
    const auto module = std::make_unique<llvm::Module>("lc3", context);
    module->setTargetTriple(kTriple);
    module->setDataLayout(target_->createDataLayout());
    if (options_.marks)
      module->addModuleFlag(llvm::Module::Warning, "Debug Info Version", llvm::DEBUG_METADATA_VERSION);
    for (std::size_t i = 0; i < regions.size(); ++i) {
      llvm::Function& function = lower(*module, unit, regions[i], name_of(i), options_.marks);
      function.addFnAttr("target-cpu", options_.cpu);
      function.addFnAttr("target-features", options_.features);
      if (!options_.tune.empty()) function.addFnAttr("tune-cpu", options_.tune);
    }
    const auto print = [&](std::string OrcListing::* text) {
      if (listing == nullptr) return;
      llvm::raw_string_ostream out(listing->*text);
      module->print(out, nullptr);
    };
    print(&OrcListing::before);
    llvm::raw_string_ostream wrong(said);
    if (llvm::verifyModule(*module, &wrong)) return fail(ErrorKind::kUnsupported, "LLVM does not accept it: {}", said);
    optimise(*module, *target_);
    print(&OrcListing::after);
    auto object = llvm::orc::SimpleCompiler(*target_)(*module);
    if (!object) return of_llvm("compiling", object.takeError());
    if (!said.empty()) return fail(ErrorKind::kUnsupported, "LLVM, compiling: {}", said);
    return std::move(*object);
  }

  // From the object's line table. All functions lie in one section, which linking moves as a whole: region 0's begins
  // at `first` of the linked bytes. What belongs to no line is left to the instruction before it.
  static std::vector<MachineCode::Mark> marks_of(const llvm::MemoryBuffer& buffer, std::uint32_t first) {
    std::map<std::uint32_t, std::uint16_t> found;  // by offset; of several rows the last one counts
    auto object = llvm::object::ObjectFile::createObjectFile(buffer.getMemBufferRef());
    if (!object) {
      llvm::consumeError(object.takeError());
      return {};
    }
    std::optional<std::uint64_t> begin;
    for (const llvm::object::SymbolRef& symbol : (*object)->symbols()) {
      auto name = symbol.getName();
      auto address = symbol.getAddress();
      if (name && address && *name == name_of(0)) begin = *address;
      if (!name) llvm::consumeError(name.takeError());
      if (!address) llvm::consumeError(address.takeError());
    }
    if (!begin) return {};
    const auto dwarf = llvm::DWARFContext::create(**object);
    for (const auto& unit : dwarf->compile_units()) {
      const auto* lines = dwarf->getLineTableForUnit(unit.get());
      if (lines == nullptr) continue;
      for (const auto& row : lines->Rows) {
        if (row.Line == 0 || row.EndSequence) continue;
        found[static_cast<std::uint32_t>(row.Address.Address - *begin + first)] =
            static_cast<std::uint16_t>(row.Line - 1);
      }
    }
    std::vector<MachineCode::Mark> marks;
    for (const auto& [offset, address] : found) marks.push_back({offset, address});
    return marks;
  }

  static std::string name_of(std::size_t region) { return fmt::format("lc3_region_{}", region); }

  /// Leaves the bytes in memory_.
  Result<std::vector<Function>> link(llvm::MemoryBuffer& object, std::uint64_t address,
                                     std::span<const Region> regions) {
    memory_.begin(address);
    reported_.clear();
    llvm::orc::SymbolLookupSet names;
    for (std::size_t i = 0; i < regions.size(); ++i) names.add(session_.intern(name_of(i)));
    const auto tracker = library_.createResourceTracker();
    if (auto error = linker_.add(tracker, llvm::MemoryBuffer::getMemBuffer(object.getMemBufferRef(), false))) {
      return of_llvm("adding an object", std::move(error));
    }
    auto symbols = session_.lookup({{&library_, llvm::orc::JITDylibLookupFlags::MatchExportedSymbolsOnly}}, names);
    auto removed = tracker->remove();
    if (!symbols) {
      llvm::consumeError(std::move(removed));
      return fail(ErrorKind::kUnsupported, "LLVM, linking: {}{}", reported_, llvm::toString(symbols.takeError()));
    }
    if (removed) return of_llvm("removing an object", std::move(removed));
    std::vector<Function> functions;
    for (std::size_t i = 0; i < regions.size(); ++i) {
      const std::uint64_t at = symbols->find(session_.intern(name_of(i)))->second.getAddress().getValue();
      Function function{.offset = static_cast<std::uint32_t>(at - address), .entries = {}};
      for (const auto& [pc, node] : regions[i].entries) function.entries.push_back(pc);
      functions.push_back(std::move(function));
    }
    return functions;
  }

  const OrcOptions options_;
  std::unique_ptr<llvm::TargetMachine> target_;
  CodeMemory memory_;
  llvm::orc::ExecutionSession session_;
  llvm::orc::ObjectLinkingLayer linker_;
  llvm::orc::JITDylib& library_;
  std::string reported_;
  bool broken_ = false;
};

OrcCompiler::OrcCompiler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OrcCompiler::~OrcCompiler() = default;

Result<std::unique_ptr<OrcCompiler>> OrcCompiler::create(const OrcOptions& options) {
  initialise_llvm();
  try {
    std::string wrong;
    const llvm::Target* target = llvm::TargetRegistry::lookupTarget(kTriple, wrong);
    if (target == nullptr) return fail(ErrorKind::kUnsupported, "LLVM has no target {}: {}", kTriple, wrong);
    // Measured: code as fast as from the level above, in a seventh less time.
    std::unique_ptr<llvm::TargetMachine> machine(
        target->createTargetMachine(kTriple, options.cpu, options.features, llvm::TargetOptions(), llvm::Reloc::PIC_,
                                    llvm::CodeModel::Small, llvm::CodeGenOptLevel::Less, true));
    if (machine == nullptr) {
      return fail(ErrorKind::kUnsupported, "LLVM cannot compile for {} with {}", options.cpu, options.features);
    }
    return std::unique_ptr<OrcCompiler>(new OrcCompiler(std::make_unique<Impl>(options, std::move(machine))));
  } catch (const FatalError& error) {
    return fail(ErrorKind::kUnsupported, "LLVM failed: {}", error.what());
  }
}

Result<MachineCode> OrcCompiler::compile(const Unit& unit, std::span<const std::uint16_t> entries,
                                         std::uint64_t address, OrcListing* listing) {
  return impl_->compile(unit, entries, address, listing);
}

std::string OrcOptions::host_features() {
  const llvm::StringMap<bool> all = llvm::sys::getHostCPUFeatures();
  std::string features;
  for (const char* name : {"bmi", "bmi2", "lzcnt", "movbe", "popcnt"}) {
    const auto found = all.find(name);
    if (found == all.end() || !found->second) continue;
    if (!features.empty()) features += ',';
    features += '+';
    features += name;
  }
  return features;
}

std::string OrcOptions::host_cpu() { return llvm::sys::getHostCPUName().str(); }

}  // namespace warmfork::lc3::jit
