#include "feed/pcap.hpp"

#include "base/file.hpp"
#include "base/printable.hpp"
#include "base/unique_fd.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

namespace warmfork::feed {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
// Seconds since 1970 that a capture can mean: what pcap's 32 bits hold, and some more for pcapng's 64.
constexpr std::int64_t kMostSeconds = std::int64_t{1} << 33;

// libpcap brings a dozen libraries for capturing along, and linked to it every start of every verb takes 6 ms longer.
// So it is loaded with the first capture file.
struct Libpcap {
  decltype(&::pcap_close) close = nullptr;
  decltype(&::pcap_datalink) datalink = nullptr;
  decltype(&::pcap_datalink_val_to_name) datalink_val_to_name = nullptr;
  decltype(&::pcap_dump) dump = nullptr;
  decltype(&::pcap_dump_close) dump_close = nullptr;
  decltype(&::pcap_dump_file) dump_file = nullptr;
  decltype(&::pcap_dump_flush) dump_flush = nullptr;
  decltype(&::pcap_dump_fopen) dump_fopen = nullptr;
  decltype(&::pcap_fopen_offline_with_tstamp_precision) fopen_offline = nullptr;
  decltype(&::pcap_geterr) geterr = nullptr;
  decltype(&::pcap_next_ex) next_ex = nullptr;
  decltype(&::pcap_open_dead_with_tstamp_precision) open_dead = nullptr;
};

constexpr const char* kLibrary = "libpcap.so.0.8";

Result<Libpcap> load_library() {
  // Never closed: what it has registered at exit stays.
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return fail(ErrorKind::kHost, "capture files need libpcap (Debian: libpcap0.8): {}", ::dlerror());
  }
  Libpcap pcap;
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    // SAFETY: the library's function of that name has the type that its header says.
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    if (function == nullptr && missing == nullptr) missing = name;
  };
  find(pcap.close, "pcap_close");
  find(pcap.datalink, "pcap_datalink");
  find(pcap.datalink_val_to_name, "pcap_datalink_val_to_name");
  find(pcap.dump, "pcap_dump");
  find(pcap.dump_close, "pcap_dump_close");
  find(pcap.dump_file, "pcap_dump_file");
  find(pcap.dump_flush, "pcap_dump_flush");
  find(pcap.dump_fopen, "pcap_dump_fopen");
  find(pcap.fopen_offline, "pcap_fopen_offline_with_tstamp_precision");
  find(pcap.geterr, "pcap_geterr");
  find(pcap.next_ex, "pcap_next_ex");
  find(pcap.open_dead, "pcap_open_dead_with_tstamp_precision");
  if (missing != nullptr) return fail(ErrorKind::kHost, "{} has no function {}", kLibrary, missing);
  return pcap;
}

const Result<Libpcap>& libpcap() {
  static const Result<Libpcap> library = load_library();
  return library;
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
struct CloseCapture {
  void operator()(pcap_t* capture) const { (*libpcap()).close(capture); }
};

Status check_packet(const pcap_pkthdr& header, const PcapLimits& limits) {
  if (header.ts.tv_sec < 0 || header.ts.tv_sec >= kMostSeconds) {
    return fail(ErrorKind::kInput, "its time is {} seconds; between 0 and {} are valid", std::int64_t{header.ts.tv_sec},
                kMostSeconds - 1);
  }
  // In nanoseconds, as was asked for.
  if (header.ts.tv_usec < 0 || header.ts.tv_usec >= static_cast<std::int64_t>(kNsPerSecond)) {
    return fail(ErrorKind::kInput, "its fraction of a second is {} ns; less than {} are valid",
                std::int64_t{header.ts.tv_usec}, kNsPerSecond);
  }
  if (header.caplen == 0) return fail(ErrorKind::kInput, "0 bytes long; at least 1 is needed");
  if (header.caplen > limits.frame_bytes || header.len > limits.frame_bytes) {
    return fail(ErrorKind::kInput, "{} bytes long ({} on the wire), the limit is {}", header.caplen, header.len,
                limits.frame_bytes);
  }
  if (header.caplen > header.len) {
    return fail(ErrorKind::kInput, "{} bytes captured of a frame of {}", header.caplen, header.len);
  }
  return {};
}

}  // namespace

