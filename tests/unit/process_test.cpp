// The system calls of a guest without a guest: requests are made by hand, memory is an address space no processor
// runs. That KVM hears of changed pages (mprotect, PROT_NONE) is for the kvm tests to show.
#include "machine/linux/process.hpp"

#include "random.hpp"
#include "tiny_program.hpp"
#include "warmfork/abi/layout.h"

#include <asm/prctl.h>
#include <asm/unistd.h>
#include <elf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>

namespace warmfork::linux_abi {
namespace {

constexpr std::uint64_t kTop = ~std::uint64_t{0};

class ProcessTest : public ::testing::Test {
 protected:
  void start(ProcessConfig config = {}) {
    space_ = program_.build({.heap = 64 * kPage, .stack = 16 * kPage, .call_area = kPage});
    ASSERT_NE(space_, nullptr);
    process_.emplace(*space_, io_, std::move(config));
  }
  void SetUp() override { start(); }

  SyscallOutcome call(std::uint64_t number, std::array<std::uint64_t, 6> arguments = {}) {
    return process_->serve({number, arguments});
  }
  [[nodiscard]] std::uint64_t heap(std::uint64_t offset = 0) const { return space_->heap().begin.value + offset; }
  template <class T>
  std::uint64_t put(std::uint64_t address, const T& value) {
    EXPECT_TRUE(space_->write(Gva{address}, std::as_bytes(std::span(&value, 1))));
    return address;
  }
  std::uint64_t put(std::uint64_t address, std::string_view text) {
    EXPECT_TRUE(space_->write(Gva{address}, std::as_bytes(std::span(text))));
    return address;
  }
  template <class T>
  [[nodiscard]] T get(std::uint64_t address) const {
    const auto value = space_->read_value<T>(Gva{address});
    EXPECT_TRUE(value) << address;
    return value ? *value : T{};
  }
  [[nodiscard]] std::string string_at(std::uint64_t address) const {
    return space_->read_string(Gva{address}, 4096).value_or("(unreadable)");
  }

