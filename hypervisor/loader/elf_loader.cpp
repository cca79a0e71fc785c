#include "loader/elf_loader.hpp"

#include "base/printable.hpp"
#include "warmfork/abi/layout.h"

#include <cxxabi.h>
#include <elf.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace warmfork {
namespace {

constexpr std::uint16_t kMaxProgramHeaders = 128;
constexpr std::uint64_t kPieBase = 0x400000;

// Each back reference of a mangled name (S_, S1_, T_, …) stands for an earlier part, which may hold references itself:
// the text can grow exponentially with their number (3^(n/3)), and the name is the guest's.
constexpr std::size_t kMaxBackReferences = 24;

std::size_t count_back_references(std::string_view name) {
  std::size_t count = 0;
  for (std::size_t i = 0; i + 1 < name.size(); ++i) {
    const char next = name[i + 1];
    const bool index = next == '_' || (next >= '0' && next <= '9') || (next >= 'A' && next <= 'Z');
    if ((name[i] == 'S' || name[i] == 'T') && index) ++count;
  }
  return count;
}

// C++ names as their authors wrote them; any other name as it is. The work of the C++ runtime's demangler is bounded by
// the name's length, which read_symbols limits, and by the number of back references.
std::string demangle(const std::string& name) {
  if (!name.starts_with("_Z") || count_back_references(name) > kMaxBackReferences) return name;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 && text != nullptr ? std::string(text.get()) : name;
}

// Reads structures out of untrusted bytes: every access is bounds-checked and copied.
class ElfReader {
 public:
  ElfReader(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  template <class T>
  [[nodiscard]] std::optional<T> at(std::uint64_t offset) const {
    if (!contains(offset, sizeof(T))) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  [[nodiscard]] bool contains(std::uint64_t offset, std::uint64_t size) const {
    return offset <= bytes_.size() && bytes_.size() - offset >= size;
  }
  [[nodiscard]] std::span<const std::byte> slice(std::uint64_t offset, std::uint64_t size) const {
    return bytes_.subspan(offset, size);
  }
  [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }

  template <class... Args>
  [[nodiscard]] Failure refuse(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorKind::kInput, "{}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view name_;
};

Status check_header(const ElfReader& reader, const Elf64_Ehdr& header) {
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return reader.refuse("not an ELF file");
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return reader.refuse("a 32-bit ELF; only 64-bit programs can run");
  if (header.e_ident[EI_DATA] != ELFDATA2LSB) return reader.refuse("a big-endian ELF; only x86-64 programs can run");
  if (header.e_ident[EI_VERSION] != EV_CURRENT || header.e_version != EV_CURRENT) {
    return reader.refuse("ELF version {}, known is {}", header.e_version, EV_CURRENT);
  }
  if (header.e_machine != EM_X86_64) {
    return reader.refuse("an ELF for machine {}; only x86-64 ({}) programs can run", header.e_machine, EM_X86_64);
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return reader.refuse("ELF type {} is not an executable (link it with -static)", header.e_type);
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return reader.refuse("program headers of {} bytes, they have {}", header.e_phentsize, sizeof(Elf64_Phdr));
  }
  if (header.e_phnum == 0 || header.e_phnum > kMaxProgramHeaders) {
    return reader.refuse("{} program headers, allowed are 1 to {}", header.e_phnum, kMaxProgramHeaders);
  }
  if (!reader.contains(header.e_phoff, std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr))) {
    return reader.refuse("{} program headers at offset {:#x} pass the end of the file ({} bytes)", header.e_phnum,
                         header.e_phoff, reader.size());
  }
  return {};
}

Result<LoadSegment> read_segment(const ElfReader& reader, const Elf64_Phdr& header, std::size_t index,
                                 std::uint64_t bias, const ElfLimits& limits) {
  if (header.p_filesz > header.p_memsz) {
    return reader.refuse("segment {}: {} bytes in the file for {} in memory", index, header.p_filesz, header.p_memsz);
  }
  if (!reader.contains(header.p_offset, header.p_filesz)) {
    return reader.refuse("segment {}: file range {:#x} + {:#x} passes the end of the file ({} bytes)", index,
                         header.p_offset, header.p_filesz, reader.size());
  }
  const std::uint64_t address = header.p_vaddr + bias;
  if (address < header.p_vaddr || address < limits.lowest_address || address > limits.highest_address ||
      limits.highest_address - address < header.p_memsz) {
    return reader.refuse("segment {}: address range {:#x} + {:#x} is outside {:#x} … {:#x}", index, address,
                         header.p_memsz, limits.lowest_address, limits.highest_address);
  }
  if ((header.p_flags & PF_W) != 0 && (header.p_flags & PF_X) != 0) {
    return reader.refuse("segment {}: writable and executable at once", index);
  }
  return LoadSegment{Gva{address}, header.p_memsz, reader.slice(header.p_offset, header.p_filesz),
                     (header.p_flags & PF_W) != 0, (header.p_flags & PF_X) != 0};
}

Status read_note(const ElfReader& reader, const Elf64_Phdr& header, LoadPlan& plan) {
  if (!reader.contains(header.p_offset, header.p_filesz)) return {};  // PT_NOTE carries nothing a program needs to run
  const std::uint64_t end = header.p_offset + header.p_filesz;
  for (std::uint64_t offset = header.p_offset; offset + sizeof(Elf64_Nhdr) <= end;) {
    const Elf64_Nhdr note = *reader.at<Elf64_Nhdr>(offset);
    const std::uint64_t name_offset = offset + sizeof note;
    const std::uint64_t data_offset = name_offset + ((std::uint64_t{note.n_namesz} + 3) & ~std::uint64_t{3});
    const std::uint64_t next = data_offset + ((std::uint64_t{note.n_descsz} + 3) & ~std::uint64_t{3});
    if (next > end) break;
    constexpr char kOwner[] = "warmfork";
    const bool ours = note.n_namesz == sizeof kOwner && note.n_type == WARMFORK_NOTE_VMCALLS &&
                      std::memcmp(reader.slice(name_offset, sizeof kOwner).data(), kOwner, sizeof kOwner) == 0;
    if (ours) {
      if (note.n_descsz != 24) return reader.refuse("warmfork note of {} bytes, it has 24", note.n_descsz);
      const auto version = *reader.at<std::uint64_t>(data_offset);
      if (version != WARMFORK_ABI_VERSION) {
        return reader.refuse("built for warmfork ABI version {}, this is {}", version, WARMFORK_ABI_VERSION);
      }
      plan.vmcall_table_begin = Gva{*reader.at<std::uint64_t>(data_offset + 8) + plan.bias};
      plan.vmcall_table_end = Gva{*reader.at<std::uint64_t>(data_offset + 16) + plan.bias};
    }
    offset = next;
  }
  return {};
}

Status check_layout(const ElfReader& reader, const Elf64_Ehdr& header, LoadPlan& plan, const ElfLimits& limits) {
  if (plan.segments.empty()) return reader.refuse("no loadable segment");
  std::ranges::sort(plan.segments, {}, &LoadSegment::address);
  std::uint64_t total = 0;
  std::uint64_t previous_end = 0;
  for (const LoadSegment& segment : plan.segments) {
    if (page_floor(segment.address.value) < previous_end) {
      return reader.refuse("two segments share the page at {:#x}", page_floor(segment.address.value));
    }
    previous_end = page_ceil(segment.address.value + segment.memory_size);
    total += previous_end - page_floor(segment.address.value);
    if (total > limits.memory_bytes) {
      Failure failure = reader.refuse("segments need more than the memory limit of {} bytes", limits.memory_bytes);
      failure.value().kind = ErrorKind::kLimit;
      return failure;
    }
  }
  plan.end = Gva{previous_end};
  plan.entry = Gva{header.e_entry + plan.bias};
  const bool entry_executable = std::ranges::any_of(plan.segments, [&](const LoadSegment& segment) {
    return segment.execute && plan.entry.value - segment.address.value < segment.memory_size;
  });
  if (!entry_executable) return reader.refuse("entry point {:#x} is not in an executable segment", plan.entry.value);
  return {};
}

// The table of symbols is for people and for calls by name; a program without one is still a program.
Status read_symbols(const ElfReader& reader, const Elf64_Ehdr& header, LoadPlan& plan, const ElfLimits& limits) {
  if (header.e_shoff == 0 || header.e_shnum == 0) return {};
  if (header.e_shentsize != sizeof(Elf64_Shdr)) {
    return reader.refuse("section headers of {} bytes, they have {}", header.e_shentsize, sizeof(Elf64_Shdr));
  }
  if (!reader.contains(header.e_shoff, std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr))) {
    return reader.refuse("{} section headers at offset {:#x} pass the end of the file ({} bytes)", header.e_shnum,
                         header.e_shoff, reader.size());
  }
  const auto section = [&](std::uint64_t index) {
    return *reader.at<Elf64_Shdr>(header.e_shoff + index * sizeof(Elf64_Shdr));
  };
  std::uint64_t count = 0;  // over all tables: one is usual, but nothing keeps a file from naming the same bytes often
  for (std::uint64_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr table = section(i);
    if (table.sh_type != SHT_SYMTAB) continue;
    if (table.sh_entsize != sizeof(Elf64_Sym) || !reader.contains(table.sh_offset, table.sh_size)) {
      return reader.refuse("symbol table at offset {:#x} + {:#x} is not valid", table.sh_offset, table.sh_size);
    }
    count += table.sh_size / sizeof(Elf64_Sym);
    if (count > limits.symbols) return reader.refuse("{} symbols, allowed are {}", count, limits.symbols);
    if (table.sh_link >= header.e_shnum)
      return reader.refuse("symbol table names section {} of {}", table.sh_link, header.e_shnum);
    const Elf64_Shdr strings = section(table.sh_link);
    if (strings.sh_type != SHT_STRTAB || !reader.contains(strings.sh_offset, strings.sh_size)) {
      return reader.refuse("string table at offset {:#x} + {:#x} is not valid", strings.sh_offset, strings.sh_size);
    }
    const auto names = reader.slice(strings.sh_offset, strings.sh_size);
    for (std::uint64_t offset = 0; offset + sizeof(Elf64_Sym) <= table.sh_size; offset += sizeof(Elf64_Sym)) {
      const Elf64_Sym symbol = *reader.at<Elf64_Sym>(table.sh_offset + offset);
      const unsigned type = symbol.st_info & 0xfU;
      const bool wanted = type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE || type == STT_GNU_IFUNC;
      if (!wanted || symbol.st_shndx == SHN_UNDEF || symbol.st_name == 0 || symbol.st_name >= names.size()) continue;
      const auto* text = reinterpret_cast<const char*>(names.data()) + symbol.st_name;
      const std::size_t length = ::strnlen(text, std::min<std::size_t>(names.size() - symbol.st_name, kMaxSymbolName));
      plan.symbols.push_back({symbol.st_value + plan.bias, symbol.st_size, std::string(text, length),
                              type == STT_FUNC || type == STT_GNU_IFUNC});
    }
  }
  std::ranges::sort(plan.symbols, {}, &ElfSymbol::address);
  return {};
}

}  // namespace

const ElfSymbol* LoadPlan::find_symbol(std::string_view name) const {
  const auto found = std::ranges::find(symbols, name, &ElfSymbol::name);
  return found == symbols.end() ? nullptr : &*found;
}

std::string LoadPlan::symbolize(std::uint64_t address) const {
  const auto after = std::ranges::upper_bound(symbols, address, {}, &ElfSymbol::address);
  // Several symbols may start at one address, and some have no size: take the nearest that covers the address.
  for (auto candidate = after; candidate != symbols.begin();) {
    --candidate;
    const std::uint64_t offset = address - candidate->address;
    if (offset < std::max<std::uint64_t>(candidate->size, candidate->is_function ? 16 : 1)) {
      std::string name = demangle(candidate->name);
      hide_control_characters(name);
      return offset == 0 ? name : fmt::format("{}+{:#x}", name, offset);
    }
    if (offset > 0x10000) break;
  }
  return {};
}

Result<LoadPlan> plan_elf(std::span<const std::byte> elf, std::string_view name, const ElfLimits& limits) {
  const ElfReader reader(elf, name);
  const auto header = reader.at<Elf64_Ehdr>(0);
  if (!header) return reader.refuse("{} bytes, too short for an ELF header", elf.size());
  WARMFORK_TRY(check_header(reader, *header));
  const auto program_header = [&](std::size_t index) {
    return *reader.at<Elf64_Phdr>(header->e_phoff + index * sizeof(Elf64_Phdr));
  };

  LoadPlan plan;
  plan.program_header_count = header->e_phnum;
  std::uint64_t lowest = ~std::uint64_t{0};
  for (std::size_t i = 0; i < header->e_phnum; ++i) {
    const Elf64_Phdr segment = program_header(i);
    if (segment.p_type == PT_INTERP) {
      return reader.refuse("dynamically linked; only static programs can run (link it with -static)");
    }
    if (segment.p_type == PT_LOAD && segment.p_memsz != 0) lowest = std::min(lowest, segment.p_vaddr);
  }
  if (header->e_type == ET_DYN) plan.bias = kPieBase - std::min(page_floor(lowest), kPieBase);

  for (std::size_t i = 0; i < header->e_phnum; ++i) {
    const Elf64_Phdr segment = program_header(i);
    if (segment.p_type != PT_LOAD || segment.p_memsz == 0) continue;
    WARMFORK_TRY_ASSIGN(LoadSegment planned, read_segment(reader, segment, i, plan.bias, limits));
    const std::uint64_t headers_end = header->e_phoff + std::uint64_t{header->e_phnum} * sizeof(Elf64_Phdr);
    if (header->e_phoff >= segment.p_offset && headers_end - segment.p_offset <= segment.p_filesz) {
      plan.program_headers = planned.address + (header->e_phoff - segment.p_offset);
    }
    plan.segments.push_back(planned);
  }
  WARMFORK_TRY(check_layout(reader, *header, plan, limits));
  for (std::size_t i = 0; i < header->e_phnum; ++i) {
    if (const Elf64_Phdr segment = program_header(i); segment.p_type == PT_NOTE) {
      WARMFORK_TRY(read_note(reader, segment, plan));
    }
  }
  WARMFORK_TRY(read_symbols(reader, *header, plan, limits));
  return plan;
}

}  // namespace warmfork