Result<Recording> read_pcap(const std::string& path, const PcapLimits& limits) {
  struct stat status{};
  // A pipe would block whoever opens it, so that is looked at first.
  if (::stat(path.c_str(), &status) != 0) return fail(ErrorKind::kInput, "{}: {}", path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return fail(ErrorKind::kInput, "{}: {}", path, std::strerror(EISDIR));
  if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kInput, "{}: not a regular file", path);
  std::FILE* const stream = std::fopen(path.c_str(), "rbe");
  if (stream == nullptr) return fail(ErrorKind::kInput, "{}: {}", path, std::strerror(errno));
  return read_pcap(stream, static_cast<std::uint64_t>(status.st_size), path, limits);
}

Result<Recording> read_pcap(std::FILE* stream, std::uint64_t size, const std::string& name, const PcapLimits& limits) {
  std::unique_ptr<std::FILE, CloseFile> file(stream);
  if (!libpcap()) return Failure(libpcap().error());
  const Libpcap& pcap = *libpcap();
  std::array<char, PCAP_ERRBUF_SIZE> reason{};
  const std::unique_ptr<pcap_t, CloseCapture> capture(
      pcap.fopen_offline(file.get(), PCAP_TSTAMP_PRECISION_NANO, reason.data()));
  if (!capture) return fail(ErrorKind::kInput, "{}: {}", name, printable(reason.data()));
  [[maybe_unused]] const std::FILE* const owned_by_capture = file.release();
  if (const int link = pcap.datalink(capture.get()); link != DLT_EN10MB) {
    const char* const link_name = pcap.datalink_val_to_name(link);
    return fail(ErrorKind::kInput, "{}: a capture of link type {} ({}), only Ethernet ({}) is supported", name, link,
                link_name == nullptr ? "unknown" : link_name, DLT_EN10MB);
  }
  // A packet takes at least 17 bytes in a file, and then 32 on a tape: it never takes more than twice as much.
  const std::uint64_t most =
      std::min<std::uint64_t>(limits.memory_bytes, 2 * std::min(size, ~std::uint64_t{0} / 4) + 64);
  WARMFORK_TRY_ASSIGN(TapeBuilder builder, TapeBuilder::create(most));
  Recording recording;
  for (;;) {
    pcap_pkthdr* header = nullptr;
    const u_char* bytes = nullptr;
    const int got = pcap.next_ex(capture.get(), &header, &bytes);
    if (got == PCAP_ERROR_BREAK) break;  // the end
    const std::string place = fmt::format("{}: packet {}", name, builder.packets() + 1);
    if (got != 1) {
      std::string why = printable(pcap.geterr(capture.get()));
      // libpcap tells the two only by its words.
      if (!why.starts_with("truncated") || builder.packets() == 0) return fail(ErrorKind::kInput, "{}: {}", place, why);
      recording.truncated = fmt::format("{}: {}", place, why);
      break;
    }
    if (const auto checked = check_packet(*header, limits); !checked) return with_context(checked.error(), place);
    const std::uint64_t time =
        static_cast<std::uint64_t>(header->ts.tv_sec) * kNsPerSecond + static_cast<std::uint64_t>(header->ts.tv_usec);
    const auto room = builder.add(time, header->len, header->caplen);
    if (!room) {
      Error error = room.error();
      error.kind = ErrorKind::kInput;  // also too many packets are the file's fault
      return with_context(std::move(error), place);
    }
    std::memcpy(room->data(), bytes, header->caplen);
  }
  if (builder.packets() == 0) return fail(ErrorKind::kInput, "{}: no packets", name);
  recording.tape = builder.finish();
  return recording;
}

struct PcapWriter::Impl {
  std::string path;
  std::unique_ptr<pcap_t, CloseCapture> format;
  pcap_dumper_t* dumper = nullptr;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (dumper == nullptr) return;
    (*libpcap()).dump_close(dumper);
    struct stat status{};
    if (::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) ::unlink(path.c_str());
  }
};

