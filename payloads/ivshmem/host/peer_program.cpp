#include "ivshmem/host/peer_program.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

extern "C" const unsigned char warmfork_ivshmem_peer_begin[];
extern "C" const unsigned char warmfork_ivshmem_peer_end[];

namespace warmfork::ivshmem {
namespace {

constexpr unsigned kFolder = 0040755, kProgram = 0100755, kCharacterDevice = 0020600;

class Cpio {
 public:
  struct Device {
    unsigned major = 0, minor = 0;
  };
  void add(std::string_view name, unsigned mode, std::span<const std::byte> content, Device device) {
    // Magic, inode, mode, user, group, links, time, size, the device it is on, the device it is, length of the name,
    // no checksum: eight hexadecimal digits each.
    put(fmt::format("070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", ++inode_,
                    mode, 0, 0, 1, 0, content.size(), 0, 0, device.major, device.minor, name.size() + 1, 0));
    put(name);
    bytes_.push_back(std::byte{0});
    align();
    bytes_.insert(bytes_.end(), content.begin(), content.end());
    align();
  }
  std::vector<std::byte> end() {
    add("TRAILER!!!", 0, {}, {});
    return std::move(bytes_);
  }

 private:
  void put(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void align() {
    while (bytes_.size() % 4 != 0) bytes_.push_back(std::byte{0});
  }

  std::vector<std::byte> bytes_;
  unsigned inode_ = 0;
};

}  // namespace

std::span<const std::byte> peer_elf() {
  return std::as_bytes(std::span(warmfork_ivshmem_peer_begin, warmfork_ivshmem_peer_end));
}

std::vector<std::byte> make_initramfs(std::span<const std::byte> program) {
  Cpio archive;
  archive.add("dev", kFolder, {}, {});
  archive.add("dev/console", kCharacterDevice, {}, {.major = 5, .minor = 1});  // what the kernel gives to process 1
  archive.add("sys", kFolder, {}, {});
  archive.add("init", kProgram, program, {});
  return archive.end();
}

}  // namespace warmfork::ivshmem
