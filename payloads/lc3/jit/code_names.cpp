#include "lc3/jit/code_names.hpp"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>

// GDB finds both by name, sets a breakpoint on the function, and reads the rest from memory. Hidden: LLVM's libraries
// have their own, which are not to be mixed with these.
extern "C" {
struct JitCodeEntry {
  JitCodeEntry* next;
  JitCodeEntry* previous;
  const char* object;
  std::uint64_t bytes;
};
struct JitDescriptor {
  std::uint32_t version;
  std::uint32_t action;  // 0: none, 1: registered, 2: to be forgotten
  JitCodeEntry* relevant;
  JitCodeEntry* first;
};
// NOLINTBEGIN(bugprone-reserved-identifier, cppcoreguidelines-avoid-non-const-global-variables): GDB's names
[[gnu::visibility("hidden"), gnu::used]] JitDescriptor __jit_debug_descriptor = {1, 0, nullptr, nullptr};
[[gnu::visibility("hidden"), gnu::used, gnu::noinline]] void __jit_debug_register_code() {
  asm volatile("" ::: "memory");
}
// NOLINTEND(bugprone-reserved-identifier, cppcoreguidelines-avoid-non-const-global-variables)
}

namespace warmfork::lc3::jit {
namespace {

std::mutex& gdb_mutex() {
  static std::mutex mutex;
  return mutex;
}

enum Section : std::uint16_t { kNone, kText, kSymbols, kStrings, kSectionNames, kSectionCount };

}  // namespace

std::vector<CodeName> names_of(const MachineCode& code) {
  std::vector<CodeName> names;
  for (const MachineCode::Mark& entry : code.entries) {
    names.push_back({entry.offset, 0, fmt::format("lc3_x{:04X}", entry.address)});
  }
  names.push_back({code.out_of_line, 0, "lc3_leaves"});
  if (code.optimised != 0) names.push_back({0, 0, "lc3_optimised"});
  std::ranges::sort(names, {}, &CodeName::offset);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::size_t end = i + 1 < names.size() ? names[i + 1].offset : code.bytes.size();
    names[i].bytes = static_cast<std::uint32_t>(end - names[i].offset);
  }
  std::erase_if(names, [](const CodeName& name) { return name.bytes == 0; });
  return names;
}

std::vector<std::byte> symbol_object(std::uint64_t address, std::size_t bytes, std::span<const CodeName> names) {
  static constexpr std::string_view kNames{"\0.text\0.symtab\0.strtab\0.shstrtab\0", 33};
  std::string strings(1, '\0');
  std::vector<Elf64_Sym> symbols(1);
  for (const CodeName& name : names) {
    symbols.push_back({.st_name = static_cast<Elf64_Word>(strings.size()),
                       .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
                       .st_other = STV_DEFAULT,
                       .st_shndx = kText,
                       .st_value = name.offset,  // from the section's begin, as it is in an ET_REL
                       .st_size = name.bytes});
    strings += name.name;
    strings += '\0';
  }
  const std::size_t sections_at = sizeof(Elf64_Ehdr), symbols_at = sections_at + kSectionCount * sizeof(Elf64_Shdr);
  const std::size_t strings_at = symbols_at + symbols.size() * sizeof(Elf64_Sym);
  const std::size_t names_at = strings_at + strings.size();

  std::array<Elf64_Shdr, kSectionCount> sections{};
  sections[kText] = {.sh_name = 1,
                     .sh_type = SHT_NOBITS,
                     .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                     .sh_addr = address,
                     .sh_size = bytes,
                     .sh_addralign = 1};
  sections[kSymbols] = {.sh_name = 7,
                        .sh_type = SHT_SYMTAB,
                        .sh_offset = symbols_at,
                        .sh_size = symbols.size() * sizeof(Elf64_Sym),
                        .sh_link = kStrings,
                        .sh_info = 1,  // the first that is not local
                        .sh_addralign = 8,
                        .sh_entsize = sizeof(Elf64_Sym)};
  sections[kStrings] = {
      .sh_name = 15, .sh_type = SHT_STRTAB, .sh_offset = strings_at, .sh_size = strings.size(), .sh_addralign = 1};
  sections[kSectionNames] = {
      .sh_name = 23, .sh_type = SHT_STRTAB, .sh_offset = names_at, .sh_size = kNames.size(), .sh_addralign = 1};
  const Elf64_Ehdr header{
      .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_SYSV},
      .e_type = ET_REL,
      .e_machine = EM_X86_64,
      .e_version = EV_CURRENT,
      .e_shoff = sections_at,
      .e_ehsize = sizeof(Elf64_Ehdr),
      .e_shentsize = sizeof(Elf64_Shdr),
      .e_shnum = kSectionCount,
      .e_shstrndx = kSectionNames};

  std::vector<std::byte> object(names_at + kNames.size());
  std::memcpy(object.data(), &header, sizeof header);
  std::memcpy(object.data() + sections_at, sections.data(), sizeof sections);
  std::memcpy(object.data() + symbols_at, symbols.data(), symbols.size() * sizeof(Elf64_Sym));
  std::memcpy(object.data() + strings_at, strings.data(), strings.size());
  std::memcpy(object.data() + names_at, kNames.data(), kNames.size());
  return object;
}

