#include "base/file.hpp"
#include "base/printable.hpp"
#include "trace/trace.hpp"

#include <unistd.h>

#include <iterator>
#include <map>
#include <span>
#include <utility>

namespace warmfork::trace {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 18;

// Names may come from a guest's program.
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c >= 0x20 && c < 0x7f) {
      result += c;
    } else {
      fmt::format_to(std::back_inserter(result), "\\u{:04x}", static_cast<unsigned char>(c));
    }
  }
  return result + '"';
}

class Writer {
 public:
  Writer(int fd, const std::string& path) : fd_(fd), path_(path) {}
  template <class... Values>
  void print(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
    if (text_.size() >= kChunk) flush();
  }
  [[nodiscard]] Status finish() {
    flush();
    return std::move(status_);
  }

 private:
  void flush() {
    if (status_) status_ = write_all(fd_, std::as_bytes(std::span(text_.data(), text_.size())), path_);
    text_.clear();
  }
  const int fd_;
  const std::string& path_;
  fmt::memory_buffer text_;
  Status status_;
};

}  // namespace

Status write_json(const Recording& recording, int fd, const std::string& path, std::string_view program,
                  std::string_view verb) {
  Writer out(fd, path);
  const int process = ::getpid();
  // The same monotonic function of the TSC for begins and ends, so that what nests goes on nesting when rounded.
  const double ns_per_tick = tsc_ns_per_tick();
  const auto ns = [&](std::uint64_t ticks) {
    return ticks <= recording.start
               ? std::uint64_t{0}
               : static_cast<std::uint64_t>(static_cast<double>(ticks - recording.start) * ns_per_tick);
  };
  std::map<std::pair<const Kind*, std::uint64_t>, std::string> names;
  const auto name_of = [&](const Recording::Event& event) -> const std::string& {
    const bool described = event.kind->describe != nullptr;
    std::string& name = names[{event.kind, described ? event.argument : 0}];
    if (name.empty()) {
      name = quoted(described ? fmt::format("{} {}", event.kind->name, event.kind->describe(event.argument))
                              : std::string(event.kind->name));
    }
    return name;
  };
  out.print("{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
  out.print(R"({{"ph":"M","pid":{},"name":"process_name","args":{{"name":{}}}}})", process,
            quoted(fmt::format("{} {}", program, verb)));
  for (const Recording::Thread& thread : recording.threads) {
    out.print(",\n{{\"ph\":\"M\",\"pid\":{},\"tid\":{},\"name\":\"thread_name\",\"args\":{{\"name\":{}}}}}", process,
              thread.id, quoted(thread.name));
    for (const Recording::Event& event : thread.events) {
      const std::uint64_t begin = ns(event.begin);
      const std::uint64_t took = ns(event.end) - begin;
      out.print(",\n{{\"ph\":\"X\",\"pid\":{},\"tid\":{},\"cat\":\"{}\",\"name\":{},\"ts\":{}.{:03},\"dur\":{}.{:03}",
                process, thread.id, event.kind->category, name_of(event), begin / 1000, begin % 1000, took / 1000,
                took % 1000);
      if (event.kind->argument != nullptr) out.print(",\"args\":{{\"{}\":{}}}", event.kind->argument, event.argument);
      out.print("}}");
    }
  }
  out.print("\n],\"otherData\":{{\"program\":{},\"verb\":{},\"ns\":{},\"lost_events\":{},\"events_without_ring\":{}",
            quoted(program), quoted(verb), ns(recording.stop), recording.lost(), recording.without_ring);
  out.print(",\"threads\":[");
  const char* comma = "";
  for (const Recording::Thread& thread : recording.threads) {
    out.print("{}{{\"tid\":{},\"name\":{},\"recorded\":{},\"lost\":{}}}", std::exchange(comma, ","), thread.id,
              quoted(thread.name), thread.recorded, thread.lost);
  }
  out.print("]}}}}\n");
  return out.finish();
}

}  // namespace warmfork::trace
