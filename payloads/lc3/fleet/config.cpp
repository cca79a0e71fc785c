#include "lc3/fleet/config.hpp"

#include "base/file.hpp"

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <span>
#include <utility>

namespace warmfork::lc3 {
namespace {

constexpr std::size_t kShownBytes = 60;
constexpr std::uint64_t kMostInstructions = 1'000'000'000'000'000;
constexpr std::uint64_t kMostWallNs = std::uint64_t{24} * 3600 * 1'000'000'000;
constexpr std::uint64_t kMostOutputBytes = std::uint64_t{64} << 20;
constexpr int kMostCpu = 4095;

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array kInstructionUnits{Unit{"", 1}, Unit{"k", 1'000}, Unit{"M", 1'000'000}, Unit{"G", 1'000'000'000}};
constexpr std::array kTimeUnits{Unit{"us", 1'000}, Unit{"ms", 1'000'000}, Unit{"s", 1'000'000'000},
                                Unit{"m", 60'000'000'000}};
constexpr std::array kByteUnits{Unit{"", 1}, Unit{"K", 1 << 10}, Unit{"M", 1 << 20}};

std::optional<std::uint64_t> parse_units(std::string_view text, std::span<const Unit> units) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const Unit& unit : units) {
    std::uint64_t product = 0;
    if (suffix == unit.name) {
      if (__builtin_mul_overflow(value, unit.factor, &product)) return std::nullopt;
      return product;
    }
  }
  return std::nullopt;
}

/// A value of a file as it is shown in messages.
std::string shown(const toml::node& node) {
  if (const auto text = node.value<std::string_view>(); text && node.is_string()) {
    return fmt::format("\"{}\"", visible(*text, kShownBytes));
  }
  if (const auto* number = node.as_integer()) return fmt::format("{}", number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  if (node.is_table()) return "a table";
  if (node.is_array()) return "an array";
  return "a date or time";
}

std::string shown_key(std::string_view key) { return visible(key, kShownBytes); }

/// One table of a file: its keys are taken one by one, and what is left over at the end is refused.
class TableReader {
 public:
  TableReader(const toml::table& table, const std::string& file, std::string where)
      : table_(table), file_(file), where_(std::move(where)) {}

  [[nodiscard]] const toml::node* take(std::string_view key) {
    known_.emplace_back(key);
    return table_.get(key);
  }
  [[nodiscard]] std::uint32_t line() const { return table_.source().begin.line; }
  [[nodiscard]] Failure off(const toml::node& node, std::string_view key, std::string_view allowed) const {
    return fail(ErrorKind::kInput, "{}:{}: {}{} = {}: {}", file_, node.source().begin.line, where_, key, shown(node),
                allowed);
  }
  [[nodiscard]] Failure missing(std::string_view key, std::string_view what) const {
    return fail(ErrorKind::kInput, "{}:{}: {}{} is missing: {}", file_, std::max(line(), 1U), where_, key, what);
  }

  [[nodiscard]] Result<std::optional<std::string>> text(std::string_view key, std::size_t limit) {
    const toml::node* node = take(key);
    if (node == nullptr) return std::optional<std::string>{};
    const auto* text = node->as_string();
    if (text == nullptr) return off(*node, key, "has to be a string");
    if (text->get().size() > limit) {
      return off(*node, key, fmt::format("{} bytes, at most {}", text->get().size(), limit));
    }
    return std::optional(text->get());
  }
  /// A number, or a string that `parse` makes one of.
  [[nodiscard]] Status number(std::string_view key, std::uint64_t least, std::uint64_t most, std::uint64_t& out,
                              std::optional<std::uint64_t> (*parse)(std::string_view), std::string_view examples) {
    const toml::node* node = take(key);
    if (node == nullptr) return {};
    std::optional<std::uint64_t> value;
    const auto* number = node->as_integer();
    // A time without a unit would be a guess.
    if (number != nullptr && parse != parse_wall_ns && number->get() >= 0)
      value = static_cast<std::uint64_t>(number->get());
    if (const auto* text = node->as_string(); text != nullptr && parse != nullptr) value = parse(text->get());
    if (!value || *value < least || *value > most) {
      return off(*node, key, fmt::format("has to be {} … {}{}{}", least, most, examples.empty() ? "" : ", ", examples));
    }
    out = *value;
    return {};
  }
  template <std::size_t N>
  [[nodiscard]] Result<std::optional<std::size_t>> word(std::string_view key, const std::array<const char*, N>& words) {
    const toml::node* node = take(key);
    if (node == nullptr) return std::optional<std::size_t>{};
    const auto* text = node->as_string();
    for (std::size_t i = 0; text != nullptr && i < N; ++i) {
      if (text->get() == words[i]) return std::optional(i);
    }
    std::string all;
    for (const char* const one : words) all += fmt::format("{}\"{}\"", all.empty() ? "" : ", ", one);
    return off(*node, key, "has to be one of " + all);
  }
  /// KEY = "text" or KEY_file = "path".
  [[nodiscard]] Result<std::optional<TextSource>> source(const std::string& key) {
    const std::string file_key = key + "_file";
    const toml::node* const node = table_.get(key);
    const toml::node* const file_node = table_.get(file_key);
    WARMFORK_TRY_ASSIGN(const auto text, this->text(key, kMaxTextBytes));
    WARMFORK_TRY_ASSIGN(const auto path, this->path(file_key));
    if (node != nullptr && file_node != nullptr) {
      return off(*file_node, file_key, fmt::format("there is {} too: one of them", key));
    }
    if (text) return std::optional(TextSource{*text, {}, node->source().begin.line});
    if (path) return std::optional(TextSource{{}, *path, file_node->source().begin.line});
    return std::optional<TextSource>{};
  }
  [[nodiscard]] Result<std::optional<std::string>> path(const std::string& key) {
    const toml::node* const node = table_.get(key);
    WARMFORK_TRY_ASSIGN(auto path, text(key, 4096));
    if (path && (path->empty() || path->find('\0') != std::string::npos)) return off(*node, key, "is no file name");
    return path;
  }
  /// A name for people and reports: not empty, one line.
  [[nodiscard]] Result<std::string> name() {
    const toml::node* const node = table_.get("name");
    WARMFORK_TRY_ASSIGN(const auto text, this->text("name", kMaxNameBytes));
    if (!text) return missing("name", "every one has one");
    if (text->empty()) return off(*node, "name", "must not be empty");
    if (std::ranges::any_of(*text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; })) {
      return off(*node, "name", "must not have control characters");
    }
    return *text;
  }

  [[nodiscard]] Status limits(RunLimits& limits) {
    WARMFORK_TRY(number("budget", 1, kMostInstructions, limits.instructions, parse_instructions,
                        "or \"10k\", \"2M\", \"1G\" (instructions)"));
    WARMFORK_TRY(
        number("deadline", 1000, kMostWallNs, limits.wall_ns, parse_wall_ns, "ns, as \"250ms\", \"2s\", \"1m\""));
    std::uint64_t bytes = limits.output_bytes;
    WARMFORK_TRY(number("output_limit", 0, kMostOutputBytes, bytes, parse_bytes, "or \"64K\", \"1M\" (bytes)"));
    limits.output_bytes = bytes;
    return {};
  }
  [[nodiscard]] Status comparison(Compare& compare, ExpectedEnd& end) {
    WARMFORK_TRY_ASSIGN(const auto how, word("compare", kCompareNames));
    if (how) compare = static_cast<Compare>(*how);
    WARMFORK_TRY_ASSIGN(const auto ends, word("end", kExpectedEndNames));
    if (ends) end = static_cast<ExpectedEnd>(*ends);
    return {};
  }
  [[nodiscard]] Status machine(Lc3Options& machine) {
    std::uint64_t edition = static_cast<std::uint64_t>(machine.edition);
    WARMFORK_TRY(number("edition", 2, 3, edition, nullptr, ""));
    machine.edition = static_cast<int>(edition);
    static constexpr std::array kPrivileges = {"relaxed", "strict"};
    WARMFORK_TRY_ASSIGN(const auto privilege, word("privilege", kPrivileges));
    if (privilege) machine.strict_privilege = *privilege == 1;
    static constexpr std::array kTraps = {"native", "os"};
    WARMFORK_TRY_ASSIGN(const auto traps, word("traps", kTraps));
    if (traps) machine.traps = static_cast<TrapMode>(*traps);
    return {};
  }
  [[nodiscard]] Result<std::optional<std::uint64_t>> seed() {
    const toml::node* node = take("seed");
    if (node == nullptr) return std::optional<std::uint64_t>{};
    const auto* number = node->as_integer();
    if (number == nullptr || number->get() < 0) return off(*node, "seed", "has to be a number from 0 up");
    return std::optional(static_cast<std::uint64_t>(number->get()));
  }

  /// Every key has been taken.
  [[nodiscard]] Status end() const {
    for (const auto& [key, node] : table_) {
      if (std::ranges::find(known_, key.str()) != known_.end()) continue;
      std::string all;
      for (const std::string& one : known_) all += (all.empty() ? "" : ", ") + one;
      return off(node, shown_key(key.str()), "no such key; there are: " + all);
    }
    return {};
  }

 private:
  const toml::table& table_;
  const std::string& file_;
  std::string where_;  // "test 3, "
  std::vector<std::string> known_;
};

Result<toml::table> parse_toml(std::string_view text, const std::string& name) {
  if (text.size() > kMaxConfigBytes) {
    return fail(ErrorKind::kInput, "{}: {} bytes, larger than the limit of {}", name, text.size(), kMaxConfigBytes);
  }
  toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return fail(ErrorKind::kInput, "{}:{}:{}: {}", name, error.source().begin.line, error.source().begin.column,
                visible(error.description(), 300));
  }
  return std::move(parsed).table();
}

/// The tables of [[key]], in their order.
Result<std::vector<const toml::table*>> tables(TableReader& reader, std::string_view key, std::size_t most) {
  std::vector<const toml::table*> all;
  const toml::node* node = reader.take(key);
  if (node == nullptr) return all;
  const auto* array = node->as_array();
  if (array == nullptr) return reader.off(*node, key, fmt::format("is written [[{}]]", key));
  if (array->size() > most) {
    return reader.off(*node, key, fmt::format("{} of them, at most {}", array->size(), most));
  }
  for (const toml::node& one : *array) {
    if (!one.is_table()) return reader.off(one, key, fmt::format("is written [[{}]]", key));
    all.push_back(one.as_table());
  }
  return all;
}

Result<TestCase> parse_test(const toml::table& table, const std::string& file, const TestCase& defaults) {
  TestCase test = defaults;
  TableReader reader(table, file, "test: ");
  WARMFORK_TRY_ASSIGN(test.name, reader.name());
  WARMFORK_TRY_ASSIGN(auto input, reader.source("input"));
  if (input) test.input = std::move(*input);
  WARMFORK_TRY_ASSIGN(auto output, reader.source("output"));
  if (!output) return reader.missing("output", "what the program has to print (or output_file)");
  test.output = std::move(*output);
  WARMFORK_TRY(reader.limits(test.limits));
  WARMFORK_TRY(reader.comparison(test.compare, test.end));
  WARMFORK_TRY(reader.end());
  return test;
}

Status parse_seeds(TableReader& reader, TestSet& set) {
  const toml::node* node = reader.take("seeds");
  if (node == nullptr) return {};
  const auto* array = node->as_array();
  if (array == nullptr || array->empty() || array->size() > kMaxSeeds) {
    return reader.off(*node, "seeds", fmt::format("has to be an array of 1 … {} numbers", kMaxSeeds));
  }
  set.seeds.clear();
  for (const toml::node& one : *array) {
    const auto* number = one.as_integer();
    if (number == nullptr || number->get() < 0) return reader.off(one, "seeds", "have to be numbers from 0 up");
    set.seeds.emplace_back(static_cast<std::uint64_t>(number->get()));
  }
  return {};
}

Result<std::vector<std::string>> parse_programs(TableReader& reader) {
  const toml::node* node = reader.take("program");
  if (node == nullptr) return reader.missing("program", "an .asm or .obj file, or an array of them");
  std::vector<const toml::node*> all{node};
  if (const auto* array = node->as_array()) {
    all.clear();
    if (array->empty() || array->size() > kMaxProgramFiles) {
      return reader.off(*node, "program", fmt::format("has to be 1 … {} files", kMaxProgramFiles));
    }
    for (const toml::node& one : *array) all.push_back(&one);
  }
  std::vector<std::string> programs;
  for (const toml::node* one : all) {
    const auto* text = one->as_string();
    if (text == nullptr || text->get().empty() || text->get().size() > 4096 ||
        text->get().find('\0') != std::string::npos) {
      return reader.off(*one, "program", "has to be the name of a file");
    }
    programs.push_back(text->get());
  }
  return programs;
}

Result<MachineSpec> parse_machine(const toml::table& table, const std::string& file) {
  MachineSpec machine;
  TableReader reader(table, file, "machine: ");
  machine.line = reader.line();
  WARMFORK_TRY_ASSIGN(machine.name, reader.name());
  WARMFORK_TRY_ASSIGN(machine.programs, parse_programs(reader));
  WARMFORK_TRY_ASSIGN(const auto engine, reader.word("engine", kEngineNames));
  if (engine) machine.machine.engine = static_cast<Engine>(*engine);
  WARMFORK_TRY(reader.machine(machine.machine));
  WARMFORK_TRY_ASSIGN(machine.machine.randomise, reader.seed());
  static constexpr std::array kForks = {"vm", "space"};
  WARMFORK_TRY_ASSIGN(const auto fork, reader.word("fork", kForks));
  if (fork) machine.fork = *fork == 0 ? ForkKind::kVm : ForkKind::kSpace;
  std::uint64_t cpu = ~std::uint64_t{0};
  WARMFORK_TRY(reader.number("cpu", 0, kMostCpu, cpu, nullptr, "as in /proc/cpuinfo"));
  if (cpu != ~std::uint64_t{0}) machine.cpu = static_cast<int>(cpu);
  WARMFORK_TRY(reader.limits(machine.limits));
  WARMFORK_TRY_ASSIGN(auto input, reader.source("input"));
  if (input) machine.input = std::move(*input);
  WARMFORK_TRY_ASSIGN(machine.output, reader.source("output"));
  WARMFORK_TRY(reader.comparison(machine.compare, machine.end));
  std::uint64_t count = 1;
  WARMFORK_TRY(reader.number("count", 1, kMaxMachines, count, nullptr, "replicas"));
  machine.count = static_cast<std::uint32_t>(count);
  WARMFORK_TRY(reader.end());
  return machine;
}

Status check_names(const FleetFile& fleet) {
  std::map<std::string, std::uint32_t> names;
  std::size_t total = 0;
  std::size_t output = 0;
  for (const MachineSpec& machine : fleet.machines) {
    total += machine.count;
    output += machine.count * machine.limits.output_bytes;
    if (output > kMaxFleetOutputBytes) {
      return fail(ErrorKind::kInput, "{}:{}: machine: output_limit = {}, count = {}: more than {} bytes in all",
                  fleet.name, machine.line, machine.limits.output_bytes, machine.count, kMaxFleetOutputBytes);
    }
    if (total > kMaxMachines) {
      return fail(ErrorKind::kInput, "{}:{}: machine: count = {}: more than {} machines in all", fleet.name,
                  machine.line, machine.count, kMaxMachines);
    }
    for (std::uint32_t i = 0; i < machine.count; ++i) {
      const auto [found, added] = names.emplace(replica_name(machine, i), machine.line);
      if (!added) {
        return fail(ErrorKind::kInput, "{}:{}: machine: name = \"{}\": line {} has it already", fleet.name,
                    machine.line, visible(found->first, kShownBytes), found->second);
      }
    }
  }
  return {};
}

// Each machine has one console: at most one link begins at it, at most one ends there. So a machine that is met again
// when links are followed from it is in a ring, which never comes to an end.
Status check_links(const FleetFile& fleet) {
  std::map<std::string, const LinkSpec*> from;
  std::map<std::string, const LinkSpec*> to;
  for (const LinkSpec& link : fleet.links) {
    const auto check = [&](const char* key, const std::string& name, auto& ends) -> Status {
      const auto machine = std::ranges::find(fleet.machines, name, &MachineSpec::name);
      if (machine == fleet.machines.end()) {
        return fail(ErrorKind::kInput, "{}:{}: link: {} = \"{}\": no such machine", fleet.name, link.line, key,
                    visible(name, kShownBytes));
      }
      if (machine->count != 1) {
        return fail(ErrorKind::kInput, "{}:{}: link: {} = \"{}\": {} machines have that name, a link needs one",
                    fleet.name, link.line, key, visible(name, kShownBytes), machine->count);
      }
      if (!ends.emplace(name, &link).second) {
        return fail(ErrorKind::kInput,
                    "{}:{}: link: {} = \"{}\": line {} has it already, a console has one link each way", fleet.name,
                    link.line, key, visible(name, kShownBytes), ends.at(name)->line);
      }
      return {};
    };
    WARMFORK_TRY(check("from", link.from, from));
    WARMFORK_TRY(check("to", link.to, to));
  }
  for (const LinkSpec& first : fleet.links) {
    const LinkSpec* link = &first;
    for (std::size_t steps = 0; link != nullptr && steps < fleet.links.size(); ++steps) {
      if (link->to == first.from) {
        return fail(ErrorKind::kInput, "{}:{}: link: to = \"{}\": the links from there lead back to it", fleet.name,
                    link->line, visible(link->to, kShownBytes));
      }
      const auto next = from.find(link->to);
      link = next == from.end() ? nullptr : next->second;
    }
  }
  return {};
}

Result<std::string> read_text(const std::string& path, std::size_t limit) {
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, limit));
  // SAFETY: bytes viewed as characters.
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