  test::TinyProgram program_;
  std::unique_ptr<AddressSpace> space_;
  BufferIo io_{"some input", 1 << 20};
  std::optional<Process> process_;
};

// --- The initial stack, read back as a C library reads it ------------------------------------------------------------

TEST_F(ProcessTest, InitialStackIsWhatALibcReads) {
  for (std::size_t arguments = 0; arguments < 4; ++arguments) {
    for (std::size_t environment = 0; environment < 3; ++environment) {
      SCOPED_TRACE(::testing::Message() << arguments << " arguments, " << environment << " variables");
      ProcessConfig config;
      for (std::size_t i = 0; i < arguments; ++i) config.arguments.push_back("arg" + std::string(i * 3, 'x'));
      for (std::size_t i = 0; i < environment; ++i) config.environment.push_back(fmt::format("V{}=value", i));
      start(config);
      const auto top = process_->build_initial_stack(program_.plan, 0x1234);
      ASSERT_TRUE(top) << top.error().message;
      EXPECT_EQ(top->value % 16, 0U);
      EXPECT_TRUE(space_->stack().contains(*top));

      std::uint64_t at = top->value;
      const auto next = [&] { return get<std::uint64_t>(std::exchange(at, at + 8)); };
      ASSERT_EQ(next(), arguments);
      for (std::size_t i = 0; i < arguments; ++i) EXPECT_EQ(string_at(next()), config.arguments[i]);
      ASSERT_EQ(next(), 0U);
      for (std::size_t i = 0; i < environment; ++i) EXPECT_EQ(string_at(next()), config.environment[i]);
      ASSERT_EQ(next(), 0U);
      std::map<std::uint64_t, std::uint64_t> auxiliary;
      for (std::uint64_t type = next(); type != AT_NULL; type = next()) {
        EXPECT_TRUE(auxiliary.emplace(type, next()).second) << type;
        ASSERT_LT(at, space_->stack().end().value);
      }
      EXPECT_EQ(next(), 0U);  // the value of AT_NULL
      EXPECT_EQ(auxiliary.at(AT_PHDR), program_.plan.program_headers.value);
      EXPECT_EQ(auxiliary.at(AT_PHENT), sizeof(Elf64_Phdr));
      EXPECT_EQ(auxiliary.at(AT_PHNUM), 3U);
      EXPECT_EQ(auxiliary.at(AT_PAGESZ), kPage);
      EXPECT_EQ(auxiliary.at(AT_ENTRY), program_.plan.entry.value);
      EXPECT_EQ(auxiliary.at(AT_BASE), 0U);
      EXPECT_EQ(auxiliary.at(AT_SECURE), 0U);
      EXPECT_EQ(auxiliary.at(AT_HWCAP), 0x1234U);
      EXPECT_EQ(string_at(auxiliary.at(AT_PLATFORM)), "x86_64");
      EXPECT_EQ(string_at(auxiliary.at(AT_EXECFN)), arguments == 0 ? "x86_64" : config.arguments[0]);
      std::array<std::byte, 16> random{};
      EXPECT_TRUE(space_->read(Gva{auxiliary.at(AT_RANDOM)}, random));
      EXPECT_FALSE(std::ranges::all_of(random, [](std::byte b) { return b == std::byte{0}; }));
      EXPECT_FALSE(auxiliary.contains(AT_SYSINFO_EHDR)) << "there is no vDSO";
    }
  }
}

TEST_F(ProcessTest, InitialStackRefusesArgumentsThatAreTooLong) {
  ProcessConfig config;
  config.arguments = {std::string(4 * kPage - 9, 'x')};  // with NUL and pointer: exactly a quarter of the stack
  start(config);
  EXPECT_TRUE(process_->build_initial_stack(program_.plan, 0));
  config.arguments[0] += 'x';
  start(config);
  const auto refused = process_->build_initial_stack(program_.plan, 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(refused.error().message, "arguments and environment need 16385 bytes, a quarter of the stack is 16384");
}

TEST_F(ProcessTest, InitialStackCountsThePointersOfEmptyArguments) {
  ProcessConfig config;
  config.arguments.assign(16 * kPage / 8, "");
  start(config);
  EXPECT_FALSE(process_->build_initial_stack(program_.plan, 0));
}

TEST_F(ProcessTest, TheSeedDecidesTheRandomBytes) {
  const auto bytes_of = [&](std::optional<std::uint64_t> seed) {
    ProcessConfig config;
    config.seed = seed;
    start(config);
    EXPECT_EQ(call(__NR_getrandom, {heap(), 64, 0}).result, 64);
    return get<std::array<std::uint64_t, 8>>(heap());
  };
  EXPECT_EQ(bytes_of(7), bytes_of(7));
  EXPECT_NE(bytes_of(7), bytes_of(8));
  EXPECT_NE(bytes_of({}), bytes_of({}));
}

// --- The table -------------------------------------------------------------------------------------------------------

TEST(SyscallTable, IsSortedAndNamedAsTheKernelNamesIt) {
  const auto table = syscall_table();
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (i > 0) EXPECT_LT(table[i - 1].number, table[i].number);
    EXPECT_EQ(syscall_name(table[i].number), table[i].name);
    EXPECT_NE(table[i].handler, nullptr);
  }
}

TEST(SyscallTable, NamesCallsItDoesNotServe) {
  EXPECT_EQ(syscall_name(__NR_ptrace), "ptrace");
  EXPECT_EQ(syscall_name(9999), "syscall_9999");
  EXPECT_EQ(syscall_name(kTop), "syscall_18446744073709551615");
}

TEST_F(ProcessTest, WhatIsNotInTheTableIsNotImplemented) {
  for (const std::uint64_t number :
       {std::uint64_t{__NR_socket}, std::uint64_t{__NR_ptrace}, std::uint64_t{100000}, std::uint64_t{1} << 32, kTop}) {
    EXPECT_EQ(call(number).result, -ENOSYS) << number;
  }
  EXPECT_EQ(call(std::uint64_t{1} << 32 | __NR_getpid).result, -ENOSYS) << "all 64 bits of the number count";
  EXPECT_EQ(process_->calls(), 6U);
}

TEST_F(ProcessTest, TraceSeesEveryCallAndItsOutcome) {
  std::vector<SyscallRecord> records;
  ProcessConfig config;
  config.trace = [&](const SyscallRecord& record) { records.push_back(record); };
  start(config);
  (void)call(__NR_getpid);
  (void)call(__NR_socket, {1, 2, 3});
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].name, "getpid");
  EXPECT_TRUE(records[0].supported);
  EXPECT_EQ(records[0].outcome.result, 1);
  EXPECT_EQ(records[1].name, "socket");
  EXPECT_FALSE(records[1].supported);
  EXPECT_EQ(records[1].request.arguments[2], 3U);
}

