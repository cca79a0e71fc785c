#include "fork/snapshot_format.hpp"

#include "base/printable.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>

namespace warmfork::snapshot_format {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::array<char, 16> kMagic{'w',  'a',  'r',    'm',  'f', 'o', 'r', 'k',
                                      '\r', '\n', '\x1a', '\n', 's', 'n', 'a', 'p'};

constexpr std::size_t kMaxName = 4096;
constexpr std::size_t kMaxSegments = 128;

constexpr std::uint64_t kWritable = 1;
constexpr std::uint64_t kExecutable = 2;
constexpr std::uint64_t kNoAccess = 0;
constexpr std::uint64_t kReadOnly = 1;
constexpr std::uint64_t kReadWrite = 2;  // of a shared region
constexpr x86::Access kReadAccess{.user = true, .write = false, .execute = false};

// --- bytes ---

class Writer {
 public:
  template <class T>
  void put(T value) {
    static_assert(std::is_integral_v<T>);
    const auto raw = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  void text(std::string_view text) {
    put(static_cast<std::uint32_t>(text.size()));
    const auto raw = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  void checksum(const Checksum& checksum) {
    put(checksum.low);
    put(checksum.high);
  }
  [[nodiscard]] std::vector<std::byte> finish() {
    bytes_.resize(page_ceil(bytes_.size()));
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
};

// Reads values off the front of foreign bytes. Past the end it reads zeros and remembers that it did.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
  T take() {
    T value{};
    const auto raw = take_bytes(sizeof value);
    if (!raw.empty()) std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::uint64_t word() { return take<std::uint64_t>(); }
  std::string text() {
    const auto raw = take_bytes(take<std::uint32_t>());
    std::string text(raw.size(), '\0');
    if (!raw.empty()) std::memcpy(text.data(), raw.data(), raw.size());
    return text;
  }
  Checksum checksum() {
    const std::uint64_t low = word();
    return {low, word()};
  }
  /// How many things of at least `each` bytes follow; what cannot be there is not believed.
  std::uint64_t count(std::size_t each) {
    const std::uint64_t count = word();
    if (count <= rest_.size() / each) return count;
    passed_end_ = true;
    return 0;
  }
  [[nodiscard]] bool passed_end() const { return passed_end_; }
  /// True if all that follows is what fills the last page up.
  [[nodiscard]] bool at_padding() const {
    return rest_.size() < kPage && std::ranges::all_of(rest_, [](std::byte byte) { return byte == std::byte{0}; });
  }

 private:
  std::span<const std::byte> take_bytes(std::size_t size) {
    if (size > rest_.size()) {
      passed_end_ = true;
      rest_ = {};
      return {};
    }
    const auto front = rest_.first(size);
    rest_ = rest_.subspan(size);
    return front;
  }

  std::span<const std::byte> rest_;
  bool passed_end_ = false;
};

template <class... Args>
Failure refuse(fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorKind::kInput, format, std::forward<Args>(args)...);
}

// --- the program ---

void encode_program(Writer& out, const Metadata::Program& saved) {
  const GuestProgram& program = *saved.program;
  out.text(printable(program.name.substr(0, kMaxName)));
  out.put(saved.sizes.heap);
  out.put(saved.sizes.stack);
  out.put(saved.sizes.call_area);
  out.put(saved.sizes.code);
  out.put(std::uint64_t{saved.sizes.shared.size()});
  for (const SharedRegionSpec& region : saved.sizes.shared) {
    out.put(region.bytes);
    out.put(region.access == SharedAccess::kReadWrite ? kReadWrite : kReadOnly);
    out.text(region.name);
  }
  out.checksum(saved.system_pages);
  out.put(program.plan.entry.value);
  out.put(std::uint64_t{program.plan.segments.size()});
  for (const LoadSegment& segment : program.plan.segments) {
    out.put(segment.address.value);
    out.put(segment.memory_size);
    out.put((segment.write ? kWritable : 0) | (segment.execute ? kExecutable : 0));
  }
  out.put(std::uint64_t{program.vmcalls.size()});
  for (const auto& [name, function] : program.vmcalls) {
    out.put(function.value);
    out.text(name);
  }
  out.put(std::uint64_t{program.plan.symbols.size()});
  for (const ElfSymbol& symbol : program.plan.symbols) {
    out.put(symbol.address);
    out.put(symbol.size);
    out.put(std::uint8_t{symbol.is_function});
    out.text(symbol.name);
  }
}

bool is_executable(const LoadPlan& plan, Gva address) {
  return std::ranges::any_of(plan.segments, [&](const LoadSegment& segment) {
    return segment.execute && address.value - segment.address.value < segment.memory_size;
  });
}

Status decode_segments(Reader& in, LoadPlan& plan) {
  constexpr ElfLimits kLimits{.lowest_address = WARMFORK_USER_BASE};
  const std::uint64_t count = in.count(3 * sizeof(std::uint64_t));
  if (count == 0 || count > kMaxSegments) return refuse("{} segments, allowed are 1 … {}", count, kMaxSegments);
  std::uint64_t previous_end = kLimits.lowest_address;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Gva address{in.word()};
    const std::uint64_t size = in.word();
    const std::uint64_t rights = in.word();
    if (size == 0 || address.value > kLimits.highest_address || size > kLimits.highest_address - address.value) {
      return refuse("segment {}: {:#x} + {:#x} is outside {:#x} … {:#x}", i, address.value, size,
                    kLimits.lowest_address, kLimits.highest_address);
    }
    if (page_floor(address.value) < previous_end) {
      return refuse("segment {}: {:#x} begins before {:#x}, where the one before it ends", i, address.value,
                    previous_end);
    }
    if (rights > kExecutable) return refuse("segment {}: access {:#x}, allowed are 0, 1 and 2", i, rights);
    previous_end = page_ceil(address.value + size);
    plan.segments.push_back({address, size, {}, rights == kWritable, rights == kExecutable});
  }
  plan.end = Gva{previous_end};
  return {};
}

Status decode_shared_regions(Reader& in, std::vector<SharedRegionSpec>& regions) {
  const std::uint64_t count = in.count(2 * sizeof(std::uint64_t) + sizeof(std::uint32_t));
  if (count > kMaxSharedRegions) return refuse("{} shared regions, allowed are {}", count, kMaxSharedRegions);
  for (std::uint64_t i = 0; i < count; ++i) {
    SharedRegionSpec region{.name = {}, .bytes = in.word()};
    const std::uint64_t access = in.word();
    region.name = in.text();
    if (access != kReadOnly && access != kReadWrite) return refuse("shared region {}: access {:#x}", i, access);
    region.access = access == kReadWrite ? SharedAccess::kReadWrite : SharedAccess::kReadOnly;
    regions.push_back(std::move(region));
  }
  if (const auto sound = check_shared_regions(regions); !sound) return refuse("{}", sound.error().message);
  return {};
}

Result<Metadata::Program> decode_program(Reader& in) {
  Metadata::Program saved;
  const auto program = std::make_shared<GuestProgram>();
  program->name = in.text();
  if (program->name.size() > kMaxName || printable(program->name) != program->name) {
    return refuse("the program's name is no text of at most {} bytes", kMaxName);
  }
  for (std::uint64_t* const size : {&saved.sizes.heap, &saved.sizes.stack, &saved.sizes.call_area}) {
    *size = in.word();
    if (*size % kPage != 0 || *size > x86::kMaxVirtual) {
      return refuse("{:#x} bytes of heap, stack or call area: no whole pages, or past {:#x}", *size, x86::kMaxVirtual);
    }
  }
  saved.sizes.code = in.word();
  if (saved.sizes.code % x86::kLargePageSize != 0 || saved.sizes.code > x86::kMaxVirtual) {
    return refuse("{:#x} bytes of code region: no multiple of {:#x}, or past {:#x}", saved.sizes.code,
                  x86::kLargePageSize, x86::kMaxVirtual);
  }
  WARMFORK_TRY(decode_shared_regions(in, saved.sizes.shared));
  saved.system_pages = in.checksum();
  LoadPlan& plan = program->plan;
  plan.entry = Gva{in.word()};
  WARMFORK_TRY(decode_segments(in, plan));
  if (!is_executable(plan, plan.entry)) return refuse("entry point {:#x} is not in a code segment", plan.entry.value);

  const std::uint64_t vmcalls = in.count(sizeof(std::uint64_t) + sizeof(std::uint32_t));
  if (vmcalls > kMaxVmcalls) return refuse("{} vmcalls, allowed are {}", vmcalls, kMaxVmcalls);
  for (std::uint64_t i = 0; i < vmcalls; ++i) {
    const Gva function{in.word()};
    std::string name = in.text();
    if (name.size() > kMaxVmcallName)
      return refuse("vmcall {}: a name of {} bytes, allowed are {}", i, name.size(), kMaxVmcallName);
    if (!is_executable(plan, function)) return refuse("vmcall {}: {:#x} is not in a code segment", i, function.value);
    program->vmcalls.emplace_back(std::move(name), function);
  }

  const std::uint64_t symbols = in.count(2 * sizeof(std::uint64_t) + 1 + sizeof(std::uint32_t));
  if (symbols > ElfLimits{}.symbols) return refuse("{} symbols, allowed are {}", symbols, ElfLimits{}.symbols);
  for (std::uint64_t i = 0; i < symbols; ++i) {
    ElfSymbol symbol{.address = in.word(), .size = in.word(), .name = {}, .is_function = false};
    const auto flag = in.take<std::uint8_t>();
    symbol.is_function = flag != 0;
    symbol.name = in.text();
    if (flag > 1 || symbol.name.size() > kMaxSymbolName) {
      return refuse("symbol {}: flag {} and a name of {} bytes, allowed are 1 and {}", i, flag, symbol.name.size(),
                    kMaxSymbolName);
    }
    if (!plan.symbols.empty() && symbol.address < plan.symbols.back().address) {
      return refuse("symbol {}: {:#x} comes behind {:#x}", i, symbol.address, plan.symbols.back().address);
    }
    plan.symbols.push_back(std::move(symbol));
  }
  saved.program = program;
  return saved;
}

Status decode_overrides(Reader& in, std::vector<AddressSpace::Override>& overrides) {
  const std::uint64_t count = in.count(3 * sizeof(std::uint64_t));
  for (std::uint64_t i = 0; i < count; ++i) {
    AddressSpace::Override change;
    change.range.begin = Gva{in.word()};
    change.range.size = in.word();
    const std::uint64_t access = in.word();
    const std::uint64_t begin = change.range.begin.value;
    const std::uint64_t lowest = overrides.empty() ? 0 : overrides.back().range.end().value;
    if (begin % kPage != 0 || change.range.size % kPage != 0 || change.range.size == 0 || begin > x86::kMaxVirtual ||
        change.range.size > x86::kMaxVirtual - begin || begin < lowest) {
      return refuse("protected range {}: {:#x} + {:#x} is no range of user pages behind {:#x}", i, begin,
                    change.range.size, lowest);
    }
    if (access > kReadOnly) return refuse("protected range {}: access {:#x}, allowed are 0 and 1", i, access);
    if (access == kReadOnly) change.access = kReadAccess;
    overrides.push_back(change);
  }
  return {};
}

}  // namespace

// --- header ---

Checksum id_of(const Header& header) {
  return checksum_of(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, id)));
}

