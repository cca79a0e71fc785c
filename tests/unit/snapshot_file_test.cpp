// Snapshot files without a KVM: what is written is read again, and nothing else is believed.
#include "fork/snapshot_file.hpp"

#include "base/file.hpp"
#include "fork/snapshot_format.hpp"
#include "tiny_snapshot.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <thread>

namespace warmfork {
namespace {

using namespace snapshot_format;
using ::testing::AnyOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class SnapshotFileTest : public ::testing::Test {
 protected:
  SnapshotFileTest() {
    std::string pattern = ::testing::TempDir() + "/warmfork-snapshot-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    directory_ = pattern;
  }
  ~SnapshotFileTest() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::string save(const Snapshot& snapshot, const std::string& name) const {
    const Status saved = save_snapshot(snapshot, path(name));
    EXPECT_TRUE(saved) << saved.error().message;
    return path(name);
  }
  [[nodiscard]] std::vector<std::byte> bytes(const std::string& file) const {
    auto read = read_file(file, std::size_t{1} << 30);
    EXPECT_TRUE(read) << read.error().message;
    return read ? std::move(*read) : std::vector<std::byte>{};
  }
  std::string write(std::span<const std::byte> content, const std::string& name = "changed") const {
    EXPECT_TRUE(write_file(path(name), content.data(), content.size()));
    return path(name);
  }
  [[nodiscard]] Result<std::shared_ptr<const Snapshot>> load(const std::string& file,
                                                             const LoadOptions& options = {}) const {
    return load_on(cpu_, file, options);
  }
  [[nodiscard]] static Result<std::shared_ptr<const Snapshot>> load_on(const x86::CpuModel& cpu,
                                                                       const std::string& file,
                                                                       const LoadOptions& options = {}) {
    return load_snapshot(cpu, x86::user_features(cpu), file, options);
  }
  void expect_refused(const std::string& file, const std::string& why, ErrorKind kind = ErrorKind::kInput,
                      const LoadOptions& options = {}) const {
    const auto loaded = load(file, options);
    ASSERT_FALSE(loaded) << why;
    EXPECT_EQ(loaded.error().kind, kind) << loaded.error().message;
    EXPECT_THAT(loaded.error().message, HasSubstr(why));
    EXPECT_THAT(loaded.error().message, ::testing::StartsWith(file + ": "));
    EXPECT_EQ(loaded.error().message.find('\n'), std::string::npos);
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory_), fs::directory_iterator()));
  }

  x86::CpuModel cpu_ = test::every_processor();
  std::shared_ptr<const Snapshot> snapshot_ = test::tiny_snapshot(cpu_);

 private:
  std::string directory_;
};

void expect_same(const Snapshot& a, const Snapshot& b) {
  ASSERT_EQ(a.window().size(), b.window().size());
  EXPECT_EQ(std::memcmp(a.window().data(), b.window().data(), a.window().size()), 0);
  ASSERT_EQ(a.image().size(), b.image().size());
  EXPECT_EQ(std::memcmp(a.image().data(), b.image().data(), a.image().size()), 0);
  EXPECT_EQ(a.program()->name, b.program()->name);
  EXPECT_EQ(a.program()->vmcalls, b.program()->vmcalls);
  EXPECT_EQ(a.program()->plan.symbolize(0x400018), b.program()->plan.symbolize(0x400018));
  EXPECT_EQ(a.book().heap.mappings(), b.book().heap.mappings());
  EXPECT_EQ(a.book().heap.break_end(), b.book().heap.break_end());
  EXPECT_EQ(a.book().heap.used(), b.book().heap.used());
  EXPECT_EQ(a.book().fs_base, b.book().fs_base);
  EXPECT_EQ(a.book().gs_base, b.book().gs_base);
  EXPECT_EQ(a.book().random_bytes, b.book().random_bytes);
  EXPECT_EQ(a.call_stack(), b.call_stack());
  EXPECT_TRUE(std::ranges::equal(a.overrides(), b.overrides()));
  EXPECT_EQ(a.nonzero().count(), b.nonzero().count());
  EXPECT_EQ(a.delta().count(), b.delta().count());
  EXPECT_EQ(a.stored_bytes(), b.stored_bytes());
}

