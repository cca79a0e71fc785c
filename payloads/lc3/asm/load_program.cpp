#include "lc3/asm/load_program.hpp"

#include "base/file.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/object_file.hpp"
#include "lc3/asm/symbol_file.hpp"
#include "lc3/asm/text.hpp"

#include <filesystem>
#include <utility>

namespace warmfork::lc3 {
namespace {

std::string_view as_text(const std::vector<std::byte>& bytes) {
  // SAFETY: bytes viewed as characters, for the lifetime of the vector.
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Result<std::vector<Symbol>> load_symbols(const std::string& path) {
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, kMaxSourceBytes));
  return read_symbols(as_text(bytes), path);
}

// Only names and layout of one file; the caller checks the whole.
Result<Program> load_file(const std::string& path) {
  const std::string extension = upper(std::filesystem::path(path).extension().string());
  if (extension == ".SYM") {
    Program program;
    program.files = {path};
    WARMFORK_TRY_ASSIGN(program.symbols, load_symbols(path));
    return program;
  }
  if (extension != ".ASM" && extension != ".OBJ") {
    return fail(ErrorKind::kInput, "{}: the name ends in '{}': expected .asm, .obj or .sym", path,
                printable(std::filesystem::path(path).extension().string()));
  }
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, kMaxSourceBytes));
  if (extension == ".ASM") return assemble(as_text(bytes), path);
  WARMFORK_TRY_ASSIGN(Program program, read_object(bytes, path));
  const auto symbol_path = std::filesystem::path(path).replace_extension(".sym");
  std::error_code ignored;
  if (std::filesystem::is_regular_file(symbol_path, ignored)) {
    WARMFORK_TRY_ASSIGN(program.symbols, load_symbols(symbol_path.string()));
  }
  return program;
}

}  // namespace

Result<Program> load_program(std::span<const std::string> paths) {
  if (paths.empty()) return fail(ErrorKind::kUsage, "no program file given");
  Program program;
  for (const std::string& path : paths) {
    WARMFORK_TRY_ASSIGN(Program part, load_file(path));
    if (part.segments.empty()) {  // a .sym
      const auto file = static_cast<std::uint32_t>(program.files.size());
      program.files.push_back(path);
      for (Symbol& symbol : part.symbols) {
        symbol.file = file;
        program.symbols.push_back(std::move(symbol));
      }
      continue;
    }
    WARMFORK_TRY(merge(program, std::move(part)));
  }
  if (program.segments.empty()) return fail(ErrorKind::kInput, "{}: symbols only, no program", paths.front());
  return program;
}

}  // namespace warmfork::lc3
