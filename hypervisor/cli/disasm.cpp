// warmfork disasm: LC-3 programs as source text again, or as hexadecimal words.
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/listing.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/jit/frontend.hpp"
#include "lc3/jit/llvm_module.hpp"
#include "lc3/jit/passes.hpp"
#include "lc3/jit/xbyak_compiler.hpp"
#include "lc3/os/os_image.hpp"
#include "verbs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

struct Options {
  std::vector<std::string> files;
  bool os = false;
  int edition = 3;
  bool hex = false;
  bool jit = false;
  std::vector<std::string> without;
};

// x3000  E002 F022 F025 0048 …  |.".%.H…|: the low byte of each word as a character.
std::string hex_dump(const lc3::Program& program) {
  constexpr std::size_t kPerLine = 8;
  std::string text;
  for (const lc3::Segment& segment : program.segments) {
    for (std::size_t i = 0; i < segment.words.size(); i += kPerLine) {
      std::string words;
      std::string characters;
      for (std::size_t j = i; j < std::min(i + kPerLine, segment.words.size()); ++j) {
        const std::uint16_t word = segment.words[j];
        words += fmt::format(" {:04X}", word);
        characters += word >= 0x20 && word < 0x7F ? static_cast<char>(word) : '.';
      }
      text += fmt::format("x{:04X} {:<40}  |{}|\n", segment.origin + i, words, characters);
    }
    if (&segment != &program.segments.back()) text += "\n";
  }
  return text;
}

// As a machine would have it compiled that starts at the program's entry.
Result<std::string> compiled(const lc3::Program& program, const Options& options) {
  namespace jit = lc3::jit;
  const auto words = std::make_unique<std::array<std::uint16_t, lc3::kMemoryWords>>();
  for (const lc3::Segment& segment : program.segments) {
    std::ranges::copy_n(
        segment.words.begin(),
        static_cast<std::ptrdiff_t>(std::min<std::size_t>(segment.words.size(), lc3::kMemoryWords - segment.origin)),
        words->begin() + segment.origin);
  }
  const jit::WordSet none;
  const std::array roots{program.entry()};
  jit::Unit unit = jit::translate({*words, none, options.edition == 2}, roots);
  jit::Passes passes;
  for (const std::string& pass : options.without) {
    if (pass == jit::kPassNames[0]) passes.constants = false;
    if (pass == jit::kPassNames[1]) passes.forwarding = false;
    if (pass == jit::kPassNames[2]) passes.dead_flags = false;
  }
  jit::run_passes(unit, passes);
  WARMFORK_TRY_ASSIGN(const jit::MachineCode code, jit::compile_with_xbyak(unit, {.marks = true}));
  const auto name = [&program](std::uint16_t address) {
    const auto found = std::ranges::find(program.symbols, address, &lc3::Symbol::address);
    return found == program.symbols.end() ? std::string() : found->name;
  };
  WARMFORK_TRY_ASSIGN(const jit::LlvmModule* llvm, jit::llvm_module());
  return llvm->list_code(*words, unit, code, name);
}

Result<std::string> disassembly(const Options& options) {
  lc3::Program program;
  if (options.os) program = lc3::os_image(options.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird);
  if (!options.files.empty()) {
    WARMFORK_TRY_ASSIGN(lc3::Program loaded, lc3::load_program(options.files));
    WARMFORK_TRY(lc3::merge(program, std::move(loaded)));
  }
  if (program.segments.empty()) return fail(ErrorKind::kUsage, "nothing to disassemble: give files, or --os");
  if (options.jit) return compiled(program, options);
  return options.hex ? hex_dump(program) : lc3::disassemble(program);
}

int run(const Options& options) {
  const auto text = disassembly(options);
  if (!text) return report(text.error());
  fmt::print("{}", *text);
  return kSuccess;
}

}  // namespace

void add_disasm(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("disasm", "Show LC-3 programs as source text");
  verb->footer(
      "The text can be assembled again and gives the same words. Labels come from .sym files beside .obj files.\n\n"
      "  warmfork disasm hello.obj\n"
      "  warmfork disasm --os --edition 2             warmfork's own LC-3 OS\n"
      "  warmfork disasm --hex hello.asm              addresses and words only\n"
      "  warmfork disasm --jit hello.asm              with what the compiler makes of it");
  verb->add_option("file", options->files, "Programs: .asm, .obj (classic or lc3tools), and .sym for names")
      ->type_name("FILE");
  verb->add_flag("--os", options->os, "The OS that run loads, before the files");
  verb->add_option("--edition", options->edition, "Of the OS, and of what is compiled")
      ->check(CLI::IsMember({2, 3}))
      ->capture_default_str();
  verb->add_flag("--hex", options->hex, "Words in hexadecimal instead");
  verb->add_flag(
          "--jit", options->jit,
          "What is compiled from the program's entry on: LC-3, intermediate form (! sets the condition code), x86-64.\n"
          "R0 to R7 are r8 to r15, the last result eax, memory rbx, the budget rdi, tables rbp")
      ->excludes("--hex");
  verb->add_option("--without", options->without, "Leave out passes of the compiler, to see what they do")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(lc3::jit::kPassNames), std::end(lc3::jit::kPassNames))))
      ->needs("--jit")
      ->allow_extra_args(false)
      ->type_name("PASS");
  verb->callback([options, &outcome] { outcome.code = run(*options); });
}

}  // namespace warmfork::cli
