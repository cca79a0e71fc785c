#include "lc3/jit/disk_cache.hpp"

#include "base/entropy.hpp"
#include "base/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

namespace warmfork::lc3::jit {
namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(CodeFileHeader) == 72 && std::has_unique_object_representations_v<CodeFileHeader>);
static_assert(crypto_hash_sha256_BYTES == sizeof(CodeKey));

struct EntryInFile {
  std::uint32_t offset;
  std::uint32_t address;
};

XXH128_hash_t checksum_of(std::span<const std::byte> file) {
  constexpr std::array<std::byte, sizeof(CodeFileHeader::checksum)> kZeros{};
  constexpr std::size_t kAt = offsetof(CodeFileHeader, checksum);
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, Free> state(XXH3_createState());
  if (state == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state.get());
  XXH3_128bits_update(state.get(), file.data(), kAt);
  XXH3_128bits_update(state.get(), kZeros.data(), kZeros.size());
  const auto rest = file.subspan(sizeof(CodeFileHeader));
  XXH3_128bits_update(state.get(), rest.data(), rest.size());
  return XXH3_128bits_digest(state.get());
}

Status check_owner(const struct stat& status) {
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return fail(ErrorKind::kUsage, "belongs to user {}, it has to belong to user {} or 0", status.st_uid, ::geteuid());
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(ErrorKind::kUsage, "writable by others than its owner (mode {:o})", status.st_mode & 07777U);
  }
  return {};
}

