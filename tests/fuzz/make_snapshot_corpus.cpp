// Makes the first inputs of fuzz_snapshot_file, in the form that target reads.
#include "base/file.hpp"
#include "fork/snapshot_file.hpp"
#include "tiny_snapshot.hpp"

#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace warmfork;
using namespace warmfork::snapshot_format;

// A saved snapshot as the target's input: its tables without the zeros at their ends, and how many pages it has.
bool convert(const Snapshot& snapshot, const std::string& input, std::byte first) {
  const std::string file = input + ".snapshot";
  if (!save_snapshot(snapshot, file)) return false;
  const auto bytes = read_file(file, 1 << 20);
  if (!bytes || std::remove(file.c_str()) != 0) return false;
  Header header;
  std::memcpy(&header, bytes->data(), sizeof header);
  std::vector<std::byte> out{first};
  for (const Section table : {kMetadata, kIndex}) {
    auto content = std::span(*bytes).subspan(header.sections[table].offset, header.sections[table].size);
    while (!content.empty() && content.back() == std::byte{0}) content = content.first(content.size() - 1);
    out.push_back(static_cast<std::byte>(content.size() & 0xff));
    out.push_back(static_cast<std::byte>(content.size() >> 8));
    out.insert(out.end(), content.begin(), content.end());
  }
  for (const Section pages : {kImage, kWindow}) {
    out.push_back(static_cast<std::byte>(header.sections[pages].size / kPage));
  }
  return write_file(input, out.data(), out.size()).has_value();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_snapshot_corpus FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  const auto base = test::tiny_snapshot();
  const auto plain = test::tiny_snapshot(test::every_processor(false));
  const auto layer = test::tiny_layer(base);
  const auto code_region = test::tiny_snapshot(test::every_processor(), test::kTinySizesWithCode);
  LayoutSizes sizes = test::kTinySizes;
  sizes.shared = {{.name = "feed", .bytes = kPage},
                  {.name = "ring", .bytes = x86::kLargePageSize, .access = SharedAccess::kReadWrite}};
  const auto shared = test::tiny_snapshot(test::every_processor(), sizes);
  bool good = convert(*base, folder + "/master", std::byte{2});
  good = good && convert(*layer, folder + "/layer", std::byte{3});
  good = good && convert(*code_region, folder + "/code_region", std::byte{2});
  good = good && convert(*shared, folder + "/shared_regions", std::byte{2});
  good = good && convert(*plain, folder + "/plain", std::byte{2});
  good = good && convert(*plain, folder + "/wrong_checksums", std::byte{0});
  good = good && write_file(folder + "/empty", "\4", 1);
  return good ? 0 : 1;
}