/// Reads the texts of one file, all together bounded.
class TextReader {
 public:
  explicit TextReader(const std::string& file) : file_(file), directory_(std::filesystem::path(file).parent_path()) {}

  [[nodiscard]] Status read(TextSource& source) {
    if (!source.path.empty()) {
      auto text = read_text(relative(source.path), kMaxTextBytes);
      if (!text) return with_context(text.error(), fmt::format("{}:{}", file_, source.line));
      source.text = std::move(*text);
    }
    total_ += source.text.size();
    if (total_ > kMaxAllTextBytes) {
      return fail(ErrorKind::kInput, "{}:{}: more than {} bytes of inputs and outputs in all", file_, source.line,
                  kMaxAllTextBytes);
    }
    return {};
  }
  [[nodiscard]] std::string relative(const std::string& path) const { return (directory_ / path).string(); }

 private:
  const std::string& file_;
  std::filesystem::path directory_;
  std::size_t total_ = 0;
};

Result<TestSet> tests_of_directory(const std::string& path) {
  namespace fs = std::filesystem;
  std::map<std::string, std::pair<bool, bool>> pairs;  // by name: has .in, has .out
  std::error_code error;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    const std::string extension = entry->path().extension().string();
    if (extension != ".in" && extension != ".out") continue;
    auto& [in, out] = pairs[entry->path().stem().string()];
    (extension == ".in" ? in : out) = true;
    if (pairs.size() > kMaxTests) return fail(ErrorKind::kInput, "{}: more than {} tests", path, kMaxTests);
  }
  if (error) return fail(ErrorKind::kInput, "{}: {}", path, error.message());
  if (pairs.empty()) return fail(ErrorKind::kInput, "{}: no tests: there is no file NAME.in or NAME.out", path);
  TestSet set;
  set.name = path;
  const std::string file = path + "/";
  TextReader reader(file);
  for (const auto& [name, has] : pairs) {
    if (!has.second) return fail(ErrorKind::kInput, "{}/{}.in: there is no {}.out beside it", path, name, name);
    TestCase test;
    test.name = name;
    test.output.path = name + ".out";
    if (has.first) test.input.path = name + ".in";
    WARMFORK_TRY(reader.read(test.output));
    WARMFORK_TRY(reader.read(test.input));
    set.tests.push_back(std::move(test));
  }
  return set;
}

}  // namespace

