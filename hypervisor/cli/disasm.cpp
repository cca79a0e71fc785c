// warmfork disasm: LC-3 programs as source text again, or as hexadecimal words.
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/listing.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/os/os_image.hpp"
#include "verbs.hpp"

#include <fmt/format.h>

#include <algorithm>
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

Result<std::string> disassembly(const Options& options) {
  lc3::Program program;
  if (options.os) program = lc3::os_image(options.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird);
  if (!options.files.empty()) {
    WARMFORK_TRY_ASSIGN(lc3::Program loaded, lc3::load_program(options.files));
    WARMFORK_TRY(lc3::merge(program, std::move(loaded)));
  }
  if (program.segments.empty()) return fail(ErrorKind::kUsage, "nothing to disassemble: give files, or --os");
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
      "  warmfork disasm --hex hello.asm              addresses and words only");
  verb->add_option("file", options->files, "Programs: .asm, .obj (classic or lc3tools), and .sym for names")
      ->type_name("FILE");
  verb->add_flag("--os", options->os, "The OS that run loads, before the files");
  verb->add_option("--edition", options->edition, "Of the OS")->check(CLI::IsMember({2, 3}))->capture_default_str();
  verb->add_flag("--hex", options->hex, "Words in hexadecimal instead");
  verb->callback([options, &outcome] { outcome.code = run(*options); });
}

}  // namespace warmfork::cli
