#include "lc3/jit/code_names.hpp"

#include "lc3/jit/code_cache.hpp"
#include "lc3/jit/host_runner.hpp"
#include "lc3/jit/xbyak_compiler.hpp"
#include "unit_memory.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Names : public ::testing::Test {
 protected:
  ~Names() override { std::filesystem::remove(path); }
  [[nodiscard]] std::string map() const {
    std::ifstream file(path);
    return {std::istreambuf_iterator(file), {}};
  }
  // ADD R0; BRz x3003; ADD R1; HALT: three blocks.
  static MachineCode code() {
    return *compile_with_xbyak(Memory(0x3000, {0x1021, 0x0401, 0x1261, 0x14a1, 0xf025}).unit({0x3000}));
  }

  const std::string path = ::testing::TempDir() + "names_" + std::to_string(::getpid()) + ".map";
};

TEST_F(Names, CoverTheCodeWithoutGaps) {
  const MachineCode made = code();
  const std::vector<CodeName> names = names_of(made);
  std::vector<std::string> texts;
  std::uint32_t at = 0;
  for (const CodeName& name : names) {
    EXPECT_EQ(name.offset, at);
    at += name.bytes;
    texts.push_back(name.name);
  }
  EXPECT_EQ(at, made.bytes.size());
  EXPECT_THAT(texts, ElementsAre("lc3_x3000", "lc3_x3002", "lc3_x3003", "lc3_leaves"));
}

TEST_F(Names, OfAMapAreTheVersionsThatAreThere) {
  const auto names = CodeNames::create({.perf_map = path});
  ASSERT_TRUE(names) << names.error().message;
  std::vector<std::byte> memory(std::size_t{1} << 20);
  CodeCache cache({memory, 0x7f0000000000}, {.names = *names});
  Memory words(0x3000, {0x1021, 0x0ffe});
  const CodeCache::Request request{.words = words.words(), .pc = 0x3000, .lea_sets_cc = false, .lost = {}};
  const auto first = cache.compile(request), second = cache.compile(request);
  ASSERT_TRUE(first && second);
  std::istringstream lines(map());
  std::vector<std::uint64_t> starts;
  std::string name;
  for (std::uint64_t start = 0, size = 0; lines >> std::hex >> start >> size >> name;) {
    EXPECT_GT(size, 0U);
    if (name == "lc3_x3000") starts.push_back(start);
  }
  EXPECT_TRUE(lines.eof());
  EXPECT_THAT(starts, ElementsAre(*first + kCodeText, *second + kCodeText));
  cache.clear();
  EXPECT_EQ(map(), "");
  ASSERT_TRUE(cache.compile(request));
  EXPECT_THAT(map(), HasSubstr(" lc3_x3000\n"));
  EXPECT_EQ(map().find('\0'), std::string::npos);
  EXPECT_EQ((*names)->complaint(), "");
}

TEST_F(Names, AreLimited) {
  const auto names = CodeNames::create({.perf_map = path, .most = 7});
  ASSERT_TRUE(names);
  (*names)->add(0x1000, code());  // four names
  const std::string before = map();
  (*names)->add(0x2000, code());
  EXPECT_EQ(map(), before);
  EXPECT_EQ((*names)->complaint(), "more than 7 names of compiled code");
  (*names)->clear();
  (*names)->add(0x2000, code());
  EXPECT_THAT(map(), ::testing::StartsWith("2000 "));
}

// LLVM's code begins with instructions of its own: a loop's, mostly, whose samples are not nobody's.
TEST_F(Names, FindAnInstructionForAllOfACode) {
  const auto names = CodeNames::create({.lookup = true});
  ASSERT_TRUE(names);
  MachineCode made;
  made.bytes.resize(32);
  made.optimised = 16;
  made.marks = {{8, 0x3001}, {12, 0x3002}};
  made.entries = {{20, 0x3000}};
  (*names)->add(0x1000, made);
  const auto pc_at = [&](std::uint64_t address) -> int {
    const auto found = (*names)->find(address);
    return found ? found->pc : -1;
  };
  EXPECT_EQ(pc_at(0xfff), -1);
  EXPECT_EQ(pc_at(0x1000), 0x3001);
  EXPECT_EQ(pc_at(0x1008), 0x3001);
  EXPECT_EQ(pc_at(0x1010), 0x3002);
  EXPECT_EQ(pc_at(0x101f), 0x3000);
  EXPECT_EQ(pc_at(0x1020), -1);
  EXPECT_TRUE((*names)->find(0x100f)->optimised);
  EXPECT_FALSE((*names)->find(0x1010)->optimised);
  (*names)->add(0x2000, {.bytes = std::vector<std::uint8_t>(8)});
  EXPECT_EQ(pc_at(0x2004), -1) << "it has no marks";
}