/// What DiskCache::write() makes: KEY.code, or before that KEY.code and a number.
enum class FileName : std::uint8_t { kOther, kCode, kTemporary };
FileName name_kind(std::string_view name) {
  constexpr std::string_view kSuffix = ".code", kDigits = "0123456789abcdef";
  constexpr std::size_t kKey = 2 * sizeof(CodeKey), kRandom = 16;
  const auto digits = [&](std::string_view text) { return text.find_first_not_of(kDigits) == std::string_view::npos; };
  if (name.size() < kKey + kSuffix.size() || !digits(name.substr(0, kKey))) return FileName::kOther;
  name.remove_prefix(kKey);
  if (!name.starts_with(kSuffix)) return FileName::kOther;
  name.remove_prefix(kSuffix.size());
  if (name.empty()) return FileName::kCode;
  if (name.size() == 1 + kRandom && name.front() == '.' && digits(name.substr(1))) return FileName::kTemporary;
  return FileName::kOther;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

/// Numbers one after the other: two different lists never give the same bytes, as each says how long it is.
class Hashed {
 public:
  template <class... Values>
  void add(Values... values) {
    (put(values), ...);
  }
  void add_text(std::string_view text) {
    put(std::uint64_t{text.size()});
    bytes_.insert(bytes_.end(), text.begin(), text.end());
  }
  [[nodiscard]] CodeKey hash() const {
    CodeKey key;
    ::crypto_hash_sha256(key.data(), bytes_.data(), bytes_.size());  // cannot fail
    return key;
  }

 private:
  template <class Value>
  void put(Value value) {
    const auto bytes = std::bit_cast<std::array<std::uint8_t, sizeof value>>(value);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  std::vector<std::uint8_t> bytes_;
};

}  // namespace

CodeKey key_of(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words, std::string_view compiler) {
  Hashed hashed;
  hashed.add_text(compiler);
  hashed.add(kCodeFileFormat, unit.lea_sets_cc, std::uint64_t{unit.blocks.size()});
  for (const auto& [first, block] : unit.blocks) {
    hashed.add(first, block.count);
    for (std::uint32_t i = 0; i < block.count; ++i) hashed.add(words[static_cast<std::uint16_t>(first + i)]);
    // What the compiler gets is this: it has the passes' options in it, and which words are left out.
    hashed.add(std::uint64_t{block.ops.size()});
    for (const Op& op : block.ops) hashed.add(op.kind, op.dr, op.a, op.b, op.imm, op.pc, op.index, op.sets_cc);
    const End& end = block.end;
    hashed.add(end.kind, end.a, end.nzp, end.target, end.next, end.pc);
  }
  return hashed.hash();
}

std::string to_text(const CodeKey& key) {
  std::string text;
  for (const std::uint8_t byte : key) text += fmt::format("{:02x}", byte);
  return text;
}

void seal_code_file(std::span<std::byte> file) {
  const XXH128_hash_t hash = checksum_of(file);
  const std::array<std::uint64_t, 2> checksum = {hash.low64, hash.high64};
  std::memcpy(file.data() + offsetof(CodeFileHeader, checksum), checksum.data(), sizeof checksum);
}

Result<std::vector<std::byte>> encode_code(const MachineCode& code, const CodeKey& key) {
  const std::size_t size = sizeof(CodeFileHeader) + code.entries.size() * sizeof(EntryInFile) + code.bytes.size();
  if (size > kMaxCodeFile) {
    return fail(ErrorKind::kLimit, "compiled code of {} bytes, larger than the limit of {}", size, kMaxCodeFile);
  }
  std::vector<std::byte> file(size);
  const CodeFileHeader header{.magic = kCodeFileMagic,
                              .format = kCodeFileFormat,
                              .entries = static_cast<std::uint32_t>(code.entries.size()),
                              .key = key,
                              .code_bytes = static_cast<std::uint32_t>(code.bytes.size()),
                              .out_of_line = code.out_of_line,
                              .checksum = {}};
  std::memcpy(file.data(), &header, sizeof header);
  std::byte* at = file.data() + sizeof header;
  for (const MachineCode::Mark& mark : code.entries) {
    const EntryInFile entry{mark.offset, mark.address};
    std::memcpy(at, &entry, sizeof entry);
    at += sizeof entry;
  }
  if (!code.bytes.empty()) std::memcpy(at, code.bytes.data(), code.bytes.size());
  seal_code_file(file);
  return file;
}

Result<MachineCode> decode_code(std::span<const std::byte> file, const CodeKey& key, const Unit& unit) {
  CodeFileHeader header;
  if (file.size() > kMaxCodeFile) {
    return fail(ErrorKind::kInput, "{} bytes, larger than the limit of {}", file.size(), kMaxCodeFile);
  }
  if (file.size() < sizeof header) {
    return fail(ErrorKind::kInput, "{} bytes, too short for a header of {}", file.size(), sizeof header);
  }
  std::memcpy(&header, file.data(), sizeof header);
  if (header.magic != kCodeFileMagic) return fail(ErrorKind::kInput, "not a file of compiled LC-3 code");
  if (header.format != kCodeFileFormat) {
    return fail(ErrorKind::kInput, "of format {}, this program reads {}", header.format, kCodeFileFormat);
  }
  if (header.key != key) return fail(ErrorKind::kInput, "the code of another unit, {}", to_text(header.key));
  const std::uint64_t size =
      sizeof header + std::uint64_t{header.entries} * sizeof(EntryInFile) + std::uint64_t{header.code_bytes};
  if (size != file.size()) {
    return fail(ErrorKind::kInput, "{} bytes, with {} entries and {} bytes of code it has to be {}", file.size(),
                header.entries, header.code_bytes, size);
  }
  const XXH128_hash_t hash = checksum_of(file);
  if (header.checksum[0] != hash.low64 || header.checksum[1] != hash.high64) {
    return fail(ErrorKind::kInput, "damaged: the checksum is {:016x}{:016x}, it should be {:016x}{:016x}", hash.high64,
                hash.low64, header.checksum[1], header.checksum[0]);
  }
  if (header.out_of_line > header.code_bytes) {
    return fail(ErrorKind::kInput, "blocks end at {} of {} bytes of code", header.out_of_line, header.code_bytes);
  }
  MachineCode code;
  code.out_of_line = header.out_of_line;
  const auto entries = file.subspan(sizeof header, header.entries * sizeof(EntryInFile));
  for (std::size_t i = 0; i < header.entries; ++i) {
    EntryInFile entry;
    std::memcpy(&entry, entries.data() + i * sizeof entry, sizeof entry);
    if (entry.offset >= header.code_bytes) {
      return fail(ErrorKind::kInput, "entry {} at offset {} of {} bytes of code", i, entry.offset, header.code_bytes);
    }
    if (entry.address >= kMemoryWords || !unit.blocks.contains(static_cast<std::uint16_t>(entry.address))) {
      return fail(ErrorKind::kInput, "entry {} for x{:04X}, where no block begins", i, entry.address);
    }
    if (i != 0 && entry.address <= code.entries.back().address) {
      return fail(ErrorKind::kInput, "entry {} for x{:04X} behind x{:04X}", i, entry.address,
                  code.entries.back().address);
    }
    code.entries.push_back({entry.offset, static_cast<std::uint16_t>(entry.address)});
  }
  code.bytes.resize(header.code_bytes);
  const auto bytes = file.subspan(sizeof header + entries.size());
  if (!bytes.empty()) std::memcpy(code.bytes.data(), bytes.data(), bytes.size());
  return code;
}

Result<std::shared_ptr<DiskCache>> DiskCache::open(const std::string& directory, std::string compiler,
                                                   std::uint64_t limit) {
  // Only this directory: a parent that is missing is more likely a mistyped name.
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST && errno != EROFS) {
    const int error = errno;
    return Failure(Error{ErrorKind::kUsage, fmt::format("{}: {}", directory, std::strerror(error)), error});
  }
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    const int error = errno;
    return Failure(Error{ErrorKind::kUsage, fmt::format("{}: {}", directory, std::strerror(error)), error});
  }
  if (auto own = check_owner(status); !own) return with_context(std::move(own).error(), directory);
  return std::shared_ptr<DiskCache>(new DiskCache(directory, std::move(fd), std::move(compiler), limit));
}

