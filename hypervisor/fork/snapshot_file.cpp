#include "fork/snapshot_file.hpp"

#include "base/file.hpp"
#include "base/printable.hpp"
#include "fork/frozen_window.hpp"
#include "fork/snapshot_format.hpp"
#include "machine/backend_probe.hpp"
#include "warmfork/abi/layout.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace warmfork {
namespace {

using namespace snapshot_format;

constexpr std::size_t kMaxLayers = 64;
constexpr std::size_t kChunk = 256 << 10;  // read, hashed and passed on while it is in the cache

// --- saving ---

Checksum checksum_of_system_pages(const GuestLayout& layout) {
  std::vector<std::byte> pages(WARMFORK_SYSTEM_SIZE);
  AddressSpace::build_system_pages(layout, pages);
  return checksum_of(pages);
}

std::size_t fork_page_of(const GuestLayout& layout) { return *layout.window_offset(Gva{WARMFORK_FORK_PAGE}) / kPage; }

// A file but for its bulk, which stays where it is: in the snapshot.
struct Contents {
  std::vector<std::byte> metadata;
  std::vector<std::byte> index;
  std::span<const std::byte> image;
  std::vector<std::span<const std::byte>> window;
  Header header;
};

Metadata metadata_of(const Snapshot& snapshot) {
  const GuestLayout& layout = *snapshot.layout();
  const linux_abi::Process::Book& book = snapshot.book();
  Metadata metadata;
  metadata.features = snapshot.features();
  metadata.heap_break = book.heap.break_end();
  metadata.heap_mappings = book.heap.mappings();
  metadata.fs_base = book.fs_base;
  metadata.gs_base = book.gs_base;
  metadata.random_bytes = book.random_bytes;
  metadata.call_stack = snapshot.call_stack();
  metadata.pristine = PristineState::of_area(snapshot.window().subspan(fork_page_of(layout) * kPage, kPage));
  metadata.overrides.assign(snapshot.overrides().begin(), snapshot.overrides().end());
  if (snapshot.base() == nullptr) {
    metadata.program = Metadata::Program{.program = snapshot.program(),
                                         .sizes = {.heap = layout.heap().size,
                                                   .stack = layout.stack().size,
                                                   .call_area = layout.call_area().size,
                                                   .code = layout.code().size,
                                                   .shared = layout.shared_specs()},
                                         .system_pages = checksum_of_system_pages(layout)};
  }
  return metadata;
}

Result<Contents> contents_of(const Snapshot& snapshot) {
  Checksum base;
  if (snapshot.base() != nullptr) {
    WARMFORK_TRY_ASSIGN(base, snapshot_id(*snapshot.base()));
  }
  const GuestLayout& layout = *snapshot.layout();
  Contents contents;
  const Metadata metadata = metadata_of(snapshot);
  contents.metadata = encode_metadata(metadata);
  // What could not be loaded is not written. The cheapest way to be sure is to read it.
  const auto again = decode_metadata(contents.metadata, snapshot.base() != nullptr);
  const Status sound = again ? check_metadata(*again, layout) : Status(Failure(again.error()));
  if (!sound) return with_context(sound.error(), fmt::format("{} cannot be saved", snapshot.program()->name));
  PageSet pages = snapshot.own();
  pages.remove(fork_page_of(layout));
  const std::vector<PageRun> runs = runs_of(pages);
  contents.index = encode_index(runs);
  if (snapshot.base() == nullptr) contents.image = snapshot.image().subspan(WARMFORK_SYSTEM_SIZE);
  Checksummer window_checksum;
  for (const PageRun& run : runs) {
    contents.window.push_back(snapshot.window().subspan(run.first * kPage, run.count * kPage));
    window_checksum.add(contents.window.back());
  }
  contents.header = make_header({{{contents.metadata.size(), checksum_of(contents.metadata)},
                                  {contents.index.size(), checksum_of(contents.index)},
                                  {contents.image.size(), checksum_of(contents.image)},
                                  {pages.count() * kPage, window_checksum.result()}}},
                                base);
  return contents;
}

// --- loading ---

// A file that is open, with its header, metadata and index read and found to be sound.
class OpenFile {
 public:
  [[nodiscard]] static Result<OpenFile> open(const std::string& path) {
    OpenFile file;
    auto opened = file.read(path);
    if (!opened) return with_context(std::move(opened).error(), path);
    return file;
  }

