// warmfork asm: LC-3 source to object files.
#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/asm/object_file.hpp"
#include "lc3/asm/symbol_file.hpp"
#include "lc3/asm/text.hpp"
#include "verbs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string file;
  std::string output;
  std::string format = "classic";
  std::string symbols;
  bool no_symbols = false;
  bool listing = false;
};

// The text of format_diagnostic() with the place in bold and the caret in red.
std::string coloured(const std::string& text) {
  std::string result;
  std::string_view rest = text;
  for (int number = 0; !rest.empty(); ++number) {
    const std::string_view line = lc3::take_line(rest);
    if (number == 0) {
      const std::size_t place = line.find(": ");
      result += fmt::format("\033[1m{}\033[0m{}\n", line.substr(0, place + 1), line.substr(place + 1));
    } else if (line.find_first_not_of(" \t") == line.find('^')) {
      result += fmt::format("\033[1;31m{}\033[0m\n", line);
    } else {
      result += fmt::format("{}\n", line);
    }
  }
  return result;
}

int print_diagnostics(const lc3::Assembly& assembly) {
  for (const lc3::Diagnostic& diagnostic : assembly.diagnostics) {
    const std::string text = lc3::format_diagnostic(diagnostic);
    print_message("{}", use_colour() ? coloured(text) : text + "\n");
  }
  const std::size_t count = assembly.diagnostics.size() + assembly.dropped_diagnostics;
  const std::string dropped =
      assembly.dropped_diagnostics == 0 ? "" : fmt::format(", {} of them not shown", assembly.dropped_diagnostics);
  return report(
      {ErrorKind::kInput, fmt::format("{} error{}{}: nothing written", count, count == 1 ? "" : "s", dropped)});
}

// Every source line with the words it has become; of many equal words in a row only the first and their number.
std::string listing(const lc3::Program& program, std::string_view source) {
  const auto word_at = [&](std::uint32_t address) -> std::uint16_t {
    for (const lc3::Segment& segment : program.segments) {
      if (address >= segment.origin && address < segment.end()) return segment.words[address - segment.origin];
    }
    return 0;
  };
  std::string text;
  std::size_t next = 0;  // of program.lines, which are in the order of the source
  for (std::uint32_t number = 1; !source.empty(); ++number) {
    const std::string_view line = lc3::take_line(source);
    if (next == program.lines.size() || program.lines[next].line != number) {
      text += fmt::format("{:>16}{:>6}  {}\n", "", number, lc3::without_controls(line));
      continue;
    }
    const lc3::SourceLine& words = program.lines[next++];
    for (std::uint32_t i = 0; i < words.word_count;) {
      const std::uint32_t address = words.address + i;
      const std::uint16_t word = word_at(address);
      std::uint32_t same = 1;
      while (i + same < words.word_count && word_at(address + same) == word) ++same;
      text += fmt::format("x{:04X}  x{:04X}  ", address, word);
      text += i == 0 ? fmt::format("  {:>6}  {}\n", number, lc3::without_controls(line)) : "\n";
      if (same > 2) text += fmt::format("{:>8}({} times)\n", "", same);
      i += same > 2 ? same : 1;
    }
  }
  return text;
}

Status write_bytes(const std::string& path, std::span<const std::byte> bytes) {
  return write_file(path, bytes.data(), bytes.size());
}

// NAME.obj, and NAME-x4000.obj for a further segment at x4000.
std::string segment_path(const fs::path& first, const lc3::Segment& segment) {
  fs::path path = first;
  path.replace_filename(fmt::format("{}-x{:04X}{}", first.stem().string(), segment.origin, first.extension().string()));
  return path.string();
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code ignored;  // not there yet
  return a.lexically_normal() == b.lexically_normal() || (fs::equivalent(a, b, ignored) && fs::is_regular_file(a));
}

// No output may replace the source, also by another name, or an output before it.
Status check_outputs(const Options& options, const std::vector<std::string>& outputs) {
  for (auto output = outputs.begin(); output != outputs.end(); ++output) {
    if (same_file(*output, options.file)) {
      return fail(ErrorKind::kUsage, "{}: the output would replace the source: name another with -o and --sym",
                  *output);
    }
    if (std::any_of(outputs.begin(), output, [&](const std::string& other) { return same_file(*output, other); })) {
      return fail(ErrorKind::kUsage, "{}: the symbols would replace the object file: name another with --sym", *output);
    }
  }
  return {};
}

