// The guest's side of the study as a program of its own, for guests of other hypervisors: static, x86-64 Linux, no
// libraries, no kernel module. It finds QEMU's ivshmem device on the PCI bus, maps BAR 2, which is the file that the
// host has, and plays its part. As process 1 it is all that an initramfs needs to hold: it then mounts sysfs, and
// powers the machine off when it has ended.
//
// Linux maps a BAR by sysfs as uncached memory (resource2_wc would reorder writes, which the protocol does not bear).
#include "ivshmem/peer.hpp"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

using namespace warmfork::ivshmem;

namespace {

// Exit codes, as those of warmfork.
enum : int { kSuccess = 0, kFailure = 1, kUsage = 2, kInput = 3, kHost = 4, kTimeout = 7, kSignalBase = 128 };

constexpr const char* kDevices = "/sys/bus/pci/devices";
constexpr const char* kVendor = "0x1af4";
constexpr const char* kDevice = "0x1110";

volatile sig_atomic_t stopped_by = 0;

struct Options {
  unsigned long sessions = 0;  // 0: until nothing comes any more
  unsigned long timeout_s = 60;
  const char* path = nullptr;
};

constexpr const char* kHelp =
    "usage: ivshmem-peer [--sessions N] [--timeout SECONDS] [FILE]\n"
    "The guest's side of `warmfork ivshmem --attach`, in a virtual machine with QEMU's ivshmem-plain device; as root.\n"
    "FILE: the device's resource2, or a file of that layout (default: the only device of this kind on the PCI bus)\n"
    "--sessions: end after so many; else when no host has come for --timeout (60) seconds\n"
    "Exit codes: 0 all frames verified; 1 a wrong hash; 2 wrong usage; 3 no such device or file; 4 no memory;\n"
    "7 no host came; 130 Ctrl-C\n";

bool parse_number(const char* text, unsigned long& number) {
  char* end = nullptr;
  errno = 0;
  number = strtoul(text, &end, 10);
  return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == 0 && number != 0;
}

// 0: go on; else an exit code.
int parse(int count, char** arguments, Options& options) {
  for (int i = 1; i < count; ++i) {
    const char* word = arguments[i];
    const bool sessions = strcmp(word, "--sessions") == 0;
    if (sessions || strcmp(word, "--timeout") == 0) {
      if (i + 1 < count && parse_number(arguments[i + 1], sessions ? options.sessions : options.timeout_s)) {
        ++i;
        continue;
      }
      fprintf(stderr, "ivshmem-peer: %s needs a number from 1\n", word);
      return kUsage;
    }
    if (word[0] == '-' || options.path != nullptr) {
      fputs(kHelp, stderr);
      return kUsage;
    }
    options.path = word;
  }
  return 0;
}

// The first line of a small file; empty: there is none.
template <size_t N>
void read_line(const char* path, char (&line)[N]) {
  line[0] = 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t got = read(fd, line, N - 1);
  close(fd);
  line[got < 0 ? 0 : got] = 0;
  line[strcspn(line, "\n")] = 0;
}

// Looks for the device and makes it answer. 0, or an exit code.
int find_device(char (&found)[512]) {
  DIR* bus = opendir(kDevices);
  if (bus == nullptr) {
    fprintf(stderr, "ivshmem-peer: %s: %s\n", kDevices, strerror(errno));
    return kInput;
  }
  unsigned devices = 0;
  while (const dirent* entry = readdir(bus)) {
    char path[512], id[32];
    snprintf(path, sizeof path, "%s/%s/vendor", kDevices, entry->d_name);
    read_line(path, id);
    if (strcmp(id, kVendor) != 0) continue;
    snprintf(path, sizeof path, "%s/%s/device", kDevices, entry->d_name);
    read_line(path, id);
    if (strcmp(id, kDevice) != 0) continue;
    snprintf(found, sizeof found, "%s/%s/resource2", kDevices, entry->d_name);
    if (devices++ != 0) fprintf(stderr, "ivshmem-peer: also %s\n", found);
    // A device without a driver may not answer for its memory yet, depending on the firmware.
    snprintf(path, sizeof path, "%s/%s/enable", kDevices, entry->d_name);
    read_line(path, id);
    if (id[0] != '0') continue;
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
      if (write(fd, "1", 1) != 1) fprintf(stderr, "ivshmem-peer: %s: %s\n", path, strerror(errno));
      close(fd);
    }
  }
  closedir(bus);
  if (devices == 1) return 0;
  fprintf(stderr,
          devices == 0 ? "ivshmem-peer: no ivshmem device (%s:%s) on the PCI bus; QEMU: -device ivshmem-plain,…\n"
                       : "ivshmem-peer: several devices %s:%s; name one's resource2\n",
          kVendor, kDevice);
  return kInput;
}