Header make_header(const std::array<SectionSummary, kSections>& sections, const Checksum& base) {
  Header header;
  header.magic = kMagic;
  header.format_version = kFormatVersion;
  header.abi_version = WARMFORK_ABI_VERSION;
  header.header_size = sizeof header;
  header.section_count = kSections;
  header.base = base;
  std::uint64_t offset = sizeof header;
  for (std::size_t i = 0; i < kSections; ++i) {
    header.sections[i] = {offset, sections[i].size, sections[i].checksum};
    offset += sections[i].size;
  }
  header.file_size = offset;
  header.id = id_of(header);
  return header;
}

Result<Header> read_header(std::span<const std::byte> bytes, std::uint64_t file_size) {
  Header header;
  if (bytes.size() < kMagic.size() || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return refuse("not a snapshot file");
  }
  if (bytes.size() < sizeof header) return refuse("{} bytes, a snapshot's header has {}", bytes.size(), sizeof header);
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.format_version != kFormatVersion) {
    return fail(ErrorKind::kUnsupported, "snapshot format version {}, known is {}", header.format_version,
                kFormatVersion);
  }
  if (const Checksum is = id_of(header); is != header.id) {
    return refuse("damaged: the header's checksum is {}, it should be {}", to_text(is), to_text(header.id));
  }
  if (header.abi_version != WARMFORK_ABI_VERSION) {
    return fail(ErrorKind::kUnsupported, "made for warmfork ABI version {}, this is {}", header.abi_version,
                WARMFORK_ABI_VERSION);
  }
  const bool zero = std::ranges::all_of(header.zero, [](std::byte byte) { return byte == std::byte{0}; });
  if (header.header_size != sizeof header || header.section_count != kSections || header.reserved != 0 || !zero) {
    return refuse("a header of {} bytes and {} sections, or with more in it than version {} has", header.header_size,
                  header.section_count, kFormatVersion);
  }
  std::uint64_t offset = sizeof header;
  for (std::size_t i = 0; i < kSections; ++i) {
    const SectionEntry& section = header.sections[i];
    if (section.offset != offset || section.size % kPage != 0 || section.size > ~offset) {
      return refuse("section {} at {:#x} + {:#x}, it should begin at {:#x} and be whole pages", kSectionNames[i],
                    section.offset, section.size, offset);
    }
    offset += section.size;
  }
  if (header.file_size != offset || file_size != offset) {
    return refuse("{} bytes, its header says {} and its sections {}{}", file_size, header.file_size, offset,
                  file_size < offset ? ": the file is cut off" : "");
  }
  for (const Section table : {kMetadata, kIndex}) {
    if (header.sections[table].size > kMaxTableBytes) {
      return refuse("section {} of {} bytes, allowed are {}", kSectionNames[table], header.sections[table].size,
                    kMaxTableBytes);
    }
  }
  return header;
}

