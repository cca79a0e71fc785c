#include "lc3/jit/llvm_module.hpp"

#include <dlfcn.h>

#include <filesystem>

namespace warmfork::lc3::jit {
namespace {

Result<const LlvmModule*> load() {
  std::error_code ignored;
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  const std::filesystem::path built = WARMFORK_LLVM_MODULE;
  const std::filesystem::path beside = here / built.filename();
  const std::filesystem::path path = std::filesystem::exists(beside, ignored) ? beside : built;
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) return fail(ErrorKind::kUnsupported, "the module for LLVM cannot be loaded: {}", ::dlerror());
  using Entry = const LlvmModule*();
  // SAFETY: POSIX has dlsym() give functions as object pointers; the module is built from the same sources.
  auto* entry = reinterpret_cast<Entry*>(::dlsym(module, "warmfork_llvm_module"));
  if (entry == nullptr) return fail(ErrorKind::kUnsupported, "{}: {}", path.string(), ::dlerror());
  return entry();
}

}  // namespace

Result<const LlvmModule*> llvm_module() {
  static const Result<const LlvmModule*> loaded = load();
  return loaded;
}

}  // namespace warmfork::lc3::jit
