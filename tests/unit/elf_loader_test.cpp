#include "loader/elf_loader.hpp"

#include "elf_builder.hpp"
#include "fuzz/elf_properties.hpp"
#include "random.hpp"
#include "warmfork/abi/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <ostream>

namespace warmfork {
namespace {

using test::ElfBuilder;
using ::testing::HasSubstr;

constexpr std::uint64_t kTop = ~std::uint64_t{0};
constexpr std::array<std::uint64_t, 3> kVmcallNote{WARMFORK_ABI_VERSION, 0x402000, 0x402020};

// A plan together with the bytes it points into.
struct Planned {
  explicit Planned(const ElfBuilder& builder, const ElfLimits& limits = {})
      : file(builder.build()), plan(plan_elf(file, "prog", limits)) {}
  const LoadPlan* operator->() const { return &*plan; }
  [[nodiscard]] std::string message() const { return plan ? std::string("accepted") : plan.error().message; }

  std::vector<std::byte> file;
  Result<LoadPlan> plan;
};

ElfBuilder with_everything(std::uint16_t type = ET_EXEC) {
  ElfBuilder elf = ElfBuilder::tiny();
  elf.header.e_type = type;
  elf.segment(PT_NOTE, ElfBuilder::note("GNU", 1, kVmcallNote) +
                           ElfBuilder::note("warmfork", WARMFORK_NOTE_VMCALLS, kVmcallNote));
  elf.symbols(std::array{ElfBuilder::Symbol{"main", 0x400000, 8}, ElfBuilder::Symbol{"_ZN1a1bEi", 0x400008, 8},
                         ElfBuilder::Symbol{"table", 0x402000, 8, STT_OBJECT}});
  return elf;
}

TEST(Elf, PlansCodeAndDataWithTheirRightsAndBytes) {
  const Planned p(ElfBuilder::tiny());
  ASSERT_TRUE(p.plan) << p.message();
  ASSERT_EQ(p->segments.size(), 2U);
  EXPECT_EQ(p->segments[0].address, Gva{0x400000});
  EXPECT_TRUE(p->segments[0].execute);
  EXPECT_FALSE(p->segments[0].write);
  EXPECT_EQ(p->segments[1].address, Gva{0x402000});
  EXPECT_EQ(p->segments[1].memory_size, 0x1800U);
  EXPECT_EQ(p->segments[1].file_bytes.size(), 8U);
  EXPECT_EQ(p->segments[1].file_bytes[0], std::byte{'d'});
  EXPECT_FALSE(p->segments[1].execute);
  EXPECT_TRUE(p->segments[1].write);
  EXPECT_EQ(p->entry, Gva{0x400000});
  EXPECT_EQ(p->end, Gva{0x404000});
  EXPECT_EQ(p->bias, 0U);
  EXPECT_EQ(p->program_header_count, 2);
  EXPECT_EQ(p->program_headers, Gva{0});
  EXPECT_TRUE(p->symbols.empty());
  EXPECT_EQ(test::broken_promise(*p.plan, p.file, {}), nullptr);
}

TEST(Elf, SortsSegmentsAndSkipsEmptyOnes) {
  ElfBuilder elf = ElfBuilder::tiny();
  std::swap(elf.segments[0], elf.segments[1]);
  elf.load(0, "", 0, PF_W | PF_X);
  const Planned p(elf);
  ASSERT_TRUE(p.plan) << p.message();
  ASSERT_EQ(p->segments.size(), 2U);
  EXPECT_EQ(p->segments[0].address, Gva{0x400000});
  EXPECT_EQ(p->program_header_count, 3);
}

TEST(Elf, FindsItsProgramHeadersInMemory) {
  ElfBuilder elf = ElfBuilder::tiny();
  elf.segments[0].p_offset = 0;  // as linkers do: the first segment begins with the headers
  elf.segments[0].p_filesz = elf.segments[0].p_memsz = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
  EXPECT_EQ(Planned(elf)->program_headers, Gva{0x400000 + sizeof(Elf64_Ehdr)});
  --elf.segments[0].p_filesz;  // only a part of them
  EXPECT_EQ(Planned(elf)->program_headers, Gva{0});
}

TEST(Elf, StaticPieMovesEverythingByOneBias) {
  struct Case {
    std::uint64_t lowest, bias;
  };
  for (const Case& c : {Case{0, 0x400000}, Case{0x1234, 0x3ff000}, Case{0x400000, 0}, Case{0x7000000, 0}}) {
    SCOPED_TRACE(c.lowest);
    ElfBuilder elf;
    elf.header.e_type = ET_DYN;
    elf.header.e_entry = c.lowest;
    elf.load(c.lowest, "codecode", 8, PF_R | PF_X);
    const std::array<std::uint64_t, 3> note{WARMFORK_ABI_VERSION, c.lowest, c.lowest + 16};
    elf.segment(PT_NOTE, ElfBuilder::note("warmfork", WARMFORK_NOTE_VMCALLS, note));
    elf.symbols(std::array{ElfBuilder::Symbol{"f", c.lowest, 8}});
    const Planned p(elf);
    ASSERT_TRUE(p.plan) << p.message();
    EXPECT_EQ(p->bias, c.bias);
    EXPECT_EQ(p->entry.value, c.lowest + c.bias);
    EXPECT_EQ(p->segments[0].address.value, c.lowest + c.bias);
    EXPECT_EQ(p->symbols[0].address, c.lowest + c.bias);
    EXPECT_EQ(p->vmcall_table_begin.value, c.lowest + c.bias);
    EXPECT_EQ(p->vmcall_table_end.value, c.lowest + c.bias + 16);
  }
}

TEST(Elf, ExecutablesAtFixedAddressesAreNotMoved) {
  ElfBuilder elf;
  elf.load(0x1000, "codecode", 8, PF_R | PF_X);
  elf.header.e_entry = 0x1000;
  EXPECT_EQ(Planned(elf)->segments[0].address, Gva{0x1000});
}

struct Refusal {
  const char* rule;
  std::function<void(ElfBuilder&)> spoil;
  const char* message;
  ElfLimits limits{};
  ErrorKind kind = ErrorKind::kInput;
  friend std::ostream& operator<<(std::ostream& out, const Refusal& refusal) { return out << refusal.rule; }
};

class ElfRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(ElfRefuses, WithOneSentence) {
  ElfBuilder elf = with_everything();
  GetParam().spoil(elf);
  const Planned p(elf, GetParam().limits);
  EXPECT_EQ(p.message(), std::string("prog: ") + GetParam().message);
  if (!p.plan) EXPECT_EQ(p.plan.error().kind, GetParam().kind);
}

// The file is 1384 bytes long; code is segment 0, data segment 1.
const std::array kRefusals{
    Refusal{"NotElf", [](ElfBuilder& e) { e.header.e_ident[0] = 0x7e; }, "not an ELF file"},
    Refusal{"NotElfAtAll", [](ElfBuilder& e) { e.header.e_ident[3] = 'G'; }, "not an ELF file"},
    Refusal{"Elf32", [](ElfBuilder& e) { e.header.e_ident[EI_CLASS] = ELFCLASS32; },
            "a 32-bit ELF; only 64-bit programs can run"},
    Refusal{"BigEndian", [](ElfBuilder& e) { e.header.e_ident[EI_DATA] = ELFDATA2MSB; },
            "a big-endian ELF; only x86-64 programs can run"},
    Refusal{"IdentVersion", [](ElfBuilder& e) { e.header.e_ident[EI_VERSION] = 0; }, "ELF version 1, known is 1"},
    Refusal{"Version", [](ElfBuilder& e) { e.header.e_version = 7; }, "ELF version 7, known is 1"},
    Refusal{"Machine", [](ElfBuilder& e) { e.header.e_machine = EM_AARCH64; },
            "an ELF for machine 183; only x86-64 (62) programs can run"},
    Refusal{"Relocatable", [](ElfBuilder& e) { e.header.e_type = ET_REL; },
            "ELF type 1 is not an executable (link it with -static)"},
    Refusal{"Core", [](ElfBuilder& e) { e.header.e_type = ET_CORE; },
            "ELF type 4 is not an executable (link it with -static)"},
    Refusal{"HeaderSize", [](ElfBuilder& e) { e.header.e_phentsize = 32; },
            "program headers of 32 bytes, they have 56"},
    Refusal{"NoHeaders", [](ElfBuilder& e) { e.segments.clear(); }, "0 program headers, allowed are 1 to 128"},
    Refusal{"ManyHeaders", [](ElfBuilder& e) { e.header.e_phnum = 129; }, "129 program headers, allowed are 1 to 128"},
    Refusal{"HeadersPastTheEnd", [](ElfBuilder& e) { e.header.e_phnum = 100; },
            "100 program headers at offset 0x40 pass the end of the file (1384 bytes)"},
    Refusal{"HeadersFarPastTheEnd", [](ElfBuilder& e) { e.header.e_phoff = kTop; },
            "3 program headers at offset 0xffffffffffffffff pass the end of the file (1384 bytes)"},
    Refusal{"Interpreter", [](ElfBuilder& e) { e.segment(PT_INTERP, "/lib/ld.so"); },
            "dynamically linked; only static programs can run (link it with -static)"},
    Refusal{"MoreInTheFileThanInMemory", [](ElfBuilder& e) { e.segments[0].p_memsz = 15; },
            "segment 0: 16 bytes in the file for 15 in memory"},
    Refusal{"FileRangePastTheEnd", [](ElfBuilder& e) { e.segments[1].p_offset = 1377; },
            "segment 1: file range 0x561 + 0x8 passes the end of the file (1384 bytes)"},
    Refusal{"FileRangeThatWraps", [](ElfBuilder& e) { e.segments[1].p_offset = kTop - 3; },
            "segment 1: file range 0xfffffffffffffffc + 0x8 passes the end of the file (1384 bytes)"},
    Refusal{"BelowTheLimit",
            [](ElfBuilder& e) { e.segments[1].p_vaddr = 0x1ff000; },
            "segment 1: address range 0x1ff000 + 0x1800 is outside 0x200000 … 0x10000000000",
            {.lowest_address = 0x200000}},
    Refusal{"AboveTheLimit",
            [](ElfBuilder& e) { e.segments[1].p_vaddr = 0xffffffe801; },
            "segment 1: address range 0xffffffe801 + 0x1800 is outside 0x0 … 0xffffffff00",
            {.highest_address = 0xffffffff00}},
    Refusal{"AddressesThatWrap", [](ElfBuilder& e) { e.segments[1].p_vaddr = kTop - 0x7ff; },
            "segment 1: address range 0xfffffffffffff800 + 0x1800 is outside 0x0 … 0x10000000000"},
    Refusal{"BiasThatWraps",
            [](ElfBuilder& e) {
              e.header.e_type = ET_DYN;
              e.segments[0].p_vaddr = 0;
              e.segments[1].p_vaddr = kTop - 0xffff;
            },
            "segment 1: address range 0x3f0000 + 0x1800 is outside 0x0 … 0x10000000000"},
    Refusal{"SizesThatWrap", [](ElfBuilder& e) { e.segments[1].p_memsz = kTop; },
            "segment 1: address range 0x402000 + 0xffffffffffffffff is outside 0x0 … 0x10000000000"},
    Refusal{"WriteAndExecute", [](ElfBuilder& e) { e.segments[1].p_flags |= PF_X; },
            "segment 1: writable and executable at once"},
    Refusal{"NothingToLoad", [](ElfBuilder& e) { e.segments[0].p_type = e.segments[1].p_type = PT_NULL; },
            "no loadable segment"},
    Refusal{"SharedPage", [](ElfBuilder& e) { e.segments[1].p_vaddr = 0x400800; },
            "two segments share the page at 0x400000"},
    Refusal{"Overlap", [](ElfBuilder& e) { e.segments[1].p_vaddr = 0x3ff000; },
            "two segments share the page at 0x400000"},
    Refusal{"TooMuchMemory",
            [](ElfBuilder&) {},
            "segments need more than the memory limit of 12287 bytes",
            {.memory_bytes = 0x2fff},
            ErrorKind::kLimit},
    Refusal{"EntryBelow", [](ElfBuilder& e) { e.header.e_entry = 0x3fffff; },
            "entry point 0x3fffff is not in an executable segment"},
    Refusal{"EntryPastTheCode", [](ElfBuilder& e) { e.header.e_entry = 0x400010; },
            "entry point 0x400010 is not in an executable segment"},
    Refusal{"EntryInData", [](ElfBuilder& e) { e.header.e_entry = 0x402000; },
            "entry point 0x402000 is not in an executable segment"},
    Refusal{"SectionHeaderSize", [](ElfBuilder& e) { e.header.e_shentsize = 63; },
            "section headers of 63 bytes, they have 64"},
    Refusal{"SectionsPastTheEnd", [](ElfBuilder& e) { e.header.e_shnum = 3; },
            "3 section headers at offset 0x4e8 pass the end of the file (1384 bytes)"},
    Refusal{"SymbolSize", [](ElfBuilder& e) { e.sections[0].sh_entsize = 16; },
            "symbol table at offset 0x470 + 0x60 is not valid"},
    Refusal{"SymbolsPastTheEnd", [](ElfBuilder& e) { e.sections[0].sh_size = 0x1000; },
            "symbol table at offset 0x470 + 0x1000 is not valid"},
    Refusal{"ManySymbols", [](ElfBuilder&) {}, "4 symbols, allowed are 3", {.symbols = 3}},
    Refusal{"ManySymbolsInAll",
            [](ElfBuilder& e) { e.sections.push_back(e.sections[0]); },
            "8 symbols, allowed are 7",
            {.symbols = 7}},
    Refusal{"NoSuchStrings", [](ElfBuilder& e) { e.sections[0].sh_link = 2; }, "symbol table names section 2 of 2"},
    Refusal{"StringsOfAnotherType", [](ElfBuilder& e) { e.sections[0].sh_link = 0; },
            "string table at offset 0x470 + 0x60 is not valid"},
    Refusal{"StringsPastTheEnd", [](ElfBuilder& e) { e.sections[1].sh_size = kTop; },
            "string table at offset 0x4d0 + 0xffffffffffffffff is not valid"},
};
INSTANTIATE_TEST_SUITE_P(Elf, ElfRefuses, ::testing::ValuesIn(kRefusals),
                         [](const auto& test) { return std::string(test.param.rule); });

TEST(Elf, WhatTheRefusalsStartFromIsAccepted) {
  const Planned p(with_everything(), {.lowest_address = 0x200000, .memory_bytes = 0x3000, .symbols = 4});
  EXPECT_TRUE(p.plan) << p.message();
}

TEST(Elf, RefusesAFileTooShortForAHeader) {
  const std::vector<std::byte> file(63);
  const auto plan = plan_elf(file, "prog", {});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().message, "prog: 63 bytes, too short for an ELF header");
  EXPECT_FALSE(plan_elf({}, "prog", {}));
}

TEST(Elf, ReadsTheVmcallTableFromItsNote) {
  const Planned p(with_everything());
  ASSERT_TRUE(p.plan) << p.message();
  EXPECT_EQ(p->vmcall_table_begin, Gva{0x402000});
  EXPECT_EQ(p->vmcall_table_end, Gva{0x402020});
}

TEST(Elf, NotesOfOthersAndBrokenNotesAreIgnored) {
  const std::string ours = ElfBuilder::note("warmfork", WARMFORK_NOTE_VMCALLS, kVmcallNote);
  std::string huge_name = ours;
  std::string huge_data = ours;
  huge_name.replace(0, 4, "\xff\xff\xff\xff");
  huge_data.replace(4, 4, "\xff\xff\xff\xff");
  for (const std::string& bytes :
       {ElfBuilder::note("warmforK", WARMFORK_NOTE_VMCALLS, kVmcallNote), ElfBuilder::note("warmfork", 2, kVmcallNote),
        ElfBuilder::note("warmfork2", WARMFORK_NOTE_VMCALLS, kVmcallNote), ours.substr(0, ours.size() - 1),
        ours.substr(0, 11), std::string(), huge_name, huge_data}) {
    ElfBuilder elf = ElfBuilder::tiny();
    elf.segment(PT_NOTE, bytes);
    const Planned p(elf);
    ASSERT_TRUE(p.plan) << p.message();
    EXPECT_EQ(p->vmcall_table_begin, Gva{0});
    EXPECT_EQ(p->vmcall_table_end, Gva{0});
  }
  ElfBuilder elf = ElfBuilder::tiny();
  elf.segment(PT_NOTE, ours).p_offset = kTop - 8;
  EXPECT_TRUE(Planned(elf).plan);
}

TEST(Elf, RefusesAnotherAbiVersion) {
  ElfBuilder elf = ElfBuilder::tiny();
  elf.segment(PT_NOTE, ElfBuilder::note("warmfork", WARMFORK_NOTE_VMCALLS, std::array<std::uint64_t, 3>{99, 1, 2}));
  EXPECT_EQ(Planned(elf).message(), "prog: built for warmfork ABI version 99, this is 1");
  ElfBuilder short_note = ElfBuilder::tiny();
  short_note.segment(PT_NOTE, ElfBuilder::note("warmfork", WARMFORK_NOTE_VMCALLS, std::array<std::uint64_t, 2>{1, 2}));
  EXPECT_EQ(Planned(short_note).message(), "prog: warmfork note of 16 bytes, it has 24");
}

TEST(ElfSymbols, AreSortedAndFoundByName) {
  ElfBuilder elf = ElfBuilder::tiny();
  elf.symbols(std::array{
      ElfBuilder::Symbol{"last", 0x400008, 4}, ElfBuilder::Symbol{"first", 0x400000, 8},
      ElfBuilder::Symbol{"object", 0x402000, 8, STT_OBJECT}, ElfBuilder::Symbol{"resolver", 0x400004, 1, STT_GNU_IFUNC},
      ElfBuilder::Symbol{"section", 0x400000, 0, STT_SECTION},
      ElfBuilder::Symbol{"elsewhere", 0x400000, 0, STT_FUNC, SHN_UNDEF}, ElfBuilder::Symbol{"", 0x400001, 4}});
  const Planned p(elf);
  ASSERT_TRUE(p.plan) << p.message();
  std::vector<std::string> names;
  for (const ElfSymbol& symbol : p->symbols) names.push_back(symbol.name);
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("first", "resolver", "last", "object", ""));
  ASSERT_NE(p->find_symbol("last"), nullptr);
  EXPECT_EQ(p->find_symbol("last")->address, 0x400008U);
  EXPECT_TRUE(p->find_symbol("resolver")->is_function);
  EXPECT_FALSE(p->find_symbol("object")->is_function);
  EXPECT_EQ(p->find_symbol("las"), nullptr);
  EXPECT_EQ(p->find_symbol("elsewhere"), nullptr);
}