  [[nodiscard]] const Header& header() const { return header_; }
  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  [[nodiscard]] std::span<const PageRun> runs() const { return runs_; }
  [[nodiscard]] bool is_layer() const { return !header_.base.empty(); }

  /// Reads the section's bytes from `offset` on; with a checksummer, adds them to it.
  [[nodiscard]] Status read(Section section, std::uint64_t offset, std::span<std::byte> out,
                            Checksummer* checksum) const {
    offset += header_.sections[section].offset;
    while (!out.empty()) {
      const auto chunk = out.first(std::min(out.size(), kChunk));
      WARMFORK_TRY(read_at(offset, chunk));
      if (checksum != nullptr) checksum->add(chunk);
      offset += chunk.size();
      out = out.subspan(chunk.size());
    }
    return {};
  }
  [[nodiscard]] Status check(Section section, const Checksum& is) const {
    const Checksum& should = header_.sections[section].checksum;
    if (is == should) return {};
    return fail(ErrorKind::kInput, "damaged: the checksum of section {} is {}, it should be {}", kSectionNames[section],
                to_text(is), to_text(should));
  }
  /// Compares the checksum of a section that nobody wants to have.
  [[nodiscard]] Status verify(Section section) const {
    std::vector<std::byte> buffer(kChunk);
    Checksummer checksum;
    const std::uint64_t size = header_.sections[section].size;
    for (std::uint64_t offset = 0; offset < size; offset += kChunk) {
      WARMFORK_TRY(read(section, offset, std::span(buffer).first(std::min(size - offset, kChunk)), &checksum));
    }
    return check(section, checksum.result());
  }

 private:
  [[nodiscard]] Status read_at(std::uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      const ssize_t got = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_errno("{} bytes at {:#x}", out.size(), offset);
      if (got == 0) return fail(ErrorKind::kInput, "the file became shorter while it was read");
      out = out.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
    return {};
  }

  [[nodiscard]] Result<std::vector<std::byte>> read_table(Section section) const {
    std::vector<std::byte> bytes(header_.sections[section].size);
    Checksummer checksum;
    WARMFORK_TRY(read(section, 0, bytes, &checksum));
    WARMFORK_TRY(check(section, checksum.result()));
    return bytes;
  }

  [[nodiscard]] Status read(const std::string& path) {
    fd_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status{};
    if (!fd_ || ::fstat(fd_.get(), &status) != 0) {
      return Failure(Error{ErrorKind::kInput, std::strerror(errno), errno});
    }
    if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kInput, "not a regular file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    std::vector<std::byte> first(std::min<std::uint64_t>(size, sizeof(Header)));
    WARMFORK_TRY(read_at(0, first));
    WARMFORK_TRY_ASSIGN(header_, read_header(first, size));
    WARMFORK_TRY_ASSIGN(const auto metadata, read_table(kMetadata));
    WARMFORK_TRY_ASSIGN(metadata_, decode_metadata(metadata, is_layer()));
    WARMFORK_TRY_ASSIGN(const auto index, read_table(kIndex));
    WARMFORK_TRY_ASSIGN(runs_, decode_index(index, header_.sections[kWindow].size));
    if (is_layer() && header_.sections[kImage].size != 0) return fail(ErrorKind::kInput, "a layer with an image");
    return {};
  }