// --- metadata ---

std::vector<std::byte> encode_metadata(const Metadata& metadata) {
  Writer out;
  for (const std::uint32_t word : metadata.features.words) out.put(word);
  out.put(metadata.features.xcr0);
  out.put(metadata.heap_break);
  out.put(std::uint64_t{metadata.heap_mappings.size()});
  for (const auto& [begin, end] : metadata.heap_mappings) {
    out.put(begin);
    out.put(end);
  }
  out.put(metadata.fs_base);
  out.put(metadata.gs_base);
  out.put(metadata.random_bytes.value);
  out.put(metadata.call_stack);
  out.put(metadata.pristine.mxcsr);
  out.put(metadata.pristine.x87_control);
  out.put(std::uint16_t{metadata.pristine.x87_in_use});
  out.put(std::uint64_t{metadata.overrides.size()});
  for (const AddressSpace::Override& change : metadata.overrides) {
    out.put(change.range.begin.value);
    out.put(change.range.size);
    out.put(change.access ? kReadOnly : kNoAccess);
  }
  if (metadata.program) encode_program(out, *metadata.program);
  return out.finish();
}

Result<Metadata> decode_metadata(std::span<const std::byte> bytes, bool layer) {
  Reader in(bytes);
  Metadata metadata;
  for (std::uint32_t& word : metadata.features.words) word = in.take<std::uint32_t>();
  metadata.features.xcr0 = in.word();
  metadata.heap_break = in.word();
  const std::uint64_t mappings = in.count(2 * sizeof(std::uint64_t));
  std::uint64_t previous = 0;
  for (std::uint64_t i = 0; i < mappings; ++i) {
    const std::uint64_t begin = in.word();
    if (begin <= previous) return refuse("heap mapping {}: {:#x} does not come behind {:#x}", i, begin, previous);
    previous = begin;
    metadata.heap_mappings.emplace_hint(metadata.heap_mappings.end(), begin, in.word());
  }
  metadata.fs_base = in.word();
  metadata.gs_base = in.word();
  metadata.random_bytes = Gva{in.word()};
  metadata.call_stack = in.word();
  metadata.pristine.mxcsr = in.take<std::uint32_t>();
  metadata.pristine.x87_control = in.take<std::uint16_t>();
  const auto in_use = in.take<std::uint16_t>();
  if (in_use > 1) return refuse("x87 state in use: {}, allowed are 0 and 1", in_use);
  metadata.pristine.x87_in_use = in_use == 1;
  WARMFORK_TRY(metadata.pristine.check());
  WARMFORK_TRY(decode_overrides(in, metadata.overrides));
  if (!layer) {
    auto program = decode_program(in);
    if (in.passed_end()) return refuse("the metadata ends in the midst of the program");
    if (!program) return Failure(std::move(program).error());
    metadata.program = std::move(*program);
  }
  if (in.passed_end()) return refuse("the metadata ends too early");
  if (!in.at_padding()) return refuse("the metadata goes on behind its end");
  return metadata;
}