LoadPlan plan_of(std::vector<ElfSymbol> symbols) {
  LoadPlan plan;
  plan.symbols = std::move(symbols);
  return plan;
}

TEST(ElfSymbols, NameTheAddressesTheyCover) {
  const LoadPlan plan = plan_of({{0x1000, 0x20, "f", true},
                                 {0x1020, 0, "label", false},
                                 {0x1040, 0, "asm", true},
                                 {0x2000, 0x100, "big", true},
                                 {0x2010, 0, "inside", false}});
  EXPECT_EQ(plan.symbolize(0xfff), "");
  EXPECT_EQ(plan.symbolize(0x1000), "f");
  EXPECT_EQ(plan.symbolize(0x101f), "f+0x1f");
  EXPECT_EQ(plan.symbolize(0x1020), "label");
  EXPECT_EQ(plan.symbolize(0x1021), "");
  EXPECT_EQ(plan.symbolize(0x104f), "asm+0xf");  // functions without a size cover 16 bytes
  EXPECT_EQ(plan.symbolize(0x1050), "");
  EXPECT_EQ(plan.symbolize(0x2010), "inside");
  EXPECT_EQ(plan.symbolize(0x2011), "big+0x11");  // the nearest that covers, not the nearest
  EXPECT_EQ(plan.symbolize(kTop), "");
  EXPECT_EQ(plan_of({}).symbolize(0x1000), "");
}

