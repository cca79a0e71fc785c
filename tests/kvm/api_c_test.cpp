// The C API as an embedder sees it: NULL and sizes, kinds and messages, and that it says what the C++ API says.
#include "kvm_test.hpp"
#include "warmfork/warmfork.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kTimeout = 20'000'000'000;

warmfork_call call_of(std::uint64_t function, std::initializer_list<std::uint64_t> arguments = {},
                      std::uint64_t timeout_ns = kTimeout) {
  warmfork_call call = WARMFORK_CALL_INIT;
  call.function = function;
  std::copy(arguments.begin(), arguments.end(), call.arguments);
  call.argument_count = arguments.size();
  call.timeout_ns = timeout_ns;
  return call;
}

warmfork_boot_options small() {
  warmfork_boot_options options = WARMFORK_BOOT_OPTIONS_INIT;
  options.memory_bytes = 160 * 4096;
  options.stack_bytes = 8 * 4096;
  options.call_area_bytes = 2 * 4096;
  options.timeout_ns = kTimeout;
  return options;
}

class ApiCTest : public test::KvmTest {
 protected:
  ~ApiCTest() override {
    warmfork_fork_free(fork_);
    warmfork_pool_free(pool_);
    warmfork_snapshot_free(snapshot_);
  }
  int boot(const std::string& guest, const warmfork_boot_options& options) {
    return warmfork_snapshot_boot(test::test_data(guest + ".elf").c_str(), &options, &snapshot_, &error_);
  }
  void open(const std::string& guest, std::uint64_t most = 2) {
    ASSERT_EQ(boot(guest, small()), WARMFORK_OK) << error_.message;
    warmfork_pool_options options = WARMFORK_POOL_OPTIONS_INIT;
    options.most = most;
    ASSERT_EQ(warmfork_pool_create(snapshot_, &options, &pool_, &error_), WARMFORK_OK) << error_.message;
  }
  void take() { ASSERT_EQ(warmfork_pool_acquire(pool_, kTimeout, &fork_, &error_), WARMFORK_OK) << error_.message; }
  std::uint64_t find(const char* name) {
    std::uint64_t function = 0;
    EXPECT_EQ(warmfork_snapshot_find(snapshot_, name, &function, &error_), WARMFORK_OK) << error_.message;
    return function;
  }
  std::uint64_t request(const warmfork_call& call) {
    std::uint64_t answer = 0;
    EXPECT_EQ(warmfork_pool_request(pool_, &call, &answer, &error_), WARMFORK_OK) << error_.message;
    return answer;
  }
  std::uint64_t call(const warmfork_call& what) {
    std::uint64_t answer = 0;
    EXPECT_EQ(warmfork_fork_call(fork_, &what, &answer, &error_), WARMFORK_OK) << error_.message;
    return answer;
  }

  warmfork_error error_{};
  warmfork_snapshot* snapshot_ = nullptr;
  warmfork_pool* pool_ = nullptr;
  warmfork_fork* fork_ = nullptr;
};

TEST(ApiCValues, KindsHaveNames) {
  EXPECT_STREQ(warmfork_kind_name(WARMFORK_OK), "ok");
  EXPECT_STREQ(warmfork_kind_name(WARMFORK_UNSUPPORTED), "unsupported");
  EXPECT_STREQ(warmfork_kind_name(-5), "unknown");
}

