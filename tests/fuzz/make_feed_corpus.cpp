// Makes the first inputs of fuzz_pcap and fuzz_itch from generated feeds: make_feed_corpus FOLDER
#include "base/file.hpp"
#include "feed/generator.hpp"
#include "feed/pcap.hpp"

#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace warmfork;
using namespace warmfork::feed;

bool write_frames(const Tape& tape, const std::string& path) {
  std::vector<std::byte> input;
  for (const Packet& packet : tape) {
    // Once as a frame and once as what is in it.
    for (const bool whole : {true, false}) {
      const auto bytes = whole ? packet.payload() : packet.payload().subspan(kUdpFrameBytes);
      const std::size_t size = bytes.size() + (whole ? 0 : 1);
      input.push_back(static_cast<std::byte>(size & 0xff));
      input.push_back(static_cast<std::byte>(size >> 8));
      if (!whole) input.push_back(std::byte{1});
      input.insert(input.end(), bytes.begin(), bytes.end());
    }
  }
  return write_file(path, input.data(), input.size()).has_value();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_feed_corpus FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  struct Feed {
    const char* name;
    GeneratorOptions options;
  };
  bool good = true;
  for (const Feed& one : {Feed{"plain", {.packets = 12}},
                          Feed{"gaps", {.packets = 20, .messages = 3, .gap_every = 4, .heartbeat_every = 3}},
                          Feed{"raw", {.packets = 4, .pattern = Pattern::kPoisson, .content = Content::kRaw}}}) {
    const auto tape = generate_feed(one.options, 1 << 20);
    good = good && tape && write_pcap(folder + "/pcap/" + one.name, *tape, 1'700'000'000'000'000'000) &&
           write_frames(*tape, folder + "/itch/" + one.name);
  }
  return good ? 0 : 1;
}