TEST(ElfSymbols, AreDemangledAndOthersLeftAlone) {
  EXPECT_EQ(plan_of({{0x1000, 8, "_ZN1a1bEi", true}}).symbolize(0x1004), "a::b(int)+0x4");
  EXPECT_EQ(plan_of({{0x1000, 8, "_Znonsense", true}}).symbolize(0x1000), "_Znonsense");
  EXPECT_EQ(plan_of({{0x1000, 8, "i", true}}).symbolize(0x1000), "i");  // not "int"
}

// f(a<b, b>, a<a<b, b>, a<b, b>>, …): each parameter names the one before twice, 2^40 characters in all if written out.
TEST(ElfSymbols, ANameThatExplodesIsShownAsItIs) {
  std::string name = "_Z1f1aI1b1bE";  // S_ is a, S0_ and S1_ are b, S2_ is a<b, b>
  const auto add_level = [&](int previous) {
    constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const std::string digits =
        (previous >= 36 ? "1" : "") + std::string(1, kDigits.at(static_cast<unsigned>(previous % 36)));
    name += fmt::format("S_IS{0}_S{0}_E", digits);
  };
  add_level(2);
  EXPECT_EQ(plan_of({{0x1000, 8, name, true}}).symbolize(0x1000), "f(a<b, b>, a<a<b, b>, a<b, b> >)");
  for (int previous = 3; previous < 42; ++previous) add_level(previous);
  ASSERT_LT(name.size(), 512U);
  EXPECT_EQ(plan_of({{0x1000, 8, name, true}}).symbolize(0x1000), name);
}