std::optional<std::uint64_t> parse_instructions(std::string_view text) { return parse_units(text, kInstructionUnits); }
std::optional<std::uint64_t> parse_wall_ns(std::string_view text) { return parse_units(text, kTimeUnits); }
std::optional<std::uint64_t> parse_bytes(std::string_view text) { return parse_units(text, kByteUnits); }

std::string replica_name(const MachineSpec& machine, std::uint32_t index) {
  return machine.count == 1 ? machine.name : fmt::format("{}.{}", machine.name, index + 1);
}

Result<TestSet> parse_tests(std::string_view text, const std::string& name) {
  WARMFORK_TRY_ASSIGN(const toml::table table, parse_toml(text, name));
  TestSet set;
  set.name = name;
  TestCase defaults;
  TableReader reader(table, name, "");
  WARMFORK_TRY(reader.machine(set.machine));
  WARMFORK_TRY(reader.limits(defaults.limits));
  WARMFORK_TRY(reader.comparison(defaults.compare, defaults.end));
  WARMFORK_TRY(parse_seeds(reader, set));
  WARMFORK_TRY_ASSIGN(const auto tests, tables(reader, "test", kMaxTests));
  WARMFORK_TRY(reader.end());
  if (tests.empty()) return fail(ErrorKind::kInput, "{}: no tests: there is no [[test]]", name);
  std::map<std::string, std::uint32_t> names;
  for (const toml::table* one : tests) {
    WARMFORK_TRY_ASSIGN(TestCase test, parse_test(*one, name, defaults));
    const std::uint32_t line = one->source().begin.line;
    const auto [found, added] = names.emplace(test.name, line);
    if (!added) {
      return fail(ErrorKind::kInput, "{}:{}: test: name = \"{}\": line {} has it already", name, line,
                  visible(test.name, kShownBytes), found->second);
    }
    set.tests.push_back(std::move(test));
  }
  return set;
}