  UniqueFd fd_;
  Header header_;
  Metadata metadata_;
  std::vector<PageRun> runs_;
};

Status check_processor(const x86::UserFeatures& wanted, const x86::UserFeatures& offered) {
  const auto missing = names_of(x86::missing_features(wanted, offered));
  if (missing.empty()) return {};
  return fail(ErrorKind::kUnsupported, "made on a processor with {}, which this one lacks", fmt::join(missing, ", "));
}

Result<std::shared_ptr<const GuestLayout>> plan_layout(const Metadata::Program& saved, unsigned physical_bits,
                                                       std::uint64_t limit) {
  const LayoutSizes& sizes = saved.sizes;
  std::uint64_t bytes = sizes.heap + sizes.stack + sizes.call_area + sizes.code;  // each at most 2^47
  for (const LoadSegment& segment : saved.program->plan.segments) bytes += page_ceil(segment.memory_size);
  if (bytes > limit) return fail(ErrorKind::kLimit, "a guest of {} bytes, the memory limit is {}", bytes, limit);
  return GuestLayout::plan(saved.program->plan, saved.sizes, physical_bits);
}

class Loader {
 public:
  Loader(const x86::CpuModel& cpu, const x86::UserFeatures& offered, const LoadOptions& options)
      : cpu_(cpu), offered_(offered), options_(options) {}

  [[nodiscard]] Result<std::shared_ptr<const Snapshot>> load(const std::string& path, std::size_t layers) {
    WARMFORK_TRY_ASSIGN(const OpenFile file, OpenFile::open(path));
    return load(file, path, layers);
  }

 private:
  [[nodiscard]] Result<std::shared_ptr<const Snapshot>> load(const OpenFile& file, const std::string& path,
                                                             std::size_t layers) {
    auto loaded = file.is_layer() ? load_layer(file, layers) : load_master(file, layers);
    if (!loaded) return with_context(std::move(loaded).error(), path);
    return loaded;
  }

  [[nodiscard]] Result<SnapshotParts> begin(const OpenFile& file,
                                            const std::shared_ptr<const GuestLayout>& layout) const {
    const Metadata& metadata = file.metadata();
    WARMFORK_TRY(check_metadata(metadata, *layout));
    WARMFORK_TRY(check_index(file.runs(), *layout));
    SnapshotParts parts;
    parts.layout = layout;
    parts.features = metadata.features;
    WARMFORK_TRY_ASSIGN(parts.book, book_of(metadata, *layout));
    parts.overrides = metadata.overrides;
    parts.call_stack = metadata.call_stack;
    parts.own = PageSet(layout->window_bytes() / kPage);
    for (const PageRun& run : file.runs()) {
      for (std::uint64_t page = run.first; page < run.first + run.count; ++page) parts.own.add(page);
    }
    parts.own.add(fork_page_of(*layout));
    parts.file_id = file.header().id;
    return parts;
  }

  [[nodiscard]] Status read_window(const OpenFile& file, const GuestLayout& layout, const WriteWindow& write) const {
    std::vector<std::byte> buffer(kChunk);
    Checksummer checksum;
    std::uint64_t offset = 0;
    for (const PageRun& run : file.runs()) {
      for (std::uint64_t done = 0; done < run.count * kPage;) {
        const auto chunk = std::span(buffer).first(std::min(run.count * kPage - done, kChunk));
        WARMFORK_TRY(file.read(kWindow, offset, chunk, options_.verify ? &checksum : nullptr));
        WARMFORK_TRY(write(run.first * kPage + done, chunk));
        offset += chunk.size();
        done += chunk.size();
      }
    }
    if (options_.verify) WARMFORK_TRY(file.check(kWindow, checksum.result()));
    const auto page = std::span(buffer).first(kPage);
    write_fork_page(page, file.metadata().pristine);
    return write(fork_page_of(layout) * kPage, page);
  }