std::string perf_map_path() { return fmt::format("/tmp/perf-{}.map", ::getpid()); }

struct CodeNames::GdbEntry {
  explicit GdbEntry(std::vector<std::byte> bytes) : object(std::move(bytes)) {
    const std::lock_guard lock(gdb_mutex());
    entry.object = reinterpret_cast<const char*>(object.data());
    entry.bytes = object.size();
    entry.next = __jit_debug_descriptor.first;
    if (entry.next != nullptr) entry.next->previous = &entry;
    __jit_debug_descriptor.first = &entry;
    tell(1);
  }
  ~GdbEntry() {
    const std::lock_guard lock(gdb_mutex());
    (entry.previous != nullptr ? entry.previous->next : __jit_debug_descriptor.first) = entry.next;
    if (entry.next != nullptr) entry.next->previous = entry.previous;
    tell(2);
  }
  GdbEntry(const GdbEntry&) = delete;
  GdbEntry& operator=(const GdbEntry&) = delete;

  void tell(std::uint32_t action) {
    __jit_debug_descriptor.relevant = &entry;
    __jit_debug_descriptor.action = action;
    __jit_debug_register_code();
    __jit_debug_descriptor.action = 0;
    __jit_debug_descriptor.relevant = nullptr;
  }

  const std::vector<std::byte> object;
  JitCodeEntry entry{};
};

Result<std::shared_ptr<CodeNames>> CodeNames::create(const CodeNamesOptions& options) {
  UniqueFd map;
  if (!options.perf_map.empty()) {
    // One that is there is of an earlier process with this number. /tmp is everybody's: what somebody else has put
    // there in the meantime is not opened.
    if (::unlink(options.perf_map.c_str()) != 0 && errno != ENOENT) return fail_errno("removing {}", options.perf_map);
    map = UniqueFd(
        ::open(options.perf_map.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_APPEND, 0600));
    if (!map) return fail_errno("making {}", options.perf_map);
  }
  return std::shared_ptr<CodeNames>(new CodeNames(options, std::move(map)));
}

CodeNames::CodeNames(const CodeNamesOptions& options, UniqueFd map) : options_(options), map_(std::move(map)) {}

CodeNames::~CodeNames() = default;

void CodeNames::add(std::uint64_t address, const MachineCode& code) {
  const std::lock_guard lock(mutex_);
  const std::vector<CodeName> names = names_of(code);
  if (names.size() > options_.most - names_) {
    if (complaint_.empty()) complaint_ = fmt::format("more than {} names of compiled code", options_.most);
    return;
  }
  names_ += names.size();
  write_lines(address, names);
  if (options_.gdb) {
    entries_.push_back(std::make_unique<GdbEntry>(symbol_object(address, code.bytes.size(), names)));
  }
  if (options_.lookup) {
    Version version{.bytes = code.bytes.size(), .optimised = code.optimised, .marks = code.marks};
    version.marks.insert(version.marks.end(), code.entries.begin(), code.entries.end());
    std::ranges::sort(version.marks, {}, &MachineCode::Mark::offset);
    versions_.insert_or_assign(address, std::move(version));
  }
}

std::optional<CodeNames::Found> CodeNames::find(std::uint64_t address) const {
  const std::lock_guard lock(mutex_);
  auto at = versions_.upper_bound(address);
  if (at == versions_.begin()) return std::nullopt;
  --at;
  const std::uint64_t offset = address - at->first;
  const Version& version = at->second;
  if (offset >= version.bytes) return std::nullopt;
  const auto behind = std::ranges::upper_bound(version.marks, offset, {}, &MachineCode::Mark::offset);
  if (version.marks.empty()) return std::nullopt;
  // What LLVM makes for no instruction belongs to the one before; at the very beginning, to the first.
  const auto mark = behind == version.marks.begin() ? behind : std::prev(behind);
  return Found{.optimised = offset < version.optimised, .pc = mark->address};
}

void CodeNames::write_lines(std::uint64_t address, std::span<const CodeName> names) {
  if (!map_) return;
  std::string lines;
  for (const CodeName& name : names) {
    fmt::format_to(std::back_inserter(lines), "{:x} {:x} {}\n", address + name.offset, name.bytes, name.name);
  }
  for (std::string_view left = lines; !left.empty();) {
    const ssize_t written = ::write(map_.get(), left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      if (complaint_.empty()) complaint_ = fmt::format("writing {}: {}", options_.perf_map, std::strerror(errno));
      map_ = UniqueFd();
      return;
    }
    left.remove_prefix(static_cast<std::size_t>(written));
  }
}

void CodeNames::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
  versions_.clear();
  names_ = 0;
  if (map_ && ::ftruncate(map_.get(), 0) != 0) map_ = UniqueFd();
}

std::string CodeNames::complaint() const {
  const std::lock_guard lock(mutex_);
  return complaint_;
}

}  // namespace warmfork::lc3::jit