TEST_F(Names, AreNotWrittenThroughALink) {
  const std::string target = path + ".target";
  std::ofstream(target) << "precious";
  std::filesystem::create_symlink(target, path);
  const auto names = CodeNames::create({.perf_map = path});
  ASSERT_TRUE(names) << names.error().message;
  (*names)->add(0x1000, code());
  EXPECT_FALSE(std::filesystem::is_symlink(path));
  EXPECT_THAT(map(), HasSubstr("lc3_x3000"));
  EXPECT_EQ(std::filesystem::file_size(target), 8U);
  std::filesystem::remove(target);
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_FALSE(CodeNames::create({.perf_map = "/nonexistent/perf.map"}));
}

TEST_F(Names, AreSymbolsOfAnElfObject) {
  const MachineCode made = code();
  const std::vector<CodeName> names = names_of(made);
  const std::vector<std::byte> object = symbol_object(0x7f0000051000, made.bytes.size(), names);
  const auto at = [&]<class T>(std::size_t offset, T) {
    T value{};
    EXPECT_LE(offset + sizeof value, object.size());
    if (offset + sizeof value <= object.size()) std::memcpy(&value, object.data() + offset, sizeof value);
    return value;
  };
  const auto text_at = [&](std::size_t offset) { return reinterpret_cast<const char*>(object.data() + offset); };
  const auto header = at(0, Elf64_Ehdr{});
  ASSERT_EQ(std::memcmp(header.e_ident, ELFMAG, SELFMAG), 0);
  EXPECT_EQ(header.e_type, ET_REL);
  EXPECT_EQ(header.e_machine, EM_X86_64);
  const auto section = [&](std::size_t i) { return at(header.e_shoff + i * sizeof(Elf64_Shdr), Elf64_Shdr{}); };
  const Elf64_Shdr section_names = section(header.e_shstrndx);
  std::vector<std::string> found;
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr one = section(i);
    found.emplace_back(text_at(section_names.sh_offset + one.sh_name));
    if (one.sh_type != SHT_NOBITS) EXPECT_LE(one.sh_offset + one.sh_size, object.size());
    if (found.back() == ".text") {
      EXPECT_EQ(one.sh_addr, 0x7f0000051000U);
      EXPECT_EQ(one.sh_size, made.bytes.size());
    }
    if (one.sh_type != SHT_SYMTAB) continue;
    ASSERT_EQ(one.sh_size / one.sh_entsize, names.size() + 1);
    for (std::size_t n = 0; n < names.size(); ++n) {
      const auto symbol = at(one.sh_offset + (n + 1) * sizeof(Elf64_Sym), Elf64_Sym{});
      EXPECT_EQ(text_at(section(one.sh_link).sh_offset + symbol.st_name), names[n].name);
      EXPECT_EQ(symbol.st_value, names[n].offset);
      EXPECT_EQ(symbol.st_size, names[n].bytes);
    }
  }
  EXPECT_THAT(found, ElementsAre("", ".text", ".symtab", ".strtab", ".shstrtab"));
}

// What the test below has GDB run: stops with names registered, and again when they have gone.
TEST(NamesForGdb, DISABLED_Target) {
  const auto names = CodeNames::create({.gdb = true});
  ASSERT_TRUE(names);
  RunnerOptions options;
  options.cache.names = *names;
  const auto runner = *HostRunner::create(options);
  Memory words(0x3000, {0x1021, 0x0ffe});
  const CodeCache::Request request{.words = words.words(), .pc = 0x3000, .lea_sets_cc = false, .lost = {}};
  ASSERT_TRUE(runner->cache().compile(request));
  ::raise(SIGTRAP);
  runner->clear();
  ::raise(SIGTRAP);
}

TEST(NamesForGdb, AreSeenByIt) {
  constexpr const char* kGdb = "/usr/bin/gdb";
  if (::access(kGdb, X_OK) != 0) GTEST_SKIP() << "there is no " << kGdb;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = fmt::format(
      "timeout 60 {} -batch -nx -iex 'set debuginfod enabled off' -iex 'set auto-load off' -iex 'set auto-solib-add "
      "off' -ex run "
      "-ex 'info address lc3_x3000' -ex 'x/i (char*)&lc3_x3000' -ex continue -ex 'info address lc3_x3000' -ex kill "
      "--args {} --gtest_also_run_disabled_tests --gtest_filter=NamesForGdb.DISABLED_Target 2>&1",
      kGdb, self);
  FILE* const pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string said;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) said += static_cast<char>(c);
  ::pclose(pipe);
  for (const char* forbidden : {"ptrace: Operation not permitted", "Could not trace the inferior process"}) {
    if (said.find(forbidden) != std::string::npos) GTEST_SKIP() << said;
  }
  EXPECT_THAT(said, HasSubstr("Symbol \"lc3_x3000\" is at 0x"));
  EXPECT_THAT(said, HasSubstr("<lc3_x3000>:\tsub "));
  EXPECT_THAT(said, HasSubstr("No symbol \"lc3_x3000\" in current context."));
}

}  // namespace
}  // namespace warmfork::lc3::jit
