#include "lc3/jit/llvm_module.hpp"

#include "base/file.hpp"

#include <cpuid.h>
#include <dlfcn.h>
#include <xxhash.h>

#include <filesystem>
#include <utility>

namespace warmfork::lc3::jit {
namespace {

std::filesystem::path module_path() {
  std::error_code ignored;
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  std::filesystem::path built = WARMFORK_LLVM_MODULE;
  std::filesystem::path beside = here / built.filename();
  return std::filesystem::exists(beside, ignored) ? beside : built;
}

Result<const LlvmModule*> load() {
  const std::filesystem::path path = module_path();
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) return fail(ErrorKind::kUnsupported, "the module for LLVM cannot be loaded: {}", ::dlerror());
  using Entry = const LlvmModule*();
  // SAFETY: POSIX has dlsym() give functions as object pointers; the module is built from the same sources.
  auto* entry = reinterpret_cast<Entry*>(::dlsym(module, "warmfork_llvm_module"));
  if (entry == nullptr) return fail(ErrorKind::kUnsupported, "{}: {}", path.string(), ::dlerror());
  return entry();
}

// All that LLVM derives the processor's name and features from, but for what differs from one CPU to the next (EBX of
// leaf 1: which of them this is).
std::string processor() {
  std::string text;
  for (const auto& [leaf, subleaf] : {std::pair{0U, 0U}, {1U, 0U}, {7U, 0U}, {7U, 1U}, {0x80000001U, 0U}}) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(leaf, subleaf, &a, &b, &c, &d) == 0) continue;
    if (leaf == 1) b = 0;
    text += fmt::format("{:x}.{}:{:x},{:x},{:x},{:x};", leaf, subleaf, a, b, c, d);
  }
  return text;
}

}  // namespace

Result<std::string> llvm_compiler() {
  constexpr std::size_t kLargest = std::size_t{1} << 30;
  const auto module = read_file(module_path(), kLargest);
  if (!module) return fail(ErrorKind::kUnsupported, "the module for LLVM cannot be read: {}", module.error().message);
  const XXH128_hash_t hash = XXH3_128bits(module->data(), module->size());
  return fmt::format("LLVM {}; {:016x}{:016x}; {}", WARMFORK_LLVM_VERSION, hash.high64, hash.low64, processor());
}

Result<const LlvmModule*> llvm_module() {
  static const Result<const LlvmModule*> loaded = load();
  return loaded;
}

}  // namespace warmfork::lc3::jit