// "QEMU Standard PC …, Linux 6.1.0", cut to what the page holds.
void name_machine(char (&name)[kNameBytes]) {
  char vendor[40], product[48];
  read_line("/sys/class/dmi/id/sys_vendor", vendor);
  read_line("/sys/class/dmi/id/product_name", product);
  utsname system{};
  uname(&system);
  snprintf(name, sizeof name, "%s%s%s%sLinux %.40s", vendor, vendor[0] != 0 ? " " : "", product,
           product[0] != 0 ? ", " : "", system.release);
}

double seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

int take_part(const Options& options, unsigned char* memory, size_t bytes) {
  if (!is_meeting(memory)) {
    fprintf(stderr, "ivshmem-peer: the memory holds something else, which is not written over\n");
    return kInput;
  }
  const size_t capacity = bytes - kFrameOffset;
  void* copy = mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (copy == MAP_FAILED) {
    fprintf(stderr, "ivshmem-peer: %zu bytes for a copy of the frame: %s\n", capacity, strerror(errno));
    return kHost;
  }
  char name[kNameBytes];
  name_machine(name);
  printf("ivshmem-peer: %zu bytes shared; waiting for a host\n", bytes);
  // SAFETY: a mapping, at least as large as two pages.
  Peer peer({.host = reinterpret_cast<const HostPage*>(memory),
             .guest = reinterpret_cast<GuestPage*>(memory + kGuestPageOffset),
             .frame = memory + kFrameOffset,
             .frame_capacity = capacity,
             .copy = static_cast<unsigned char*>(copy),
             .name = name});
  peer.begin();
  const auto report = [&](const char* what) {
    printf("ivshmem-peer: %s %lu sessions, %lu frames, %lu verified\n", what,
           static_cast<unsigned long>(peer.sessions()), static_cast<unsigned long>(peer.frames()),
           static_cast<unsigned long>(peer.verified()));
  };
  double last = seconds();
  bool late = false;
  unsigned long reported = 0;
  for (unsigned long looks = 1; options.sessions == 0 || peer.sessions() < options.sessions; ++looks) {
    if (peer.step() != Peer::Step::kNothing) last = seconds();
    __builtin_ia32_pause();
    if (looks % 1024 != 0) continue;
    // Between sessions, where no host waits for what a console takes.
    if (peer.session() == 0 && peer.sessions() != reported) {
      reported = peer.sessions();
      report("so far");
    }
    late = seconds() - last > static_cast<double>(options.timeout_s);
    if (late || stopped_by != 0) break;
    sched_yield();
  }
  peer.leave();
  report("ended:");
  if (stopped_by != 0) return kSignalBase + stopped_by;
  if (late && (options.sessions != 0 || peer.sessions() == 0)) {
    fprintf(stderr, "ivshmem-peer: nothing has come from a host for %lu s\n", options.timeout_s);
    return kTimeout;
  }
  return peer.verified() == peer.frames() ? kSuccess : kFailure;
}

int run(int count, char** arguments) {
  Options options;
  if (count == 2 && strcmp(arguments[1], "--help") == 0) {
    fputs(kHelp, stdout);
    return kSuccess;
  }
  if (const int code = parse(count, arguments, options); code != 0) return code;
  char found[512];
  const char* path = options.path;
  if (path == nullptr) {
    if (const int code = find_device(found); code != 0) return code;
    path = found;
  }
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  struct stat status{};
  if (fd < 0 || fstat(fd, &status) != 0) {
    fprintf(stderr, "ivshmem-peer: %s: %s\n", path, strerror(errno));
    return kInput;
  }
  const auto bytes = static_cast<size_t>(status.st_size);
  if (bytes <= kFrameOffset) {
    fprintf(stderr, "ivshmem-peer: %s: %zu bytes, more than %zu are needed\n", path, bytes,
            static_cast<size_t>(kFrameOffset));
    return kInput;
  }
  // SAFETY: a new mapping of this size; a file is its owner's to keep that long.
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    fprintf(stderr, "ivshmem-peer: %s: %s\n", path, strerror(errno));
    return kInput;
  }
  return take_part(options, static_cast<unsigned char*>(memory), bytes);
}

}  // namespace

int main(int count, char** arguments) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  struct sigaction stop{};
  stop.sa_handler = [](int signal) { stopped_by = signal; };
  sigaction(SIGINT, &stop, nullptr);
  sigaction(SIGTERM, &stop, nullptr);
  if (getpid() != 1) return run(count, arguments);
  // The kernel gives its own words to process 1 as well; those behind "--" on its command line are arguments.
  if (mount("sys", "/sys", "sysfs", 0, nullptr) != 0) fprintf(stderr, "ivshmem-peer: /sys: %s\n", strerror(errno));
  printf("ivshmem-peer: exit code %d\n", run(count, arguments));
  sync();
  reboot(RB_POWER_OFF);
  return kHost;  // a machine that cannot be powered off: the kernel panics, which ends it, too
}