Result<std::optional<std::vector<std::byte>>> DiskCache::read(const std::string& name) const {
  const UniqueFd file(::openat(fd_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file && errno == ELOOP) return fail(ErrorKind::kInput, "a link, which is not followed");
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0) {
    return Failure(Error{ErrorKind::kInput, std::strerror(errno), errno});
  }
  if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kInput, "not a regular file");
  WARMFORK_TRY(check_owner(status));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > kMaxCodeFile) return fail(ErrorKind::kInput, "{} bytes, larger than the limit of {}", size, kMaxCodeFile);
  std::vector<std::byte> bytes(size);
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failure(Error{ErrorKind::kInput, std::strerror(errno), errno});
    if (got == 0) return fail(ErrorKind::kInput, "the file became shorter while it was read");
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

Status DiskCache::write(const std::string& name, std::span<const std::byte> bytes) const {
  std::uint64_t random = 0;
  draw_entropy(std::as_writable_bytes(std::span(&random, 1)));
  const std::string temporary = fmt::format("{}.{:016x}", name, random);
  const UniqueFd file(
      ::openat(fd_.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("a new file beside it");
  const auto fill = [&]() -> Status {
    WARMFORK_TRY(write_all(file.get(), bytes, temporary));
    // Not synced: what a crash of the host damages is refused by its checksum, and made again.
    if (::renameat(fd_.get(), temporary.c_str(), fd_.get(), name.c_str()) != 0) return fail_errno("naming it");
    return {};
  };
  auto filled = fill();
  if (!filled) ::unlinkat(fd_.get(), temporary.c_str(), 0);
  return filled;
}

Result<std::uint64_t> DiskCache::trim(std::uint64_t limit, std::uint64_t target, std::uint64_t& removed) const {
  // A descriptor of its own: reading a directory moves its offset. The DIR closes it.
  const int fd = ::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno("opening the directory");
  const std::unique_ptr<DIR, CloseDirectory> directory(::fdopendir(fd));
  if (directory == nullptr) {
    auto failed = fail_errno("reading the directory");
    ::close(fd);
    return failed;
  }
  struct Entry {
    std::string name;
    timespec used;
    std::uint64_t bytes;
  };
  constexpr time_t kAbandoned = 3600;  // seconds; nobody takes that long from a file's creation to its name
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  const time_t now = ::time(nullptr);
  const auto remove = [&](const Entry& entry) {
    // Another process may have been faster, or have written the file anew: then it is missed once more, and that is
    // all.
    if (::unlinkat(fd_.get(), entry.name.c_str(), 0) != 0 && errno != ENOENT) return;
    total -= entry.bytes;
    ++removed;
  };
  while (const dirent* found = ::readdir(directory.get())) {
    const FileName kind = name_kind(found->d_name);
    struct stat status{};
    if (kind == FileName::kOther || ::fstatat(fd_.get(), found->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISREG(status.st_mode)) continue;
    const Entry entry{found->d_name, status.st_mtim, static_cast<std::uint64_t>(status.st_size)};
    total += entry.bytes;
    if (kind == FileName::kCode) {
      entries.push_back(entry);
    } else if (now - entry.used.tv_sec > kAbandoned) {
      remove(entry);  // by a process that ended before it could
    }
  }
  if (total <= limit) return total;
  std::ranges::sort(entries, [](const Entry& one, const Entry& other) {
    return std::pair(one.used.tv_sec, one.used.tv_nsec) < std::pair(other.used.tv_sec, other.used.tv_nsec);
  });
  for (const Entry& entry : entries) {
    if (total <= target) break;
    remove(entry);
  }
  return total;
}

void DiskCache::make_room(std::uint64_t bytes) {
  const std::lock_guard trimming(trimming_);
  // What other processes write meanwhile is seen when this one looks the next time; they look themselves.
  if (used_ && (*used_ += bytes) <= limit_) return;
  std::uint64_t removed = 0;
  const auto left = trim(limit_, limit_ - limit_ / 8, removed);
  if (!left) return complain("", left.error(), &DiskCounters::failures);
  used_ = *left;
  const std::lock_guard lock(mutex_);
  counters_.trimmed += removed;
}

void DiskCache::complain(const std::string& name, const Error& error, std::uint64_t DiskCounters::* counter) {
  const std::lock_guard lock(mutex_);
  ++(counters_.*counter);
  if (complaint_.empty()) complaint_ = fmt::format("{}/{}: {}", directory_, name, error.message);
}

std::optional<MachineCode> DiskCache::find(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words) {
  const CodeKey key = key_of(unit, words, compiler_);
  const std::string name = to_text(key) + ".code";
  const auto file = read(name);
  if (file && !*file) {
    const std::lock_guard lock(mutex_);
    ++counters_.misses;
    return std::nullopt;
  }
  auto code = file ? decode_code(**file, key, unit) : Result<MachineCode>(Failure(file.error()));
  if (!code) {
    complain(name, code.error(), &DiskCounters::refused);
    return std::nullopt;
  }
  // Its time is that of its last use: what is removed first is what was not used for longest. It is only a better
  // guess.
  static_cast<void>(::utimensat(fd_.get(), name.c_str(), nullptr, AT_SYMLINK_NOFOLLOW));
  const std::lock_guard lock(mutex_);
  ++counters_.hits;
  return *std::move(code);
}

void DiskCache::keep(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words, const MachineCode& code) {
  const CodeKey key = key_of(unit, words, compiler_);
  const std::string name = to_text(key) + ".code";
  std::uint64_t bytes = 0;
  const auto put = [&]() -> Status {
    WARMFORK_TRY_ASSIGN(const auto file, encode_code(code, key));
    bytes = file.size();
    return write(name, file);
  };
  if (const auto written = put(); !written) return complain(name, written.error(), &DiskCounters::failures);
  {
    const std::lock_guard lock(mutex_);
    ++counters_.written;
  }
  make_room(bytes);
}

DiskCounters DiskCache::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::string DiskCache::complaint() const {
  const std::lock_guard lock(mutex_);
  return complaint_;
}

}  // namespace warmfork::lc3::jit