  [[nodiscard]] Result<std::shared_ptr<const Mapping>> read_image(const OpenFile& file,
                                                                  const GuestLayout& layout) const {
    const std::uint64_t stored = file.header().sections[kImage].size;
    if (stored != layout.image_bytes() - WARMFORK_SYSTEM_SIZE) {
      return fail(ErrorKind::kInput, "an image of {} bytes, its segments have {}", stored,
                  layout.image_bytes() - WARMFORK_SYSTEM_SIZE);
    }
    WARMFORK_TRY_ASSIGN(Mapping image, Mapping::anonymous(layout.image_bytes()));
    image.populate();
    AddressSpace::build_system_pages(layout, image.bytes());
    if (checksum_of(image.bytes().first(WARMFORK_SYSTEM_SIZE)) != file.metadata().program->system_pages) {
      return fail(ErrorKind::kUnsupported, "made by another version of warmfork: its system pages are not this one's");
    }
    Checksummer checksum;
    WARMFORK_TRY(
        file.read(kImage, 0, image.bytes().subspan(WARMFORK_SYSTEM_SIZE), options_.verify ? &checksum : nullptr));
    if (options_.verify) WARMFORK_TRY(file.check(kImage, checksum.result()));
    return std::make_shared<const Mapping>(std::move(image));
  }

  [[nodiscard]] Result<std::shared_ptr<const Snapshot>> load_master(const OpenFile& file, std::size_t layers) const {
    if (layers == 0 && options_.base != nullptr) return fail(ErrorKind::kUsage, "not a layer, it has no base");
    WARMFORK_TRY(check_processor(file.metadata().features, offered_));
    const Metadata::Program& saved = *file.metadata().program;
    WARMFORK_TRY_ASSIGN(const auto layout, plan_layout(saved, cpu_.physical_bits, options_.memory_limit));
    WARMFORK_TRY_ASSIGN(SnapshotParts parts, begin(file, layout));
    parts.program = saved.program;
    parts.cpu_model = cpu_;
    WARMFORK_TRY_ASSIGN(parts.image, read_image(file, *layout));
    WARMFORK_TRY_ASSIGN(parts.code, CodeRegion::allocate(*layout));
    WARMFORK_TRY_ASSIGN(FrozenWindow window, freeze_window(layout->window_bytes(), [&](const WriteWindow& write) {
                          return read_window(file, *layout, write);
                        }));
    parts.window_fd = std::move(window.fd);
    parts.view = std::move(window.view);
    return Snapshot::assemble(std::move(parts));
  }

  [[nodiscard]] Result<std::shared_ptr<const Snapshot>> load_layer(const OpenFile& file, std::size_t layers) {
    WARMFORK_TRY_ASSIGN(const auto base, find_base(file.header().base, layers));
    WARMFORK_TRY(check_processor(file.metadata().features, offered_));
    WARMFORK_TRY_ASSIGN(SnapshotParts parts, begin(file, base->layout()));
    parts.program = base->program();
    parts.cpu_model = base->cpu_model();
    parts.image = base->shared_image();
    parts.code = base->code_region();
    parts.base = base;
    WARMFORK_TRY_ASSIGN(parts.view, layer_view(*base));
    const std::span<std::byte> view = parts.view.bytes();
    WARMFORK_TRY(
        read_window(file, *base->layout(), [view](std::uint64_t offset, std::span<const std::byte> bytes) -> Status {
          std::ranges::copy(bytes, view.subspan(offset).begin());
          return {};
        }));
    WARMFORK_TRY(parts.view.make_read_only());
    return Snapshot::assemble(std::move(parts));
  }

  [[nodiscard]] Result<std::shared_ptr<const Snapshot>> find_base(const Checksum& id, std::size_t layers) {
    std::vector<std::string> others;
    if (options_.base != nullptr) {
      WARMFORK_TRY_ASSIGN(const Checksum given, snapshot_id(*options_.base));
      if (given == id) return options_.base;
      others.push_back(to_text(given));
    }
    if (layers >= kMaxLayers) return fail(ErrorKind::kLimit, "more than {} layers", kMaxLayers);
    for (const std::string& path : options_.base_files) {
      WARMFORK_TRY_ASSIGN(const OpenFile candidate, OpenFile::open(path));
      if (candidate.header().id == id) return load(candidate, path, layers + 1);
      others.push_back(to_text(candidate.header().id));
    }
    if (others.empty()) return fail(ErrorKind::kInput, "a layer over snapshot {}, which has to be given", to_text(id));
    return fail(ErrorKind::kInput, "a layer over snapshot {}; given is {}", to_text(id), fmt::join(others, ", "));
  }