TEST_F(SnapshotFileTest, WhatIsSavedIsLoadedAndSavedAgainAsTheSameBytes) {
  const std::string file = save(*snapshot_, "a");
  for (const bool verify : {true, false}) {
    const auto loaded = load(file, {.base = nullptr, .base_files = {}, .verify = verify});
    ASSERT_TRUE(loaded) << loaded.error().message;
    expect_same(**loaded, *snapshot_);
    EXPECT_EQ(test::broken_promise(**loaded), nullptr);
    EXPECT_EQ(bytes(save(**loaded, "b")), bytes(file));
    EXPECT_EQ(*snapshot_id(**loaded), *snapshot_id(*snapshot_));
  }
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(SnapshotFileTest, LayersNeedTheirBases) {
  const auto layer = test::tiny_layer(snapshot_);
  const auto second = test::tiny_layer(layer, 0x11);
  const std::string base_file = save(*snapshot_, "base");
  const std::string layer_file = save(*layer, "layer");
  const std::string second_file = save(*second, "second");
  EXPECT_LT(fs::file_size(layer_file), fs::file_size(base_file));
  for (const LoadOptions& options :
       {LoadOptions{.base = layer, .base_files = {}}, LoadOptions{.base = snapshot_, .base_files = {layer_file}},
        LoadOptions{.base = nullptr, .base_files = {base_file, layer_file}}}) {
    const auto loaded = load(second_file, options);
    ASSERT_TRUE(loaded) << loaded.error().message;
    expect_same(**loaded, *second);
    expect_same(*(*loaded)->base(), *layer);
    EXPECT_EQ(bytes(save(**loaded, "again")), bytes(second_file));
  }
  const auto loaded = load(layer_file, {.base = snapshot_, .base_files = {}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  expect_same(**loaded, *layer);
  expect_refused(layer_file, "which has to be given");
  expect_refused(second_file, "a layer over snapshot " + to_text(*snapshot_id(*layer)), ErrorKind::kInput,
                 {.base = snapshot_, .base_files = {}});
  expect_refused(layer_file, "given is " + to_text(*snapshot_id(*second)), ErrorKind::kInput,
                 {.base = nullptr, .base_files = {second_file}});
  expect_refused(base_file, "not a layer", ErrorKind::kUsage, {.base = snapshot_, .base_files = {}});
  EXPECT_FALSE(load(layer_file, {.base = nullptr, .base_files = {path("missing")}}));
}

TEST_F(SnapshotFileTest, EveryFlippedBitIsFound) {
  const std::vector<std::byte> good = bytes(save(*snapshot_, "a"));
  Header header;
  std::memcpy(&header, good.data(), sizeof header);
  const std::size_t tables = header.sections[kImage].offset;
  const std::string file = path("changed");
  const UniqueFd fd(::open(write(good).c_str(), O_RDWR | O_CLOEXEC));
  const auto flip = [&](std::size_t at, unsigned bit) {
    const std::byte changed = good[at] ^ std::byte{1} << bit;
    ASSERT_EQ(::pwrite(fd.get(), &changed, 1, static_cast<off_t>(at)), 1);
    const auto loaded = load(file);
    EXPECT_FALSE(loaded) << "byte " << at << " bit " << bit;
    if (!loaded) EXPECT_THAT(loaded.error().kind, AnyOf(ErrorKind::kInput, ErrorKind::kUnsupported));
    ASSERT_EQ(::pwrite(fd.get(), &good[at], 1, static_cast<off_t>(at)), 1);
  };
  const std::size_t used = 512;  // of each table; zeros follow
  for (std::size_t at = 0; at < good.size(); ++at) {
    const bool every = at < tables && at % kPage < used;
    if (every) {
      for (unsigned bit = 0; bit < 8; ++bit) flip(at, bit);
    } else if (at % 7 == 0) {
      flip(at, static_cast<unsigned>(at / 7 % 8));
    }
    if (HasFatalFailure()) return;
  }
  EXPECT_TRUE(load(file)) << "all is as it was";
}

// The same by someone who makes the checksums right: what is accepted then is a snapshot like any other.
TEST_F(SnapshotFileTest, NoForgedTableGivesMoreThanAProgramFileCould) {
  for (const bool layer : {false, true}) {
    const auto saved = layer ? test::tiny_layer(snapshot_) : snapshot_;
    const std::vector<std::byte> good = bytes(save(*saved, "a"));
    const UniqueFd fd(::open(write(good).c_str(), O_RDWR | O_CLOEXEC));
    const LoadOptions options{.base = layer ? snapshot_ : nullptr, .base_files = {}, .memory_limit = 64 << 20};
    std::size_t accepted = 0;
    std::size_t refused = 0;
    for (std::size_t at = 0; at < 2 * kPage + 512; ++at) {
      if (at % kPage >= 512) continue;
      for (const unsigned change : {0x01U, 0x02U, 0x08U, 0x10U, 0x80U, 0xffU}) {
        std::vector<std::byte> forged = good;
        forged[at] ^= static_cast<std::byte>(change);
        ASSERT_TRUE(test::reseal(forged));
        ASSERT_EQ(::pwrite(fd.get(), forged.data(), forged.size(), 0), static_cast<ssize_t>(forged.size()));
        const auto loaded = load(path("changed"), options);
        ++(loaded ? accepted : refused);
        if (!loaded) continue;
        const char* const broken = test::broken_promise(**loaded);
        ASSERT_EQ(broken, nullptr) << broken << ": byte " << at << " ^ " << change;
        ASSERT_TRUE(test::is_canonical(forged)) << "byte " << at << " ^ " << change;
      }
    }
    EXPECT_GT(refused, 1000U);
    EXPECT_GT(accepted, 10U);
  }
}

TEST_F(SnapshotFileTest, TruncatedAndGrownFilesAreRefused) {
  const std::vector<std::byte> good = bytes(save(*snapshot_, "a"));
  Header header;
  std::memcpy(&header, good.data(), sizeof header);
  std::vector<std::size_t> sizes{0, 1, 15, 16, 17, 4095};
  for (const SectionEntry& section : header.sections) {
    for (const std::uint64_t at : {section.offset, section.offset + section.size}) {
      for (const std::uint64_t size : {at - 1, at, at + 1}) sizes.push_back(size);
    }
  }
  for (std::size_t size = 0; size < good.size(); size += 911) sizes.push_back(size);
  const std::string file = write(good);
  for (const std::size_t size : sizes) {
    if (size == good.size()) continue;
    write(good);
    fs::resize_file(file, size);
    EXPECT_FALSE(load(file)) << size;
    EXPECT_FALSE(inspect_snapshot(file)) << size;
  }
  write(good);
  EXPECT_TRUE(load(file));
  fs::resize_file(file, good.size() - kPage);
  expect_refused(file, "the file is cut off");
}

TEST_F(SnapshotFileTest, ForeignFilesAndOtherVersionsAreRefusedByName) {
  const std::vector<std::byte> good = bytes(save(*snapshot_, "a"));
  const auto with = [&](const std::function<void(Header&)>& change) {
    std::vector<std::byte> changed = good;
    Header header;
    std::memcpy(&header, changed.data(), sizeof header);
    change(header);
    header.id = id_of(header);
    std::memcpy(changed.data(), &header, sizeof header);
    return write(changed);
  };
  expect_refused(with([](Header& header) { header.magic[0] = 'W'; }), "not a snapshot file");
  expect_refused(with([](Header& header) { header.format_version = 2; }), "snapshot format version 2, known is 3",
                 ErrorKind::kUnsupported);
  expect_refused(with([](Header& header) { header.abi_version = 7; }), "ABI version 7, this is 1",
                 ErrorKind::kUnsupported);
  expect_refused(with([](Header& header) { header.header_size = 8192; }), "a header of 8192 bytes");
  expect_refused(with([](Header& header) { header.section_count = 5; }), "5 sections");
  expect_refused(with([](Header& header) { header.zero[9] = std::byte{1}; }), "with more in it");
  expect_refused(with([](Header& header) { header.sections[kImage].offset += kPage; }), "section image");
  expect_refused(with([](Header& header) { header.sections[kWindow].size = ~std::uint64_t{0} << 12; }),
                 "section window");
  expect_refused(with([](Header& header) { header.sections[kWindow].checksum.low ^= 1; }),
                 "the checksum of section window");
  expect_refused(write({}), "not a snapshot file");
  expect_refused("/dev/null", "not a regular file");
  expect_refused(path("missing"), "No such file");
  expect_refused(fs::temp_directory_path().string(), "not a regular file");
}

TEST_F(SnapshotFileTest, AProcessorThatLacksFeaturesIsRefusedWithTheirNames) {
  const std::string file = save(*snapshot_, "a");
  x86::CpuModel less = cpu_;
  less.cpuid[1].ebx &= ~(1U << 5);  // AVX2
  less.xcr0 = 7;
  const auto refused = load_on(less, file);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("a processor with avx2, xcr0.5, xcr0.6, xcr0.7"));
  // The other way round is fine, and the file stays what it was.
  const auto plain = test::tiny_snapshot(test::every_processor(false));
  const std::string plain_file = save(*plain, "plain");
  const auto loaded = load(plain_file);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ((*loaded)->cpu_model().xcr0, cpu_.xcr0);
  EXPECT_EQ(bytes(save(**loaded, "again")), bytes(plain_file));
  // A layer over it may have used what it was offered here.
  const auto layer = test::tiny_layer(*loaded);
  const std::string layer_file = save(*layer, "layer");
  const auto elsewhere =
      load_on(test::every_processor(false), layer_file, {.base = nullptr, .base_files = {plain_file}});
  ASSERT_FALSE(elsewhere);
  EXPECT_EQ(elsewhere.error().kind, ErrorKind::kUnsupported);
  x86::CpuModel narrow = cpu_;
  narrow.physical_bits = 32;
  EXPECT_EQ(load_on(narrow, file).error().kind, ErrorKind::kLimit);
  expect_refused(file, "the memory limit is 65536", ErrorKind::kLimit,
                 {.base = nullptr, .base_files = {}, .memory_limit = 65536});
}

// --- Each rule of the metadata ---------------------------------------------------------------------------------------

class MetadataTest : public SnapshotFileTest {
 protected:
  /// The file with other metadata, its checksums right.
  std::string with(const std::function<void(Metadata&, GuestProgram&)>& change) {
    const std::vector<std::byte> good = bytes(save(*snapshot_, "a"));
    Header header;
    std::memcpy(&header, good.data(), sizeof header);
    const auto section = [&](Section which) {
      return std::span(good).subspan(header.sections[which].offset, header.sections[which].size);
    };
    auto metadata = decode_metadata(section(kMetadata), false);
    EXPECT_TRUE(metadata) << metadata.error().message;
    const auto program = std::make_shared<GuestProgram>(*metadata->program->program);
    change(*metadata, *program);
    metadata->program->program = program;
    const auto encoded = encode_metadata(*metadata);
    std::array<SectionSummary, kSections> sections{};
    for (std::size_t i = 0; i < kSections; ++i) {
      const auto content = i == kMetadata ? std::span<const std::byte>(encoded) : section(static_cast<Section>(i));
      sections[i] = {content.size(), checksum_of(content)};
    }
    const Header changed_header = make_header(sections, {});
    const auto raw = std::as_bytes(std::span(&changed_header, 1));
    std::vector<std::byte> changed(raw.begin(), raw.end());
    changed.insert(changed.end(), encoded.begin(), encoded.end());
    const auto rest = std::span(good).subspan(header.sections[kIndex].offset);
    changed.insert(changed.end(), rest.begin(), rest.end());
    return write(changed);
  }
};

TEST_F(MetadataTest, EachIsCheckedByName) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  using M = Metadata;
  using P = GuestProgram;
  const std::uint64_t heap = snapshot_->layout()->heap().begin.value;
  const std::uint64_t ring = snapshot_->layout()->call_ring().begin.value;
  const std::uint64_t exception_stack = snapshot_->layout()->exception_stack().begin.value;
  EXPECT_TRUE(load(with([](M&, P&) {})));
  const auto refused = [&](const char* why, const std::function<void(M&, P&)>& change,
                           ErrorKind kind = ErrorKind::kInput) { expect_refused(with(change), why, kind); };
  refused("segment 0: 0x100000", [](M&, P& p) { p.plan.segments[0].address = Gva{0x100000}; });
  refused("segment 1: 0x401000", [](M&, P& p) { p.plan.segments[1].address = Gva{0x401000}; });
  refused("outside", [](M&, P& p) { p.plan.segments[2].memory_size = kMost; });
  refused("outside", [](M&, P& p) { p.plan.segments[2].memory_size = 0; });
  refused("access 0x3", [](M&, P& p) { p.plan.segments[2].execute = true; });
  refused("an image of", [](M&, P& p) { p.plan.segments[2].write = false; });
  refused("0 segments", [](M&, P& p) { p.plan.segments.clear(); });
  refused("entry point", [](M&, P& p) { p.plan.entry = Gva{0x404000}; });
  refused("vmcall 1: 0x404000", [](M&, P& p) { p.vmcalls[1].second = Gva{0x404000}; });
  refused("vmcall 0: a name of 64", [](M&, P& p) { p.vmcalls[0].first = std::string(64, 'x'); });
  refused("1025 vmcalls", [](M&, P& p) { p.vmcalls.resize(1025, p.vmcalls[0]); });
  refused("symbol 1", [](M&, P& p) { p.plan.symbols[1].address = 1; });
  refused("symbol 0", [](M&, P& p) { p.plan.symbols[0].name = std::string(513, 'x'); });
  refused("heap, stack or call area", [](M& m, P&) { m.program->sizes.heap = kMost; });
  refused("heap, stack or call area", [](M& m, P&) { m.program->sizes.stack += 1; });
  refused("0x1 bytes of code region", [](M& m, P&) { m.program->sizes.code = 1; });
  refused("0x1000 bytes of code region", [](M& m, P&) { m.program->sizes.code = kPage; });
  refused("code region: no multiple of 0x200000", [](M& m, P&) { m.program->sizes.code = kMost; });
  refused("code region: no multiple of 0x200000, or past 0x800000000000",
          [](M& m, P&) { m.program->sizes.code = x86::kMaxVirtual + x86::kLargePageSize; });
  refused(
      "a code region of 2147483648 bytes, behind the program's image there is room for",
      [](M& m, P&) { m.program->sizes.code = std::uint64_t{1} << 31; }, ErrorKind::kLimit);
  refused("memory limit", [](M& m, P&) { m.program->sizes.code = std::uint64_t{1} << 40; }, ErrorKind::kLimit);
  refused("memory limit", [](M& m, P&) { m.program->sizes.heap = std::uint64_t{1} << 46; }, ErrorKind::kLimit);
  const auto shared = [&](const char* why, std::vector<SharedRegionSpec> regions) {
    refused(why, [&](M& m, P&) { m.program->sizes.shared = regions; });
  };
  shared("shared region r: 0 bytes are not whole pages", {{.name = "r", .bytes = 0}});
  shared("shared region r: 4097 bytes are not whole pages", {{.name = "r", .bytes = kPage + 1}});
  shared("shared region r: 1073745920 bytes, at most", {{.name = "r", .bytes = kMaxSharedBytes + kPage}});
  shared("shared region 1: there is another one named r",
         {{.name = "r", .bytes = kPage}, {.name = "r", .bytes = kPage}});
  shared("shared region 0: a name is", {{.name = "r\n", .bytes = kPage}});
  shared("shared region 0: a name is", {{.name = std::string(64, 'x'), .bytes = kPage}});
  shared("65 shared regions, allowed are 64", std::vector<SharedRegionSpec>(65, {.name = "r", .bytes = kPage}));
  refused("another version", [](M& m, P&) { m.program->system_pages.low ^= 1; }, ErrorKind::kUnsupported);
  refused("a heap with its break", [&](M& m, P&) { m.heap_break = heap - 1; });
  refused("a heap with its break", [&](M& m, P&) { m.heap_break = heap + 17 * kPage; });
  refused("a heap with its break", [&](M& m, P&) { m.heap_mappings[heap] = heap + kPage; });
  refused("a heap with its break", [&](M& m, P&) { m.heap_mappings.rbegin()->second += kPage; });
  refused("a heap with its break", [&](M& m, P&) { m.heap_mappings.begin()->second = kMost; });
  refused("FS or GS base", [](M& m, P&) { m.fs_base = std::uint64_t{1} << 47; });
  refused("FS or GS base", [](M& m, P&) { m.gs_base = kMost; });
  refused("random bytes", [&](M& m, P&) { m.random_bytes = Gva{heap}; });
  refused("random bytes", [&](M& m, P&) { m.random_bytes = Gva{snapshot_->layout()->stack().end().value - 8}; });
  refused("rsp", [](M& m, P&) { m.call_stack += 8; });
  refused("rsp", [](M& m, P&) { m.call_stack = kMost & ~std::uint64_t{15}; });
  refused("MXCSR", [](M& m, P&) { m.pristine.mxcsr |= 1U << 16; });
  refused("x87 control word", [](M& m, P&) { m.pristine.x87_in_use = false; });
  refused("nothing a program may protect", [&](M& m, P&) { m.overrides = {{{Gva{ring}, kPage}, std::nullopt}}; });
  refused("nothing a program may protect",
          [&](M& m, P&) { m.overrides = {{{Gva{exception_stack}, kPage}, std::nullopt}}; });
  refused("nothing a program may protect",
          [](M& m, P&) { m.overrides = {{{Gva{WARMFORK_FORK_PAGE}, kPage}, std::nullopt}}; });
  refused("nothing a program may protect", [](M& m, P&) { m.overrides = {{{Gva{0x400000}, kPage}, std::nullopt}}; });
  refused("nothing a program may protect", [&](M& m, P&) { m.overrides[1].range.size = 64 * kPage; });
  refused("protected range 1", [](M& m, P&) { std::swap(m.overrides[0], m.overrides[1]); });
  refused("protected range 1", [](M& m, P&) { m.overrides[1].range.begin = m.overrides[0].range.begin; });
  refused("protected range 0", [](M& m, P&) { m.overrides[0].range.size = 0; });
  refused("protected range 0", [](M& m, P&) { m.overrides[0].range.size = kMost & ~(kPage - 1); });
}

TEST_F(MetadataTest, NamesArePrintable) {
  const auto loaded = load(with([](Metadata&, GuestProgram& p) {
    p.name = "\x1b[2Jtiny";
    p.vmcalls[0].first = "c\x1bunt";
  }));
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ((*loaded)->program()->name, "?[2Jtiny");
  const auto info = inspect_snapshot(path("changed"));
  ASSERT_TRUE(info);
  EXPECT_EQ(info->vmcalls[0].first, "c?unt");
}

TEST(SnapshotIndex, EachRunIsChecked) {
  const auto pages = [](std::uint64_t count) { return count * kPage; };
  const auto decode = [](const std::vector<PageRun>& runs, std::uint64_t bytes) {
    return decode_index(encode_index(runs), bytes).has_value();
  };
  EXPECT_TRUE(decode({}, 0));
  EXPECT_TRUE(decode({{1, 2}, {4, 1}}, pages(3)));
  EXPECT_FALSE(decode({{1, 2}, {4, 1}}, pages(4)));
  EXPECT_FALSE(decode({{1, 2}, {4, 1}}, pages(2)));
  EXPECT_FALSE(decode({{1, 2}, {3, 1}}, pages(3))) << "touching";
  EXPECT_FALSE(decode({{4, 1}, {1, 2}}, pages(3))) << "not ascending";
  EXPECT_FALSE(decode({{1, 0}}, 0));
  EXPECT_FALSE(decode({{1, ~std::uint64_t{0}}}, pages(1)));
  EXPECT_FALSE(decode({{~std::uint64_t{0}, 1}}, pages(1)));
  auto bytes = encode_index(std::vector<PageRun>{{1, 1}});
  bytes[7] = std::byte{255};
  EXPECT_FALSE(decode_index(bytes, pages(1))) << "a count that cannot be";
  const auto snapshot = test::tiny_snapshot();
  EXPECT_TRUE(check_index(std::vector<PageRun>{{1, 3}}, *snapshot->layout()));
  EXPECT_FALSE(check_index(std::vector<PageRun>{{0, 3}}, *snapshot->layout())) << "the fork page";
  EXPECT_FALSE(check_index(std::vector<PageRun>{{snapshot->layout()->window_bytes() / kPage, 1}}, *snapshot->layout()));
}

// --- Writing ---------------------------------------------------------------------------------------------------------

TEST_F(SnapshotFileTest, NothingButARegularFileIsReplaced) {
  for (const char* device : {"/dev/full", "/dev/null", "/dev/stdout"}) {
    const auto refused = save_snapshot(*snapshot_, device);
    if (std::string(device) == "/dev/stdout" && fs::is_regular_file(device)) continue;
    ASSERT_FALSE(refused) << device;
    EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
    EXPECT_TRUE(fs::exists(device) && !fs::is_regular_file(device)) << device;
  }
  EXPECT_EQ(save_snapshot(*snapshot_, path("")).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(save_snapshot(*snapshot_, path("no/such/folder")).error().kind, ErrorKind::kHost);
  fs::create_symlink(path("nothing"), path("dangling"));
  EXPECT_FALSE(save_snapshot(*snapshot_, path("dangling")));
  write({}, "old");
  fs::create_symlink("old", path("link"));
  save(*snapshot_, "link");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_TRUE(load(path("old"))) << "a link is followed";
}

TEST_F(SnapshotFileTest, AFullDiskLeavesTheOldFileAndNothingElse) {
  const std::string file = save(*snapshot_, "a");
  const std::vector<std::byte> before = bytes(file);
  const auto layer = test::tiny_layer(snapshot_);
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {0U, 1000U, 4096U, 10000U}) {
    const rlimit small{limit, old.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const auto failed = save_snapshot(*layer, file);
    const auto also = save_snapshot(*layer, path("new"));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kHost);
    EXPECT_THAT(failed.error().message, HasSubstr(file));
    EXPECT_FALSE(also);
    EXPECT_EQ(bytes(file), before);
    EXPECT_EQ(files(), 1U);
  }
  std::signal(SIGXFSZ, ignored);
}

TEST_F(SnapshotFileTest, SavingToOnePathAtOnceLeavesOneWholeFile) {
  const auto other = test::tiny_snapshot(test::every_processor(false));
  const std::string file = path("a");
  save(*snapshot_, "a");
  std::vector<std::thread> writers;
  for (const auto& snapshot : {snapshot_, other}) {
    writers.emplace_back([&file, snapshot] {
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(save_snapshot(*snapshot, file));
    });
  }
  for (int i = 0; i < 200; ++i) {
    const auto loaded = load(file);
    EXPECT_TRUE(loaded) << loaded.error().message;
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_TRUE(load(file));
  EXPECT_EQ(files(), 1U);
}

// A file says how large the code region is; what the host has written there stays the process's.
TEST_F(SnapshotFileTest, OfACodeRegionTheFileHasTheSize) {
  const auto saved = test::tiny_snapshot(cpu_, test::kTinySizesWithCode);
  std::ranges::fill(saved->code_region().bytes, std::byte{0xcc});
  const std::string file = save(*saved, "a");
  EXPECT_EQ(fs::file_size(file), fs::file_size(save(*snapshot_, "without")));
  const std::vector<std::byte> once = bytes(file);
  saved->code_region().bytes[0] = std::byte{0x90};
  EXPECT_EQ(bytes(save(*saved, "again")), once) << "nor is it part of its id";
  EXPECT_EQ(inspect_snapshot(file)->code_bytes, x86::kLargePageSize);
  EXPECT_EQ(inspect_snapshot(path("without"))->code_bytes, 0U);

  const auto loaded = load(file);
  ASSERT_TRUE(loaded) << loaded.error().message;
  expect_same(*saved, **loaded);
  const CodeRegion& own = (*loaded)->code_region();
  EXPECT_EQ(own.begin, saved->code_region().begin);
  EXPECT_EQ(own.bytes.size(), saved->code_region().bytes.size());
  EXPECT_TRUE(std::ranges::all_of(own.bytes, [](std::byte byte) { return byte == std::byte{0}; }));
  EXPECT_EQ(test::broken_promise(**loaded), nullptr);
  EXPECT_EQ(bytes(save(**loaded, "again")), once);

  const std::string layer = save(*test::tiny_layer(saved), "layer");
  const auto over = load(layer, {.base = *loaded, .base_files = {}});
  ASSERT_TRUE(over) << over.error().message;
  EXPECT_EQ((*over)->code_region().bytes.data(), own.bytes.data());
  const auto alone = load(layer, {.base = nullptr, .base_files = {file}});
  ASSERT_TRUE(alone) << alone.error().message;
  EXPECT_EQ((*alone)->code_region().begin, own.begin);
  EXPECT_NE((*alone)->code_region().bytes.data(), own.bytes.data());
}

TEST_F(SnapshotFileTest, OfSharedRegionsTheFileHasWhatTheyAre) {
  LayoutSizes sizes = test::kTinySizes;
  sizes.shared = {{.name = "feed", .bytes = 3 * kPage},
                  {.name = "ring", .bytes = x86::kLargePageSize, .access = SharedAccess::kReadWrite}};
  const auto saved = test::tiny_snapshot(cpu_, sizes);
  const std::string file = save(*saved, "a");
  EXPECT_EQ(fs::file_size(file), fs::file_size(save(*snapshot_, "without")));
  EXPECT_EQ(inspect_snapshot(file)->shared_regions, sizes.shared);
  EXPECT_TRUE(inspect_snapshot(path("without"))->shared_regions.empty());
  const auto loaded = load(file);
  ASSERT_TRUE(loaded) << loaded.error().message;
  expect_same(*saved, **loaded);
  EXPECT_EQ((*loaded)->layout()->shared_specs(), sizes.shared);
  EXPECT_EQ(test::broken_promise(**loaded), nullptr);
  EXPECT_EQ(bytes(save(**loaded, "again")), bytes(file));
}

TEST_F(SnapshotFileTest, InspectTellsWhatIsThere) {
  const auto layer = test::tiny_layer(snapshot_);
  const auto info = inspect_snapshot(save(*snapshot_, "a"));
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->id, *snapshot_id(*snapshot_));
  EXPECT_TRUE(info->base.empty());
  EXPECT_EQ(info->program, "tiny");
  EXPECT_EQ(info->stored_bytes, 4 * kPage);
  EXPECT_EQ(info->window_bytes, snapshot_->layout()->window_bytes());
  EXPECT_EQ(info->vmcalls.size(), 2U);
  EXPECT_EQ(info->protected_ranges, 2U);
  EXPECT_THAT(info->features, ::testing::Contains("avx2"));
  const auto layer_info = inspect_snapshot(save(*layer, "b"));
  ASSERT_TRUE(layer_info) << layer_info.error().message;
  EXPECT_EQ(layer_info->base, info->id);
  EXPECT_EQ(layer_info->stored_bytes, 2 * kPage);
}

}  // namespace
}  // namespace warmfork