// --- Descriptors -----------------------------------------------------------------------------------------------------

TEST_F(ProcessTest, WritesReachTheirDescriptor) {
  put(heap(), "hello, world");
  EXPECT_EQ(call(__NR_write, {1, heap(), 5}).result, 5);
  EXPECT_EQ(call(__NR_write, {2, heap(7), 5}).result, 5);
  EXPECT_EQ(call(__NR_write, {1, heap(), 0}).result, 0);
  EXPECT_EQ(io_.output(), "hello");
  EXPECT_EQ(io_.error_output(), "world");
  EXPECT_EQ(call(__NR_write, {0, heap(), 5}).result, -EBADF);
  EXPECT_EQ(call(__NR_write, {std::uint64_t{1} << 32 | 1, heap(), 5}).result, -EBADF);
}

TEST_F(ProcessTest, WritesReadOnlyWhatTheGuestMayRead) {
  EXPECT_EQ(call(__NR_write, {1, 0, 1}).result, -EFAULT);
  EXPECT_EQ(call(__NR_write, {1, WARMFORK_SYSTEM_BASE, 16}).result, -EFAULT);
  EXPECT_EQ(call(__NR_write, {1, kTop - 3, 8}).result, -EFAULT);
  EXPECT_EQ(call(__NR_write, {1, space_->layout().exception_stack().begin.value, 8}).result,
            -EFAULT);  // exception stack
  EXPECT_EQ(io_.output(), "");
  const std::uint64_t size = space_->heap().size;
  EXPECT_EQ(call(__NR_write, {1, heap(), kTop}).result, static_cast<std::int64_t>(size)) << "up to the first bad page";
}

TEST_F(ProcessTest, VectorsAreWrittenInOrder) {
  put(heap(), "abcdef");
  put(heap(64), std::array<iovec, 4>{iovec{reinterpret_cast<void*>(heap(3)), 3}, iovec{nullptr, 0},
                                     iovec{reinterpret_cast<void*>(heap()), 3}, iovec{nullptr, 9}});
  EXPECT_EQ(call(__NR_writev, {1, heap(64), 4}).result, 6);
  EXPECT_EQ(io_.output(), "defabc");
  EXPECT_EQ(call(__NR_writev, {1, heap(64 + 48), 1}).result, -EFAULT);
  EXPECT_EQ(call(__NR_writev, {1, 0, 1}).result, -EFAULT);
  EXPECT_EQ(call(__NR_writev, {1, heap(64), 1025}).result, -EINVAL);
  EXPECT_EQ(call(__NR_writev, {1, heap(64), 0}).result, 0);
}

// 1024 vectors may all name the same memory: the host would copy for as long as the guest likes, past every deadline.
TEST_F(ProcessTest, VectorsTogetherAreCappedAsLinuxDoes) {
  process_.reset();
  space_ = program_.build({.heap = 768 * kPage, .stack = 16 * kPage, .call_area = kPage});
  ASSERT_NE(space_, nullptr);
  NullIo io;
  process_.emplace(*space_, io, ProcessConfig{});
  std::array<iovec, 1024> vectors{};
  vectors.fill({reinterpret_cast<void*>(heap(16 * kPage)), 700 * kPage});
  put(heap(), vectors);
  EXPECT_EQ(call(__NR_writev, {1, heap(), vectors.size()}).result, 0x7ffff000);
  process_.reset();  // before its io
}