PcapWriter::PcapWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PcapWriter::PcapWriter(PcapWriter&&) noexcept = default;
PcapWriter& PcapWriter::operator=(PcapWriter&&) noexcept = default;
PcapWriter::~PcapWriter() = default;

Result<PcapWriter> PcapWriter::create(const std::string& path) {
  if (!libpcap()) return Failure(libpcap().error());
  const Libpcap& pcap = *libpcap();
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->format.reset(pcap.open_dead(DLT_EN10MB, kMaxFrameBytes, PCAP_TSTAMP_PRECISION_NANO));
  if (!impl->format) return fail(ErrorKind::kHost, "{}: out of memory", path);
  // What this process prints would lie between the packets, or over them; into a device (/dev/null) both may go.
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && !S_ISCHR(status.st_mode) && printed_into(path)) {
    return fail(ErrorKind::kUsage, "{}: what is printed goes there", path);
  }
  // Without waiting for somebody to read a pipe: who is not there yet may never come.
  UniqueFd opened(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666));
  if (!opened && errno == ENXIO) return fail(ErrorKind::kHost, "{}: a pipe that nobody reads", path);
  if (!opened || ::fcntl(opened.get(), F_SETFL, 0) != 0) return fail_errno("{}", path);
  std::unique_ptr<std::FILE, CloseFile> file(::fdopen(opened.get(), "wb"));
  if (!file) return fail_errno("{}", path);
  (void)opened.release();  // it is the file's
  impl->dumper = pcap.dump_fopen(impl->format.get(), file.get());
  if (impl->dumper == nullptr) {
    return fail(ErrorKind::kHost, "{}: {}", path, pcap.geterr(impl->format.get()));
  }
  [[maybe_unused]] const std::FILE* const owned_by_dumper = file.release();
  return PcapWriter(std::move(impl));
}

Status PcapWriter::write(std::uint64_t time_ns, std::span<const std::byte> frame, std::uint32_t wire_bytes) {
  const Libpcap& pcap = *libpcap();  // create() has succeeded
  const std::uint64_t seconds = time_ns / kNsPerSecond;
  if (frame.empty() || frame.size() > kMaxFrameBytes || wire_bytes < frame.size()) {
    return fail(ErrorKind::kUsage, "{}: a frame of {} bytes, {} on the wire; 1 to {} can be written", impl_->path,
                frame.size(), wire_bytes, kMaxFrameBytes);
  }
  if (seconds > ~std::uint32_t{0}) {
    return fail(ErrorKind::kUsage, "{}: a time of {} seconds; {} is the last that can be written", impl_->path, seconds,
                ~std::uint32_t{0});
  }
  pcap_pkthdr header{};
  header.ts.tv_sec = static_cast<time_t>(seconds);
  header.ts.tv_usec = static_cast<suseconds_t>(time_ns % kNsPerSecond);
  header.caplen = static_cast<bpf_u_int32>(frame.size());
  header.len = wire_bytes;
  // SAFETY: libpcap's way to hand a dumper over, and bytes viewed as bytes.
  pcap.dump(reinterpret_cast<u_char*>(impl_->dumper), &header, reinterpret_cast<const u_char*>(frame.data()));
  if (std::ferror(pcap.dump_file(impl_->dumper)) != 0) return fail_errno("{}", impl_->path);
  return {};
}

Status PcapWriter::finish() {
  const Libpcap& pcap = *libpcap();
  // fclose() reports, but pcap_dump_close() does not hand on, what fflush() finds.
  if (pcap.dump_flush(impl_->dumper) != 0 || std::ferror(pcap.dump_file(impl_->dumper)) != 0) {
    return fail_errno("{}", impl_->path);
  }
  pcap.dump_close(std::exchange(impl_->dumper, nullptr));
  return {};
}

Status write_pcap(const std::string& path, const Tape& tape, std::uint64_t start_ns) {
  WARMFORK_TRY_ASSIGN(PcapWriter writer, PcapWriter::create(path));
  for (const Packet& packet : tape) {
    WARMFORK_TRY(writer.write(start_ns + packet.time_ns, packet.payload(), packet.wire_bytes));
  }
  return writer.finish();
}

}  // namespace warmfork::feed