TEST(ElfSymbols, CannotActOnATerminal) {
  EXPECT_EQ(plan_of({{0x1000, 8, "a\x1b[2J\nb\x7f", true}}).symbolize(0x1000), "a?[2J?b?");
  EXPECT_EQ(plan_of({{0x1000, 8, "größe€\U0001F600", true}}).symbolize(0x1000), "größe€\U0001F600");
  // U+009B is what ESC [ is, in two bytes of UTF-8, in one byte, and in the overlong forms some terminals take.
  EXPECT_EQ(plan_of({{0x1000, 8, "a\xc2\x9b[2J", true}}).symbolize(0x1000), "a??[2J");
  EXPECT_EQ(plan_of({{0x1000, 8, "a\x9b[2J", true}}).symbolize(0x1000), "a?[2J");
  EXPECT_EQ(plan_of({{0x1000, 8, "a\xe0\x82\x9b[2J", true}}).symbolize(0x1000), "a???[2J");
  EXPECT_EQ(plan_of({{0x1000, 8, "a\xc3", true}}).symbolize(0x1000), "a?");
}

TEST(ElfSymbols, LongNamesAreCutAndNamesWithoutEndStopWithTheTable) {
  ElfBuilder elf = ElfBuilder::tiny();
  elf.symbols(std::array{ElfBuilder::Symbol{std::string(600, 'x'), 0x400000, 8}});
  EXPECT_EQ(Planned(elf)->symbols[0].name, std::string(512, 'x'));
  --elf.sections[1].sh_size;  // no NUL at the end
  elf.sections[1].sh_size -= 500;
  EXPECT_EQ(Planned(elf)->symbols[0].name, std::string(100, 'x'));
  elf.sections[1].sh_size = 1;  // the name begins past the table
  EXPECT_TRUE(Planned(elf)->symbols.empty());
}