TEST_F(ProcessTest, ReadsFillTheGuestsBuffer) {
  EXPECT_EQ(call(__NR_read, {0, heap(), 4}).result, 4);
  EXPECT_EQ(string_at(heap()), "some");
  EXPECT_EQ(call(__NR_read, {0, heap(), kTop}).result, 6);
  EXPECT_EQ(call(__NR_read, {0, heap(), 1}).result, 0);
  EXPECT_EQ(call(__NR_read, {1, heap(), 1}).result, -EBADF);
}

TEST_F(ProcessTest, ReadsIntoReadOnlyMemoryFail) {
  EXPECT_EQ(call(__NR_read, {0, 0x400000, 4}).result, -EFAULT);
  EXPECT_EQ(get<std::byte>(0x400000), program_.bytes[0]);
}

// --- Memory ----------------------------------------------------------------------------------------------------------

constexpr std::uint64_t kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr std::uint64_t kReadWrite = PROT_READ | PROT_WRITE;

TEST_F(ProcessTest, BreakGrowsZeroedMemory) {
  EXPECT_EQ(static_cast<std::uint64_t>(call(__NR_brk, {0}).result), heap());
  EXPECT_EQ(static_cast<std::uint64_t>(call(__NR_brk, {heap(2 * kPage)}).result), heap(2 * kPage));
  put(heap(kPage), std::uint64_t{5});
  (void)call(__NR_brk, {heap(kPage)});
  (void)call(__NR_brk, {heap(2 * kPage)});
  EXPECT_EQ(get<std::uint64_t>(heap(kPage)), 0U);
}

TEST_F(ProcessTest, MappingsAreZeroEachTimeTheyAreHandedOut) {
  const auto first = static_cast<std::uint64_t>(call(__NR_mmap, {0, 5000, kReadWrite, kAnonymous, kTop, 0}).result);
  ASSERT_EQ(first % kPage, 0U);
  ASSERT_TRUE(space_->heap().contains(Gva{first}));
  put(first, std::uint64_t{5});
  EXPECT_EQ(call(__NR_munmap, {first, 5000}).result, 0);
  EXPECT_EQ(static_cast<std::uint64_t>(call(__NR_mmap, {0, 5000, kReadWrite, kAnonymous, kTop, 0}).result), first);
  EXPECT_EQ(get<std::uint64_t>(first), 0U);
  put(first, std::uint64_t{6});
  EXPECT_EQ(
      static_cast<std::uint64_t>(call(__NR_mmap, {first, kPage, kReadWrite, kAnonymous | MAP_FIXED, kTop, 0}).result),
      first);
  EXPECT_EQ(get<std::uint64_t>(first), 0U);
}

TEST_F(ProcessTest, NoReplaceReplacesNothing) {
  const auto map = [&](std::uint64_t address, std::uint64_t size) {
    return call(__NR_mmap, {address, size, kReadWrite, kAnonymous | MAP_FIXED_NOREPLACE, kTop, 0}).result;
  };
  const std::uint64_t second = heap(8 * kPage);
  ASSERT_EQ(map(second, kPage), static_cast<std::int64_t>(second));
  put(second, std::uint64_t{5});
  EXPECT_EQ(map(second, kPage), -EEXIST);
  EXPECT_EQ(map(second - kPage, 2 * kPage), -EEXIST);  // free at its first page only
  EXPECT_EQ(map(second - 2 * kPage, 8 * kPage), -EEXIST);
  EXPECT_EQ(get<std::uint64_t>(second), 5U);
  EXPECT_EQ(map(second - kPage, kPage), static_cast<std::int64_t>(second - kPage));
}