Status write_objects(const Options& options, const lc3::Program& program, const std::string& output) {
  if (options.format == "lc3tools") {
    WARMFORK_TRY(write_bytes(output, lc3::write_lc3tools_object(program)));
    fmt::print("{}: {} words in {} segments\n", output, program.word_count(), program.segments.size());
    return {};
  }
  for (std::size_t i = 0; i < program.segments.size(); ++i) {
    const lc3::Segment& segment = program.segments[i];
    const std::string path = i == 0 ? output : segment_path(output, segment);
    WARMFORK_TRY(write_bytes(path, lc3::write_classic_object(segment)));
    fmt::print("{}: {} words from x{:04X}\n", path, segment.words.size(), segment.origin);
  }
  return {};
}

Result<int> assemble(const Options& options) {
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(options.file, lc3::kMaxSourceBytes));
  // SAFETY: bytes viewed as characters, for the lifetime of the vector.
  const std::string_view source(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const lc3::Assembly assembly = lc3::assemble_with_diagnostics(source, options.file);
  if (!assembly.diagnostics.empty()) return print_diagnostics(assembly);
  const lc3::Program& program = assembly.program;
  const std::string output =
      options.output.empty() ? fs::path(options.file).replace_extension(".obj").string() : options.output;
  const std::string symbols =
      options.symbols.empty() ? fs::path(output).replace_extension(".sym").string() : options.symbols;
  // Beside a device there is no place for a file that nobody asked for.
  std::error_code ignored;
  const bool device = fs::exists(output, ignored) && !fs::is_regular_file(output, ignored);
  const bool with_symbols = !options.no_symbols && !(options.symbols.empty() && device);
  std::vector<std::string> outputs{output};
  for (std::size_t i = 1; i < program.segments.size() && options.format == "classic"; ++i) {
    outputs.push_back(segment_path(output, program.segments[i]));
  }
  if (with_symbols) outputs.push_back(symbols);
  WARMFORK_TRY(check_outputs(options, outputs));
  WARMFORK_TRY(write_objects(options, program, output));
  if (with_symbols) {
    const std::string text = lc3::write_symbols(program.symbols);
    WARMFORK_TRY(write_file(symbols, text.data(), text.size()));
    fmt::print("{}: {} symbols\n", symbols, program.symbols.size());
  }
  if (options.listing) fmt::print("\n{}", listing(program, source));
  return kSuccess;
}

int run(const Options& options) {
  const auto code = assemble(options);
  return code ? *code : report(code.error());
}

}  // namespace

void add_asm(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("asm", "Assemble LC-3 source into object files");
  verb->footer(
      "Reports everything that is wrong with the source, each with its line and a caret, and then writes nothing.\n"
      "A classic object file holds one segment: of a source with several .ORIGs the first goes to NAME.obj, the one\n"
      "at x4000 to NAME-x4000.obj, and so on; give them all to run. An lc3tools object file holds them all.\n\n"
      "  warmfork asm hello.asm                       writes hello.obj and hello.sym beside it\n"
      "  warmfork asm hello.asm -o out/h.obj --no-sym\n"
      "  warmfork asm hello.asm --listing             and shows every line with its words\n\n"
      "Exit codes: 0 written · 2 wrong usage · 3 errors in the source, or no such file · 4 cannot write.");
  verb->add_option("file", options->file, "Source file (.asm)")->required()->type_name("FILE");
  verb->add_option("-o,--output", options->output, "Object file (the source's name with .obj)")->type_name("FILE");
  verb->add_option("--format", options->format, "Format of the object file")
      ->check(CLI::IsMember({"classic", "lc3tools"}))
      ->capture_default_str();
  auto* symbols =
      verb->add_option("--sym", options->symbols, "Symbol file (the object's name with .sym)")->type_name("FILE");
  verb->add_flag("--no-sym", options->no_symbols, "Write no symbol file")->excludes(symbols);
  verb->add_flag("--listing", options->listing, "Print addresses and words beside the source");
  verb->callback([options, &outcome] { outcome.code = run(*options); });
}

}  // namespace warmfork::cli