// --- Hostile files: whatever the bytes, the promises of a plan hold (elf_properties.hpp) -----------------------------

class HostileElf : public ::testing::TestWithParam<std::uint16_t> {
 protected:
  static void expect_promises(const std::vector<std::byte>& file) {
    // A copy of exactly the file's size, so that the sanitizers see a byte read past its end.
    const std::vector<std::byte> exact(file);
    const char* const broken = test::broken_promise(exact, {});
    ASSERT_EQ(broken, nullptr);
    const char* const broken_small = test::broken_promise(exact, {0x200000, 0x800000, 1 << 20, 3});
    ASSERT_EQ(broken_small, nullptr);
  }
  template <class T>
  static void put(std::vector<std::byte>& file, std::size_t offset, T value) {
    if (offset + sizeof value <= file.size()) std::memcpy(file.data() + offset, &value, sizeof value);
  }
  static void put_any(std::vector<std::byte>& file, std::size_t offset, std::size_t size, std::uint64_t value) {
    switch (size) {
      case 1: return put(file, offset, static_cast<std::uint8_t>(value));
      case 2: return put(file, offset, static_cast<std::uint16_t>(value));
      case 4: return put(file, offset, static_cast<std::uint32_t>(value));
      default: return put(file, offset, value);
    }
  }
  static std::vector<std::uint64_t> edges(std::size_t file_size) {
    std::vector<std::uint64_t> values{0, 1, 2, 7, 0x38, 0x40, 0xfff, 0x1000, 0x3fffff, 0x400000, 0x400001, 0x402000};
    for (const unsigned bits : {7U, 8U, 15U, 16U, 31U, 32U, 40U, 47U, 63U}) {
      const std::uint64_t power = std::uint64_t{1} << bits;
      values.insert(values.end(), {power - 1, power, power + 1});
    }
    values.insert(values.end(),
                  {kTop, kTop - 1, kTop - 7, kTop - 0xfff, kTop - 0x3fffff, file_size - 1, file_size, file_size + 1});
    return values;
  }
};