TEST_F(ProcessTest, MappingsThatCannotBeAreRefused) {
  const auto map = [&](std::uint64_t address, std::uint64_t size, std::uint64_t protection, std::uint64_t flags,
                       std::uint64_t fd) { return call(__NR_mmap, {address, size, protection, flags, fd, 0}).result; };
  EXPECT_EQ(map(0, 0, kReadWrite, kAnonymous, kTop), -EINVAL);
  EXPECT_EQ(map(0, kTop, kReadWrite, kAnonymous, kTop), -EINVAL);
  EXPECT_EQ(map(0, kTop - kPage + 1, kReadWrite, kAnonymous, kTop), -ENOMEM);
  EXPECT_EQ(map(0, 65 * kPage, kReadWrite, kAnonymous, kTop), -ENOMEM);
  EXPECT_EQ(map(0, kPage, kReadWrite | PROT_EXEC, kAnonymous, kTop), -EPERM);
  EXPECT_EQ(map(0, kPage, kReadWrite, MAP_PRIVATE, 0), -ENODEV);
  EXPECT_EQ(map(0, kPage, kReadWrite, MAP_PRIVATE, 7), -EBADF);
  EXPECT_EQ(map(heap(8), kPage, kReadWrite, kAnonymous | MAP_FIXED, kTop), -EINVAL);
  EXPECT_EQ(map(0x400000, kPage, kReadWrite, kAnonymous | MAP_FIXED, kTop), -ENOMEM);
  EXPECT_EQ(map(kTop - kPage + 1, kPage, kReadWrite, kAnonymous | MAP_FIXED, kTop), -ENOMEM);
  EXPECT_EQ(call(__NR_munmap, {heap(8), kPage}).result, -EINVAL);
  EXPECT_EQ(call(__NR_munmap, {heap(), 0}).result, -EINVAL);
  EXPECT_EQ(call(__NR_munmap, {heap(), kTop}).result, -EINVAL);
  EXPECT_EQ(call(__NR_munmap, {0x400000, kPage}).result, -EINVAL);
}

TEST_F(ProcessTest, ProtectionNeverAddsExecutionNorTouchesTheImage) {
  const auto protect = [&](std::uint64_t address, std::uint64_t size, std::uint64_t protection) {
    return call(__NR_mprotect, {address, size, protection}).result;
  };
  EXPECT_EQ(protect(heap(), kPage, PROT_READ | PROT_EXEC), -EACCES);
  EXPECT_EQ(protect(0x400000, kPage, kReadWrite), -EACCES);
  EXPECT_EQ(protect(0x402000, kPage, kReadWrite), -EACCES);
  EXPECT_EQ(protect(WARMFORK_SYSTEM_BASE, kPage, kReadWrite), -EACCES);
  EXPECT_EQ(protect(space_->call_area().end().value + kPage, kPage, kReadWrite), -EACCES);
  EXPECT_EQ(protect(heap(), space_->heap().size + kPage, PROT_READ), -EACCES);
  EXPECT_EQ(protect(heap(8), kPage, PROT_READ), -EINVAL);
  EXPECT_EQ(protect(heap(), kTop, PROT_READ), -EINVAL);
  EXPECT_EQ(protect(heap(), 0, PROT_READ), 0);
  EXPECT_FALSE(space_->translate(Gva{0x400000})->access.write);
}

// --- The rest --------------------------------------------------------------------------------------------------------

TEST_F(ProcessTest, ProtectionStopsAtHeapThatIsNotMapped) {
  // From the last page of data into a heap that nothing has been mapped from.
  const std::uint64_t data = heap() - kPage;
  ASSERT_TRUE(space_->layout().is_protectable(Gva{data}, 2 * kPage));
  EXPECT_EQ(call(__NR_mprotect, {data, 2 * kPage, PROT_READ}).result, -ENOMEM);
  EXPECT_TRUE(space_->translate(Gva{data})->access.write) << "refused before anything was changed";
  EXPECT_TRUE(space_->translate(Gva{heap()})->access.write);
}