  const x86::CpuModel& cpu_;
  const x86::UserFeatures& offered_;
  const LoadOptions& options_;
};

}  // namespace

Result<Checksum> snapshot_id(const Snapshot& snapshot) {
  if (snapshot.file_id()) return *snapshot.file_id();
  WARMFORK_TRY_ASSIGN(const Contents contents, contents_of(snapshot));
  return contents.header.id;
}

Status save_snapshot(const Snapshot& snapshot, const std::string& path) {
  WARMFORK_TRY_ASSIGN(const Contents contents, contents_of(snapshot));
  return replace_file(path, [&](int fd) -> Status {
    WARMFORK_TRY(write_all(fd, std::as_bytes(std::span(&contents.header, 1)), path));
    WARMFORK_TRY(write_all(fd, contents.metadata, path));
    WARMFORK_TRY(write_all(fd, contents.index, path));
    WARMFORK_TRY(write_all(fd, contents.image, path));
    for (const auto& run : contents.window) WARMFORK_TRY(write_all(fd, run, path));
    return {};
  });
}

Result<std::shared_ptr<const Snapshot>> load_snapshot(const x86::CpuModel& cpu, const x86::UserFeatures& offered,
                                                      const std::string& path, const LoadOptions& options) {
  return Loader(cpu, offered, options).load(path, 0);
}

Result<std::shared_ptr<const Snapshot>> load_snapshot(const kvm::Kvm& kvm, const std::string& path,
                                                      const LoadOptions& options) {
  const x86::CpuModel cpu = x86::make_cpu_model(kvm.supported_cpuid());
  WARMFORK_TRY_ASSIGN(auto loaded, load_snapshot(cpu, x86::user_features(cpu) | x86::native_features(), path, options));
  if (options.base == nullptr) WARMFORK_TRY(check_xrstor(kvm, cpu));  // as for every snapshot that is taken
  return loaded;
}

Result<SnapshotInfo> inspect_snapshot(const std::string& path) {
  WARMFORK_TRY_ASSIGN(const OpenFile file, OpenFile::open(path));
  for (const Section section : {kImage, kWindow}) {
    if (auto verified = file.verify(section); !verified) return with_context(std::move(verified).error(), path);
  }
  const Header& header = file.header();
  const Metadata& metadata = file.metadata();
  SnapshotInfo info;
  info.format_version = header.format_version;
  info.abi_version = header.abi_version;
  info.id = header.id;
  info.base = header.base;
  info.file_bytes = header.file_size;
  info.stored_bytes = header.sections[kWindow].size;
  info.heap_break = metadata.heap_break;
  info.heap_mappings = metadata.heap_mappings.size();
  info.protected_ranges = metadata.overrides.size();
  info.features = names_of(metadata.features);
  if (!metadata.program) return info;
  const GuestProgram& program = *metadata.program->program;
  const auto layout = GuestLayout::plan(program.plan, metadata.program->sizes, 52);
  const Status sound = layout ? check_metadata(metadata, **layout) : Status(Failure(layout.error()));
  if (!sound) return with_context(sound.error(), path);
  info.program = program.name;
  info.image_bytes = (*layout)->image_bytes();
  info.window_bytes = (*layout)->window_bytes();
  info.heap_bytes = (*layout)->heap().size;
  info.code_bytes = (*layout)->code().size;
  info.shared_regions = (*layout)->shared_specs();
  info.segments = program.plan.segments.size();
  info.symbols = program.plan.symbols.size();
  for (const auto& [name, function] : program.vmcalls) info.vmcalls.emplace_back(printable(name), function.value);
  return info;
}

}  // namespace warmfork