TEST_P(HostileElf, TruncatedAnywhere) {
  std::vector<std::byte> file = with_everything(GetParam()).build();
  while (!file.empty()) {
    file.pop_back();
    ASSERT_NO_FATAL_FAILURE(expect_promises(file)) << file.size();
  }
}

TEST_P(HostileElf, EveryFieldAtEveryEdge) {
  const std::vector<std::byte> file = with_everything(GetParam()).build();
  for (const std::size_t size : {1U, 2U, 4U, 8U}) {
    for (std::size_t offset = 0; offset < file.size(); offset += size) {
      for (const std::uint64_t value : edges(file.size())) {
        std::vector<std::byte> spoiled = file;
        put_any(spoiled, offset, size, value);
        ASSERT_NO_FATAL_FAILURE(expect_promises(spoiled)) << offset << " = " << value;
      }
    }
  }
}

TEST_P(HostileElf, RandomMutations) {
  test::Random random;
  const std::vector<std::byte> file = with_everything(GetParam()).build();
  const std::vector<std::uint64_t> values = edges(file.size());
  std::size_t accepted = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::vector<std::byte> spoiled = file;
    for (std::uint64_t i = 0, count = 1 + random.below(5); i < count; ++i) {
      const std::size_t size = std::size_t{1} << random.below(4);
      const std::size_t offset = random.below(file.size() / size) * size;
      put_any(spoiled, offset, size, random.one_in(2) ? values[random.below(values.size())] : random.word());
    }
    if (random.one_in(20)) spoiled.resize(random.below(spoiled.size()));
    ASSERT_NO_FATAL_FAILURE(expect_promises(spoiled)) << "round " << round;
    accepted += plan_elf(spoiled, "prog", {}) ? 1 : 0;
  }
  EXPECT_GT(accepted, 1000U) << "mutations that are all refused test little";
}

INSTANTIATE_TEST_SUITE_P(Types, HostileElf, ::testing::Values(std::uint16_t{ET_EXEC}, std::uint16_t{ET_DYN}));

}  // namespace
}  // namespace warmfork