TEST_F(ProcessTest, AdviceThatMemoryIsNotNeededMakesItZero) {
  const auto mapped = call(__NR_mmap, {0, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, kTop, 0});
  ASSERT_GT(mapped.result, 0);
  const auto memory = static_cast<std::uint64_t>(mapped.result);
  for (const std::uint64_t offset : {std::uint64_t{0}, kPage, 2 * kPage}) put(memory + offset, std::uint64_t{7});
  EXPECT_EQ(call(__NR_madvise, {memory, kPage, MADV_WILLNEED}).result, 0);
  EXPECT_EQ(get<std::uint64_t>(memory), 7u) << "other advice is only a hint";
  EXPECT_EQ(call(__NR_madvise, {memory, kPage + 1, MADV_DONTNEED}).result, 0);
  EXPECT_EQ(get<std::uint64_t>(memory), 0u);
  EXPECT_EQ(get<std::uint64_t>(memory + kPage), 0u) << "whole pages";
  EXPECT_EQ(get<std::uint64_t>(memory + 2 * kPage), 7u);

  EXPECT_EQ(call(__NR_madvise, {memory + 1, kPage, MADV_DONTNEED}).result, -EINVAL);
  EXPECT_EQ(call(__NR_madvise, {memory, kTop, MADV_DONTNEED}).result, -EINVAL);
  EXPECT_EQ(call(__NR_madvise, {memory, 4 * kPage, MADV_DONTNEED}).result, -ENOMEM);
  EXPECT_EQ(call(__NR_madvise, {memory - kPage, kPage, MADV_DONTNEED}).result, -ENOMEM) << "not mapped";
  EXPECT_EQ(call(__NR_madvise, {0x400000, kPage, MADV_DONTNEED}).result, -ENOMEM) << "the image stays";
  EXPECT_EQ(call(__NR_madvise, {0x407000, kPage, MADV_DONTNEED}).result, -EINVAL) << "program data";
  EXPECT_EQ(call(__NR_madvise, {space_->stack().begin.value, kPage, MADV_DONTNEED}).result, -EINVAL);
}

TEST_F(ProcessTest, ExitCarriesTheLowByteOfItsCode) {
  EXPECT_EQ(call(__NR_exit, {7}).exit_code, 7);
  EXPECT_EQ(call(__NR_exit_group, {0x1ff}).exit_code, 255);
  EXPECT_FALSE(call(__NR_getpid).exit_code);
}

TEST_F(ProcessTest, SegmentBasesStayInUserSpace) {
  EXPECT_EQ(call(__NR_arch_prctl, {ARCH_SET_FS, heap(64)}).result, 0);
  EXPECT_EQ(call(__NR_arch_prctl, {ARCH_SET_GS, x86::kMaxVirtual - 1}).result, 0);
  EXPECT_EQ(call(__NR_arch_prctl, {ARCH_SET_FS, x86::kMaxVirtual}).result, -EPERM);
  EXPECT_EQ(call(__NR_arch_prctl, {ARCH_SET_GS, kTop}).result, -EPERM);
  EXPECT_EQ(process_->fs_base(), heap(64));
  EXPECT_EQ(process_->gs_base(), x86::kMaxVirtual - 1);
  EXPECT_EQ(call(__NR_arch_prctl, {ARCH_GET_FS, heap()}).result, 0);
  EXPECT_EQ(get<std::uint64_t>(heap()), heap(64));
  EXPECT_EQ(call(__NR_arch_prctl, {0x9999, 0}).result, -EINVAL);
}