TEST(ApiCValues, NullIsRefusedEverywhere) {
  warmfork_error error{};
  warmfork_snapshot* snapshot = nullptr;
  warmfork_pool* pool = nullptr;
  warmfork_fork* fork = nullptr;
  warmfork_pool_stats stats = WARMFORK_POOL_STATS_INIT;
  const warmfork_call call = WARMFORK_CALL_INIT;
  std::uint64_t value = 0;
  std::array<char, 8> text{'x'};
  EXPECT_EQ(warmfork_snapshot_boot(nullptr, nullptr, &snapshot, &error), WARMFORK_USAGE);
  EXPECT_EQ(error.kind, WARMFORK_USAGE);
  EXPECT_THAT(error.message, HasSubstr("NULL"));
  EXPECT_EQ(warmfork_snapshot_boot("x", nullptr, nullptr, nullptr), WARMFORK_USAGE) << "without an error as well";
  EXPECT_EQ(warmfork_snapshot_boot_bytes(nullptr, 5, nullptr, &snapshot, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_snapshot_save(nullptr, "x", &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_snapshot_load(nullptr, nullptr, &snapshot, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_snapshot_find(nullptr, "x", &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_snapshot_stored_bytes(nullptr), 0U);
  EXPECT_EQ(warmfork_master_find(nullptr, "x", &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_master_call(nullptr, &call, &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_master_write(nullptr, 0, "x", 1, &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_master_read(nullptr, 0, text.data(), 1, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_pool_create(nullptr, nullptr, &pool, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_pool_request(nullptr, &call, &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_pool_acquire(nullptr, 1, &fork, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_pool_read_stats(nullptr, &stats, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_pool_describe(nullptr, text.data(), text.size()), 0U);
  EXPECT_STREQ(text.data(), "");
  EXPECT_EQ(warmfork_fork_call(nullptr, &call, &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_write(nullptr, 0, "x", 1, &value, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_read(nullptr, 0, text.data(), 1, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_reset(nullptr, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_generation(nullptr), 0U);
  EXPECT_EQ(warmfork_fork_fault(nullptr, nullptr, 0), 0U);
  EXPECT_EQ(warmfork_fork_open_channel(nullptr, nullptr, &error), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_close_channel(nullptr, &error), WARMFORK_USAGE);
  warmfork_fork_cancel(nullptr);
  warmfork_pool_close(nullptr);
  warmfork_fork_free(nullptr);
  warmfork_pool_free(nullptr);
  warmfork_snapshot_free(nullptr);
}

TEST_F(ApiCTest, SizesAreTheVersionsOfStructures) {
  // A later version's structure, of which this one knows the beginning.
  struct {
    warmfork_boot_options known;
    std::uint64_t later;
  } longer{small(), 0};
  longer.known.size = sizeof longer;
  EXPECT_EQ(warmfork_snapshot_boot(test::test_data("probe_calls.elf").c_str(), &longer.known, &snapshot_, &error_),
            WARMFORK_OK)
      << error_.message;
  longer.later = 1;
  warmfork_snapshot* none = nullptr;
  EXPECT_EQ(warmfork_snapshot_boot(test::test_data("probe_calls.elf").c_str(), &longer.known, &none, &error_),
            WARMFORK_UNSUPPORTED);
  for (const std::size_t size : {std::size_t{0}, sizeof(warmfork_boot_options) - 1, std::size_t{1} << 30}) {
    warmfork_boot_options wrong = small();
    wrong.size = size;
    EXPECT_EQ(warmfork_snapshot_boot("x", &wrong, &none, &error_), WARMFORK_USAGE);
    EXPECT_THAT(error_.message, HasSubstr("warmfork_boot_options: size is " + std::to_string(size)));
  }
  EXPECT_EQ(none, nullptr);

  warmfork_pool_options pool_options{};
  EXPECT_EQ(warmfork_pool_create(snapshot_, &pool_options, &pool_, &error_), WARMFORK_USAGE);
  EXPECT_EQ(pool_, nullptr);
  EXPECT_EQ(warmfork_pool_create(snapshot_, nullptr, &pool_, &error_), WARMFORK_OK) << error_.message;
  warmfork_call wrong_call{};
  std::uint64_t answer = 99;
  EXPECT_EQ(warmfork_pool_request(pool_, &wrong_call, &answer, &error_), WARMFORK_USAGE);
  EXPECT_EQ(answer, 99U) << "left as it was";
  warmfork_pool_stats stats{};
  EXPECT_EQ(warmfork_pool_read_stats(pool_, &stats, &error_), WARMFORK_USAGE);
  take();
  warmfork_channel_options channel{};
  EXPECT_EQ(warmfork_fork_open_channel(fork_, &channel, &error_), WARMFORK_USAGE);
}

TEST_F(ApiCTest, ErrorsAreThoseOfTheCppApi) {
  EXPECT_EQ(warmfork_snapshot_boot("/nonexistent/program", nullptr, &snapshot_, &error_), WARMFORK_INPUT);
  EXPECT_EQ(error_.kind, WARMFORK_INPUT);
  EXPECT_THAT(error_.message, HasSubstr("/nonexistent/program"));
  const std::string long_path(2000, 'x');
  EXPECT_EQ(warmfork_snapshot_boot(long_path.c_str(), nullptr, &snapshot_, &error_), WARMFORK_INPUT);
  EXPECT_EQ(std::strlen(error_.message), sizeof error_.message - 1) << "cut off";
  EXPECT_EQ(warmfork_snapshot_boot_bytes("not ELF", 7, nullptr, &snapshot_, &error_), WARMFORK_INPUT);
  EXPECT_EQ(boot("musl_static", small()), WARMFORK_GUEST_FAULT);
  warmfork_boot_options options = small();
  options.kvm_device = "/nonexistent/kvm";
  EXPECT_EQ(boot("probe_calls", options), WARMFORK_HOST);
  EXPECT_EQ(snapshot_, nullptr);

  open("probe_calls");
  std::uint64_t value = 0;
  EXPECT_EQ(warmfork_snapshot_find(snapshot_, "no_such_function", &value, &error_), WARMFORK_INPUT);
  warmfork_call call = call_of(find("crash"), {0});
  EXPECT_EQ(warmfork_pool_request(pool_, &call, &value, nullptr), WARMFORK_GUEST_FAULT);
  call = call_of(find("spin"), {}, 1'000'000);
  EXPECT_EQ(warmfork_pool_request(pool_, &call, &value, nullptr), WARMFORK_DEADLINE);
  call = call_of(find("count"));
  call.argument_count = 7;
  EXPECT_EQ(warmfork_pool_request(pool_, &call, &value, &error_), WARMFORK_USAGE);
  call.argument_count = ~std::uint64_t{0};
  EXPECT_EQ(warmfork_pool_request(pool_, &call, &value, &error_), WARMFORK_USAGE);
  call = call_of(find("count"), {}, ~std::uint64_t{0});
  EXPECT_EQ(request(call), 1U);
  EXPECT_EQ(warmfork_pool_request(pool_, &call, nullptr, &error_), WARMFORK_OK) << "an answer nobody wants";

  warmfork_pool* none = nullptr;
  for (std::uint32_t warmfork_pool_options::* const field :
       {&warmfork_pool_options::kind, &warmfork_pool_options::reset, &warmfork_pool_options::policy}) {
    warmfork_pool_options wrong = WARMFORK_POOL_OPTIONS_INIT;
    wrong.*field = ~std::uint32_t{0};
    EXPECT_EQ(warmfork_pool_create(snapshot_, &wrong, &none, &error_), WARMFORK_USAGE);
  }
}

TEST_F(ApiCTest, OptionsAndWarmUpReachTheGuest) {
  struct Seen {
    std::string printed;
    std::uint64_t primes = 0;
  } seen;
  warmfork_boot_options options = small();
  const std::array<const char*, 2> arguments{"you", nullptr};
  const std::array<const char*, 2> environment{"A=1", nullptr};
  options.memory_bytes = 4 << 20;
  options.name = "service";
  options.arguments = arguments.data();
  options.environment = environment.data();
  options.has_seed = 1;
  options.output = [](void* context, int, const char* bytes, std::size_t size) {
    static_cast<Seen*>(context)->printed.append(bytes, size);
  };
  options.output_context = &seen;
  options.warm_up = [](void* context, warmfork_master* master, warmfork_error* error) {
    warmfork_call call = WARMFORK_CALL_INIT;
    std::uint64_t address = 0;
    std::array<char, 3> back{};
    EXPECT_EQ(warmfork_master_write(master, 0, "abc", 3, &address, error), WARMFORK_OK);
    EXPECT_EQ(warmfork_master_write(master, 0, nullptr, 3, &address, error), WARMFORK_USAGE);
    EXPECT_EQ(warmfork_master_read(master, address, back.data(), 3, error), WARMFORK_OK);
    EXPECT_EQ(warmfork_master_read(master, address, nullptr, 3, error), WARMFORK_USAGE);
    EXPECT_EQ(std::memcmp(back.data(), "abc", 3), 0);
    const int failed = warmfork_master_find(master, "prepare", &call.function, error);
    return failed != 0 ? failed : warmfork_master_call(master, &call, &static_cast<Seen*>(context)->primes, error);
  };
  options.warm_up_context = &seen;
  ASSERT_EQ(boot("api_guest", options), WARMFORK_OK) << error_.message;
  EXPECT_EQ(seen.printed, "service is starting, greeting you\n");
  EXPECT_EQ(seen.primes, 9592U);
  EXPECT_GT(warmfork_snapshot_stored_bytes(snapshot_), 0U);
  ASSERT_EQ(warmfork_pool_create(snapshot_, nullptr, &pool_, &error_), WARMFORK_OK) << error_.message;
  EXPECT_EQ(request(call_of(find("nth_prime"), {41})), 181U);
}

TEST_F(ApiCTest, AWarmUpThatFailsSaysWhy) {
  warmfork_boot_options options = small();
  options.warm_up = [](void*, warmfork_master* master, warmfork_error* error) {
    std::uint64_t function = 0;
    return warmfork_master_find(master, "no_such_function", &function, error);
  };
  EXPECT_EQ(boot("probe_calls", options), WARMFORK_INPUT);
  EXPECT_THAT(error_.message, HasSubstr("no_such_function"));
  options.warm_up = [](void*, warmfork_master*, warmfork_error*) -> int { return WARMFORK_LIMIT; };
  EXPECT_EQ(boot("probe_calls", options), WARMFORK_LIMIT);
  EXPECT_THAT(error_.message, HasSubstr("warm-up"));
  options.warm_up = [](void*, warmfork_master*, warmfork_error*) { return 4711; };
  EXPECT_EQ(boot("probe_calls", options), WARMFORK_USAGE);
  options.warm_up = [](void*, warmfork_master*, warmfork_error*) -> int { throw std::runtime_error("not C"); };
  EXPECT_EQ(boot("probe_calls", options), WARMFORK_HOST);
  EXPECT_STREQ(error_.message, "not C");
  EXPECT_EQ(snapshot_, nullptr);
}

TEST_F(ApiCTest, ProgramsAreBytesAsWell) {
  std::ifstream file(test::test_data("probe_calls.elf"), std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  ASSERT_EQ(warmfork_snapshot_boot_bytes(bytes.data(), bytes.size(), nullptr, &snapshot_, &error_), WARMFORK_OK)
      << error_.message;
  ASSERT_EQ(warmfork_pool_create(snapshot_, nullptr, &pool_, &error_), WARMFORK_OK) << error_.message;
  EXPECT_EQ(request(call_of(find("weigh"), {1, 2, 3, 4, 5, 6})), 654321U);
}

TEST_F(ApiCTest, ASnapshotIsAFileForLater) {
  const std::string path = ::testing::TempDir() + "warmfork_api_c_test.snapshot";
  ASSERT_EQ(boot("probe_calls", small()), WARMFORK_OK) << error_.message;
  ASSERT_EQ(warmfork_snapshot_save(snapshot_, path.c_str(), &error_), WARMFORK_OK) << error_.message;
  warmfork_snapshot_free(std::exchange(snapshot_, nullptr));
  ASSERT_EQ(warmfork_snapshot_load(path.c_str(), nullptr, &snapshot_, &error_), WARMFORK_OK) << error_.message;
  ASSERT_EQ(warmfork_pool_create(snapshot_, nullptr, &pool_, &error_), WARMFORK_OK) << error_.message;
  EXPECT_EQ(request(call_of(find("count"))), 1U);
  warmfork_snapshot* none = nullptr;
  EXPECT_EQ(warmfork_snapshot_load("/nonexistent/snapshot", nullptr, &none, &error_), WARMFORK_INPUT);
  EXPECT_EQ(warmfork_snapshot_load(path.c_str(), "/nonexistent/kvm", &none, &error_), WARMFORK_HOST);
  std::remove(path.c_str());
}

TEST_F(ApiCTest, AForkIsCalledReadWrittenResetAndGivenBack) {
  open("probe_calls", 1);
  take();
  const warmfork_call count = call_of(find("count"));
  EXPECT_EQ(call(count), 1U);
  EXPECT_EQ(call(count), 2U);
  std::uint64_t address = 0;
  ASSERT_EQ(warmfork_fork_write(fork_, 9, "drawer", 6, &address, &error_), WARMFORK_OK) << error_.message;
  EXPECT_EQ(call(call_of(find("reverse_bytes"), {address, 6})), address);
  std::array<char, 7> back{};
  ASSERT_EQ(warmfork_fork_read(fork_, address, back.data(), 6, &error_), WARMFORK_OK) << error_.message;
  EXPECT_STREQ(back.data(), "reward");
  EXPECT_EQ(warmfork_fork_read(fork_, 0, back.data(), 6, &error_), WARMFORK_GUEST_FAULT);
  EXPECT_EQ(warmfork_fork_read(fork_, address, nullptr, 6, &error_), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_write(fork_, 0, nullptr, 6, &address, &error_), WARMFORK_USAGE);
  EXPECT_EQ(warmfork_fork_write(fork_, 2 * 4096, "x", 1, &address, &error_), WARMFORK_LIMIT);

  const std::uint64_t generation = warmfork_fork_generation(fork_);
  const warmfork_call crash = call_of(find("crash"), {0});
  EXPECT_EQ(warmfork_fork_fault(fork_, nullptr, 0), 0U);
  EXPECT_EQ(warmfork_fork_call(fork_, &crash, nullptr, &error_), WARMFORK_GUEST_FAULT);
  std::array<char, 12> report{};
  EXPECT_GT(warmfork_fork_fault(fork_, report.data(), report.size()), report.size()) << "as long as it would be";
  EXPECT_STREQ(report.data(), "page fault:");
  ASSERT_EQ(warmfork_fork_reset(fork_, &error_), WARMFORK_OK) << error_.message;
  EXPECT_NE(warmfork_fork_generation(fork_), generation);
  EXPECT_EQ(call(count), 1U);

  warmfork_fork* second = nullptr;
  EXPECT_EQ(warmfork_pool_acquire(pool_, 1, &second, &error_), WARMFORK_DEADLINE);
  EXPECT_EQ(second, nullptr);
  warmfork_pool_stats stats = WARMFORK_POOL_STATS_INIT;
  ASSERT_EQ(warmfork_pool_read_stats(pool_, &stats, &error_), WARMFORK_OK);
  EXPECT_EQ(stats.in_use, 1U);
  warmfork_fork_free(std::exchange(fork_, nullptr));
  EXPECT_EQ(request(count), 1U);
  ASSERT_EQ(warmfork_pool_read_stats(pool_, &stats, &error_), WARMFORK_OK);
  EXPECT_EQ(stats.in_use, 0U);
  EXPECT_EQ(stats.acquired, 2U);
  EXPECT_EQ(stats.size, sizeof stats);
  std::array<char, 12> text{};
  EXPECT_GT(warmfork_pool_describe(pool_, text.data(), text.size()), text.size());
  EXPECT_STREQ(text.data(), "space forks");

  take();
  warmfork_pool_free(std::exchange(pool_, nullptr));
  EXPECT_EQ(call(count), 1U) << "a fork outlives its pool";
}

TEST_F(ApiCTest, ChannelsAndCancellation) {
  open("probe_calls", 1);
  take();
  const warmfork_call count = call_of(find("count"));
  const warmfork_call spin = call_of(find("spin"));
  warmfork_channel_options options = WARMFORK_CHANNEL_OPTIONS_INIT;
  options.polls_before_parking = 1000;
  ASSERT_EQ(warmfork_fork_open_channel(fork_, &options, &error_), WARMFORK_OK) << error_.message;
  for (std::uint64_t i = 1; i < 20; ++i) EXPECT_EQ(call(count), i);
  EXPECT_EQ(warmfork_fork_close_channel(fork_, &error_), WARMFORK_OK) << error_.message;
  options.pin = 1;
  options.cpu = ~std::uint32_t{0};
  EXPECT_EQ(warmfork_fork_open_channel(fork_, &options, &error_), WARMFORK_USAGE);
  ASSERT_EQ(warmfork_fork_open_channel(fork_, nullptr, &error_), WARMFORK_OK) << error_.message;
  for (const bool in_channel : {true, false}) {
    std::thread canceller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      warmfork_fork_cancel(fork_);
    });
    EXPECT_EQ(warmfork_fork_call(fork_, &spin, nullptr, &error_), WARMFORK_CANCELLED) << in_channel;
    canceller.join();
    ASSERT_EQ(warmfork_fork_reset(fork_, &error_), WARMFORK_OK) << error_.message;
    EXPECT_EQ(call(count), 1U);
  }
  warmfork_fork_free(std::exchange(fork_, nullptr));
  warmfork_pool_close(pool_);
  EXPECT_EQ(warmfork_pool_request(pool_, &count, nullptr, &error_), WARMFORK_CANCELLED);
}

}  // namespace
}  // namespace warmfork