Result<TestSet> load_tests(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return tests_of_directory(path);
  WARMFORK_TRY_ASSIGN(const std::string text, read_text(path, kMaxConfigBytes));
  WARMFORK_TRY_ASSIGN(TestSet set, parse_tests(text, path));
  TextReader reader(path);
  for (TestCase& test : set.tests) {
    WARMFORK_TRY(reader.read(test.input));
    WARMFORK_TRY(reader.read(test.output));
  }
  return set;
}

Result<FleetFile> parse_fleet(std::string_view text, const std::string& name) {
  WARMFORK_TRY_ASSIGN(const toml::table table, parse_toml(text, name));
  FleetFile fleet;
  fleet.name = name;
  TableReader reader(table, name, "");
  WARMFORK_TRY_ASSIGN(const auto machines, tables(reader, "machine", kMaxMachineTables));
  WARMFORK_TRY_ASSIGN(const auto links, tables(reader, "link", kMaxMachineTables));
  WARMFORK_TRY(reader.end());
  if (machines.empty()) return fail(ErrorKind::kInput, "{}: no machines: there is no [[machine]]", name);
  for (const toml::table* one : machines) {
    WARMFORK_TRY_ASSIGN(MachineSpec machine, parse_machine(*one, name));
    fleet.machines.push_back(std::move(machine));
  }
  WARMFORK_TRY(check_names(fleet));
  for (const toml::table* one : links) {
    TableReader link(*one, name, "link: ");
    WARMFORK_TRY_ASSIGN(const auto from, link.text("from", kMaxNameBytes));
    WARMFORK_TRY_ASSIGN(const auto to, link.text("to", kMaxNameBytes));
    if (!from) return link.missing("from", "the machine whose output it is");
    if (!to) return link.missing("to", "the machine whose input it is");
    WARMFORK_TRY(link.end());
    fleet.links.push_back({*from, *to, link.line()});
  }
  WARMFORK_TRY(check_links(fleet));
  if (!fleet.links.empty()) {
    return fail(ErrorKind::kUnsupported, "{}:{}: links are not supported yet", name, fleet.links.front().line);
  }
  return fleet;
}

Result<FleetFile> load_fleet(const std::string& path) {
  WARMFORK_TRY_ASSIGN(const std::string text, read_text(path, kMaxConfigBytes));
  WARMFORK_TRY_ASSIGN(FleetFile fleet, parse_fleet(text, path));
  TextReader reader(path);
  for (MachineSpec& machine : fleet.machines) {
    WARMFORK_TRY(reader.read(machine.input));
    if (machine.output) WARMFORK_TRY(reader.read(*machine.output));
    for (std::string& program : machine.programs) program = reader.relative(program);
  }
  return fleet;
}

}  // namespace warmfork::lc3
