// Builds small ELF files in memory, one field at a time, valid or not.
//
//   0x000 ELF header | 0x040 program headers | 0x400 contents in the order they were added | section headers
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace warmfork::test {

class ElfBuilder {
 public:
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;
  std::vector<Elf64_Shdr> sections;

  /// An empty executable for x86-64, entry 0x400000.
  ElfBuilder() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x400000;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
  }

  /// Code (16 bytes, read and execute) at 0x400000 and data (8 bytes, then zeros to 0x1800) at 0x402000.
  static ElfBuilder tiny() {
    ElfBuilder elf;
    elf.load(0x400000, std::string(16, '\x90'), 16, PF_R | PF_X);
    elf.load(0x402000, "datadata", 0x1800, PF_R | PF_W);
    return elf;
  }

  /// Appends contents, 8-byte aligned; returns their offset in the file.
  std::uint64_t add(std::string_view bytes) {
    contents_.resize((contents_.size() + 7) & ~std::size_t{7});
    const std::uint64_t offset = kContents + contents_.size();
    for (const char c : bytes) contents_.push_back(static_cast<std::byte>(c));
    return offset;
  }

  Elf64_Phdr& segment(std::uint32_t type, std::string_view bytes) {
    Elf64_Phdr added{};
    added.p_type = type;
    added.p_offset = add(bytes);
    added.p_filesz = added.p_memsz = bytes.size();
    segments.push_back(added);
    return segments.back();
  }
  Elf64_Phdr& load(std::uint64_t address, std::string_view bytes, std::uint64_t memory_size, std::uint32_t flags) {
    Elf64_Phdr& added = segment(PT_LOAD, bytes);
    added.p_vaddr = address;
    added.p_memsz = memory_size;
    added.p_flags = flags;
    return added;
  }

  /// A note as it lies in the file: name with its NUL, both parts padded to 4 bytes.
  static std::string note(std::string_view owner, std::uint32_t type, std::span<const std::uint64_t> words) {
    const Elf64_Nhdr head{static_cast<Elf64_Word>(owner.size() + 1), static_cast<Elf64_Word>(words.size_bytes()), type};
    std::string text(sizeof head, '\0');
    std::memcpy(text.data(), &head, sizeof head);
    text.append(owner).push_back('\0');
    text.resize((text.size() + 3) & ~std::size_t{3});
    const std::size_t at = text.size();
    text.resize(at + words.size_bytes());
    std::memcpy(text.data() + at, words.data(), words.size_bytes());
    return text;
  }

  struct Symbol {
    std::string name;
    std::uint64_t address = 0;
    std::uint64_t size = 0;
    unsigned type = STT_FUNC;
    std::uint16_t section = 1;
  };
  /// Adds a table of symbols and its strings (two sections).
  void symbols(std::span<const Symbol> list) {
    std::string names(1, '\0');
    std::string table(sizeof(Elf64_Sym), '\0');
    for (const Symbol& symbol : list) {
      Elf64_Sym entry{};
      entry.st_name = static_cast<Elf64_Word>(names.size());
      entry.st_info = static_cast<unsigned char>(symbol.type);
      entry.st_shndx = symbol.section;
      entry.st_value = symbol.address;
      entry.st_size = symbol.size;
      names.append(symbol.name).push_back('\0');
      table.resize(table.size() + sizeof entry);
      std::memcpy(table.data() + table.size() - sizeof entry, &entry, sizeof entry);
    }
    Elf64_Shdr symtab{};
    symtab.sh_type = SHT_SYMTAB;
    symtab.sh_offset = add(table);
    symtab.sh_size = table.size();
    symtab.sh_entsize = sizeof(Elf64_Sym);
    symtab.sh_link = static_cast<Elf64_Word>(sections.size() + 1);
    sections.push_back(symtab);
    Elf64_Shdr strtab{};
    strtab.sh_type = SHT_STRTAB;
    strtab.sh_offset = add(names);
    strtab.sh_size = names.size();
    sections.push_back(strtab);
  }

  /// The file. Counts and the section headers' offset are filled in where the header does not have them yet.
  [[nodiscard]] std::vector<std::byte> build() const {
    Elf64_Ehdr head = header;
    if (head.e_phnum == 0) head.e_phnum = static_cast<Elf64_Half>(segments.size());
    const std::size_t sections_at = (kContents + contents_.size() + 7) & ~std::size_t{7};
    if (!sections.empty()) {
      if (head.e_shnum == 0) head.e_shnum = static_cast<Elf64_Half>(sections.size());
      if (head.e_shoff == 0) head.e_shoff = sections_at;
    }
    std::vector<std::byte> file(sections_at + sections.size() * sizeof(Elf64_Shdr));
    std::memcpy(file.data(), &head, sizeof head);
    if (!segments.empty())
      std::memcpy(file.data() + sizeof head, segments.data(), segments.size() * sizeof(Elf64_Phdr));
    if (!contents_.empty()) std::memcpy(file.data() + kContents, contents_.data(), contents_.size());
    if (!sections.empty())
      std::memcpy(file.data() + sections_at, sections.data(), sections.size() * sizeof(Elf64_Shdr));
    return file;
  }

 private:
  static constexpr std::size_t kContents = 0x400;
  std::vector<std::byte> contents_;
};

}  // namespace warmfork::test