Result<linux_abi::Process::Book> book_of(const Metadata& metadata, const GuestLayout& layout) {
  auto heap = linux_abi::Heap::rebuild(layout.heap(), metadata.heap_break, metadata.heap_mappings);
  if (!heap) {
    return refuse("a heap with its break at {:#x} and {} mappings cannot be in {:#x} + {:#x}", metadata.heap_break,
                  metadata.heap_mappings.size(), layout.heap().begin.value, layout.heap().size);
  }
  return linux_abi::Process::Book{.heap = std::move(*heap),
                                  .fs_base = metadata.fs_base,
                                  .gs_base = metadata.gs_base,
                                  .random_bytes = metadata.random_bytes};
}

Status check_metadata(const Metadata& metadata, const GuestLayout& layout) {
  WARMFORK_TRY(book_of(metadata, layout));
  for (const std::uint64_t base : {metadata.fs_base, metadata.gs_base}) {
    if (!x86::is_user_address(base)) return refuse("FS or GS base {:#x} is outside user space", base);
  }
  constexpr std::uint64_t kRandomBytes = 16;
  const std::uint64_t random = metadata.random_bytes.value;
  const AddressRange stack = layout.stack();
  if (random != 0 && (!stack.contains(metadata.random_bytes) || stack.end().value - random < kRandomBytes)) {
    return refuse("the program's random bytes at {:#x} are not on its stack", random);
  }
  if (metadata.call_stack % 16 != 0 || !x86::is_user_address(metadata.call_stack)) {
    return refuse("vmcalls begin with rsp {:#x}, which is no aligned address of user space", metadata.call_stack);
  }
  for (const AddressSpace::Override& change : metadata.overrides) {
    if (!layout.is_protectable(change.range.begin, change.range.size)) {
      return refuse("protected range {:#x} + {:#x} is nothing a program may protect", change.range.begin.value,
                    change.range.size);
    }
  }
  return {};
}

