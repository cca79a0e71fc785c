// Capture files: pcap (micro- and nanoseconds, either byte order) and pcapng in, nanosecond pcap out; by libpcap.
//
// A file is read completely, ahead of all use, and everything in it is checked: a file is whatever somebody made of it.
// Only Ethernet. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; pcap-savefile(5).
//
// Threads: any; one file by one at a time.
#pragma once

#include "feed/tape.hpp"

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace warmfork::feed {

inline constexpr std::uint32_t kMaxFrameBytes = 65'535;

struct PcapLimits {
  std::size_t memory_bytes = std::size_t{1} << 30;  // of the tape
  std::uint32_t frame_bytes = kMaxFrameBytes;       // captured, and on the wire
};

struct Recording {
  Tape tape;
  /// Set if the file ends within a packet, as it does when whoever captured was stopped: what is wrong with it, in one
  /// sentence. The packets before it are on the tape.
  std::optional<std::string> truncated;
};

/// Reads a capture file. Errors: kInput, the file cannot be opened, is no capture, of something else than Ethernet, has
/// no packets, or has one that is not valid: empty, longer than the limit or than it was on the wire, or earlier than
/// the one before it; the message names file, packet (from 1), value and limit. kHost: out of memory.
[[nodiscard]] Result<Recording> read_pcap(const std::string& path, const PcapLimits& limits = {});

/// The same for an open stream of at most `size` bytes; `name` is for messages. The stream is closed.
[[nodiscard]] Result<Recording> read_pcap(std::FILE* stream, std::uint64_t size, const std::string& name,
                                          const PcapLimits& limits = {});

/// Writes a capture file. One that is not finished is removed, if it is a file.
class PcapWriter {
 public:
  /// Replaces what is there. Errors name the path: kUsage, what this process prints goes there; kHost.
  [[nodiscard]] static Result<PcapWriter> create(const std::string& path);
  PcapWriter(PcapWriter&&) noexcept;
  PcapWriter& operator=(PcapWriter&&) noexcept;
  ~PcapWriter();

  /// `time_ns` counts from 1970, and is before 2106. `wire_bytes` is at least the frame's size. Errors: kUsage, kHost
  /// (cannot be written, names the path; may be seen by finish() only).
  [[nodiscard]] Status write(std::uint64_t time_ns, std::span<const std::byte> frame, std::uint32_t wire_bytes);
  /// The file is complete; no write() afterwards. Errors (kHost) name the path.
  [[nodiscard]] Status finish();

 private:
  struct Impl;
  explicit PcapWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Writes a tape of frames, its first packet at `start_ns`. Errors: those of PcapWriter.
[[nodiscard]] Status write_pcap(const std::string& path, const Tape& tape, std::uint64_t start_ns);

}  // namespace warmfork::feed
