// The peer for guests of other hypervisors (peer/program.cpp), as files to be brought there.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace warmfork::ivshmem {

/// A static ELF for x86-64 Linux.
[[nodiscard]] std::span<const std::byte> peer_elf();

/// An initramfs (cpio, "newc": Linux, Documentation/driver-api/early-userspace/buffer-format.rst) in which `program` is
/// process 1 and all there is, but for a console and a place for sysfs.
[[nodiscard]] std::vector<std::byte> make_initramfs(std::span<const std::byte> program);

}  // namespace warmfork::ivshmem