TEST_F(ProcessTest, AnswersHaveLinuxsForm) {
  EXPECT_EQ(call(__NR_uname, {heap()}).result, 0);
  const auto names = get<utsname>(heap());
  EXPECT_STREQ(names.sysname, "Linux");
  EXPECT_STREQ(names.machine, "x86_64");
  EXPECT_EQ(call(__NR_prlimit64, {0, RLIMIT_STACK, 0, heap()}).result, 0);
  EXPECT_EQ(get<rlimit>(heap()).rlim_cur, space_->stack().size);
  EXPECT_EQ(call(__NR_prlimit64, {0, RLIMIT_STACK, heap(), 0}).result, -EPERM);
  EXPECT_EQ(call(__NR_clock_gettime, {CLOCK_MONOTONIC, heap()}).result, 0);
  EXPECT_LT(get<timespec>(heap()).tv_nsec, 1'000'000'000);
  EXPECT_EQ(call(__NR_clock_gettime, {CLOCK_PROCESS_CPUTIME_ID, heap()}).result, -EINVAL);
  EXPECT_EQ(call(__NR_clock_gettime, {kTop, heap()}).result, -EINVAL);
  EXPECT_EQ(call(__NR_ioctl, {1, 0x5413, heap()}).result, -ENOTTY);
  EXPECT_EQ(call(__NR_openat, {0, heap(), O_RDONLY}).result, -ENOENT);
  EXPECT_EQ(call(__NR_lseek, {0, 0, 0}).result, -ESPIPE);
  EXPECT_EQ(call(__NR_close, {3}).result, -EBADF);
}

TEST_F(ProcessTest, EveryResultNeedsMemoryTheGuestMayWrite) {
  for (const std::uint64_t bad : {std::uint64_t{1}, std::uint64_t{0x400000}, std::uint64_t{WARMFORK_SYSTEM_BASE},
                                  space_->stack().end().value - 4, kTop - 7}) {
    SCOPED_TRACE(bad);
    EXPECT_EQ(call(__NR_uname, {bad}).result, -EFAULT);
    EXPECT_EQ(call(__NR_fstat, {0, bad}).result, -EFAULT);
    EXPECT_EQ(call(__NR_getrandom, {bad, 16}).result, -EFAULT);
    EXPECT_EQ(call(__NR_clock_gettime, {CLOCK_MONOTONIC, bad}).result, -EFAULT);
    EXPECT_EQ(call(__NR_gettimeofday, {bad, 0}).result, -EFAULT);
    EXPECT_EQ(call(__NR_time, {bad}).result, -EFAULT);
    EXPECT_EQ(call(__NR_getrlimit, {RLIMIT_STACK, bad}).result, -EFAULT);
    EXPECT_EQ(call(__NR_arch_prctl, {ARCH_GET_FS, bad}).result, -EFAULT);
  }
}

// Any call with any arguments: the host survives, errors are Linux's, and what the guest may not write stays as it is.
TEST_F(ProcessTest, RandomCallsLeaveTheImageAlone) {
  test::Random random;
  std::vector<std::uint64_t> values{0,
                                    1,
                                    2,
                                    3,
                                    7,
                                    8,
                                    kPage,
                                    2 * kPage,
                                    65536,
                                    0x7ffff000,
                                    0x400000,
                                    0x402000,
                                    0x405000,
                                    std::uint64_t{1} << 31,
                                    std::uint64_t{1} << 32,
                                    x86::kMaxVirtual - kPage,
                                    x86::kMaxVirtual,
                                    std::uint64_t{1} << 63,
                                    kTop - kPage + 1,
                                    kTop - 7,
                                    kTop,
                                    WARMFORK_SYSTEM_BASE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                                    kAnonymous,
                                    heap(),
                                    heap(kPage),
                                    heap(8 * kPage),
                                    heap(63 * kPage),
                                    heap(64 * kPage),
                                    space_->stack().begin.value,
                                    space_->stack().end().value,
                                    space_->call_area().end().value + kPage};
  const auto table = syscall_table();
  for (int round = 0; round < 20'000; ++round) {
    const auto number = random.one_in(20) ? random.word() : table[random.below(table.size())].number;
    SyscallRequest request{number, {}};
    for (std::uint64_t& argument : request.arguments) {
      argument = values[random.below(values.size())];
      if (random.one_in(4)) argument += random.below(64) - 32;
    }
    const SyscallOutcome outcome = process_->serve(request);
    if (outcome.result < 0) ASSERT_GT(outcome.result, -4096) << syscall_name(number);
    ASSERT_FALSE(outcome.interrupted);
    if (round % 100 != 0) continue;
    std::vector<std::byte> image(kPage);
    ASSERT_TRUE(space_->read(Gva{0x400000}, image));
    ASSERT_TRUE(std::ranges::equal(image, std::span(program_.bytes).first(kPage)));
    ASSERT_EQ(*space_->exception_frame(8), std::vector<std::uint64_t>(8));
    ASSERT_LT(process_->fs_base(), x86::kMaxVirtual);
  }
}

}  // namespace
}  // namespace warmfork::linux_abi