// --- index ---

std::vector<PageRun> runs_of(const PageSet& pages) {
  std::vector<PageRun> runs;
  pages.for_each_run([&](std::size_t first, std::size_t count) { runs.push_back({first, count}); });
  return runs;
}

std::vector<std::byte> encode_index(std::span<const PageRun> runs) {
  Writer out;
  out.put(std::uint64_t{runs.size()});
  for (const PageRun& run : runs) {
    out.put(run.first);
    out.put(run.count);
  }
  return out.finish();
}

Result<std::vector<PageRun>> decode_index(std::span<const std::byte> bytes, std::uint64_t window_bytes) {
  Reader in(bytes);
  const std::uint64_t count = in.count(sizeof(PageRun));
  std::vector<PageRun> runs;
  runs.reserve(count);
  std::uint64_t lowest = 0;
  std::uint64_t pages = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    PageRun run;
    run.first = in.word();
    run.count = in.word();
    const std::uint64_t left = window_bytes / kPage - pages;
    if (run.first < lowest || run.first > x86::kMaxVirtual / kPage || run.count == 0 || run.count > left) {
      return refuse("index entry {}: {} pages from page {}, allowed are 1 … {} from {} on", i, run.count, run.first,
                    left, lowest);
    }
    pages += run.count;
    lowest = run.first + run.count + 1;  // runs that touch would be one
    runs.push_back(run);
  }
  if (in.passed_end() || !in.at_padding()) return refuse("the index is not as long as its section");
  if (pages != window_bytes / kPage) return refuse("an index of {} pages for {}", pages, window_bytes / kPage);
  return runs;
}

Status check_index(std::span<const PageRun> runs, const GuestLayout& layout) {
  const std::uint64_t pages = layout.window_bytes() / kPage;
  const std::uint64_t fork_page = *layout.window_offset(Gva{WARMFORK_FORK_PAGE}) / kPage;
  for (const PageRun& run : runs) {
    if (run.first > pages || run.count > pages - run.first) {
      return refuse("pages {} + {} of a window of {}", run.first, run.count, pages);
    }
    if (fork_page - run.first < run.count) return refuse("page {} is the fork page, which is the host's", fork_page);
  }
  return {};
}

}  // namespace warmfork::snapshot_format
