// The C functions, over the public C++ ones: nothing here looks behind those.
#include "warmfork/warmfork.h"
#include "warmfork/warmfork.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace api = warmfork::api;

struct warmfork_snapshot {
  api::Snapshot snapshot;
};
struct warmfork_pool {
  api::Pool pool;
};
struct warmfork_fork {
  api::Fork fork;
};
struct warmfork_master {
  api::Master& master;
};

namespace {

static_assert(static_cast<int>(api::ErrorKind::kUsage) == WARMFORK_USAGE);
static_assert(static_cast<int>(api::ErrorKind::kInput) == WARMFORK_INPUT);
static_assert(static_cast<int>(api::ErrorKind::kHost) == WARMFORK_HOST);
static_assert(static_cast<int>(api::ErrorKind::kGuestFault) == WARMFORK_GUEST_FAULT);
static_assert(static_cast<int>(api::ErrorKind::kDeadline) == WARMFORK_DEADLINE);
static_assert(static_cast<int>(api::ErrorKind::kCancelled) == WARMFORK_CANCELLED);
static_assert(static_cast<int>(api::ErrorKind::kLimit) == WARMFORK_LIMIT);
static_assert(static_cast<int>(api::ErrorKind::kUnsupported) == WARMFORK_UNSUPPORTED);
static_assert(static_cast<int>(api::ForkKind::kSpace) == WARMFORK_SPACE);
static_assert(static_cast<int>(api::ForkKind::kVm) == WARMFORK_VM);
static_assert(static_cast<int>(api::ResetMode::kAuto) == WARMFORK_RESET_AUTO);
static_assert(static_cast<int>(api::ResetMode::kFullCopy) == WARMFORK_RESET_FULL_COPY);
static_assert(static_cast<int>(api::ResetMode::kDirtyLog) == WARMFORK_RESET_DIRTY_LOG);
static_assert(static_cast<int>(api::ResetMode::kDirtyRing) == WARMFORK_RESET_DIRTY_RING);
static_assert(static_cast<int>(api::ResetMode::kCowRemap) == WARMFORK_RESET_COW_REMAP);
static_assert(static_cast<int>(api::ResetPolicy::kStrict) == WARMFORK_STRICT);
static_assert(static_cast<int>(api::ResetPolicy::kDeferred) == WARMFORK_DEFERRED);
static_assert(api::Call::kMaxArguments == WARMFORK_MAX_ARGUMENTS);
static_assert(sizeof(warmfork_error) == 512);

// --- Errors ----------------------------------------------------------------------------------------------------------

using Outcome = api::Result<void>;

int report(warmfork_error* error, int kind, std::string_view message, int system_errno = 0) {
  if (error == nullptr) return kind;
  error->kind = kind;
  error->system_errno = system_errno;
  const std::size_t length = std::min(message.size(), sizeof error->message - 1);
  std::memcpy(error->message, message.data(), length);
  error->message[length] = '\0';
  return kind;
}

api::Error usage(std::string message) { return {api::ErrorKind::kUsage, std::move(message)}; }

/// Runs what a C function does, and makes of every way it can end a number.
template <class Body>
int guarded(warmfork_error* error, const Body& body) noexcept {
  try {
    const Outcome outcome = body();
    if (outcome.ok()) return WARMFORK_OK;
    const api::Error& why = outcome.error();
    return report(error, static_cast<int>(why.kind), why.message, why.system_errno);
  } catch (const std::bad_alloc&) {
    return report(error, WARMFORK_HOST, "out of memory");
  } catch (const std::exception& thrown) {
    return report(error, WARMFORK_HOST, thrown.what());
  } catch (...) {
    return report(error, WARMFORK_HOST, "an exception of unknown kind");
  }
}

/// Where none of the pointers is NULL.
template <class Body, class... Pointers>
int guarded_for(warmfork_error* error, const Body& body, const Pointers*... pointers) noexcept {
  if (!((pointers != nullptr) && ...)) return report(error, WARMFORK_USAGE, "a NULL pointer where none may be");
  return guarded(error, body);
}

/// The way of a value to the C caller: only if there is one.
template <class T, class Store>
Outcome hand_over(api::Result<T> result, const Store& store) {
  if (!result.ok()) return result.error();
  store(std::move(result).value());
  return {};
}

// --- What comes in ---------------------------------------------------------------------------------------------------

/// Copies a structure of the caller's, who may know a later version of it. With NULL all is zero.
template <class T>
Outcome copy_in(const T* from, T& to, const char* what) {
  static_assert(std::is_trivially_copyable_v<T>);
  constexpr std::size_t kLargest = 4096;
  to = T{};
  to.size = sizeof(T);
  if (from == nullptr) return {};
  const std::size_t size = from->size;
  if (size < sizeof(T) || size > kLargest) {
    return usage(std::string(what) + ": size is " + std::to_string(size) + ", expected " + std::to_string(sizeof(T)));
  }
  const auto* const bytes = reinterpret_cast<const unsigned char*>(from);
  if (std::any_of(bytes + sizeof(T), bytes + size, [](unsigned char byte) { return byte != 0; })) {
    return api::Error{api::ErrorKind::kUnsupported,
                      std::string(what) + ": something is set that this version does not know"};
  }
  std::memcpy(&to, from, sizeof(T));
  return {};
}

std::optional<std::chrono::nanoseconds> to_timeout(std::uint64_t timeout_ns) {
  if (timeout_ns == 0) return std::nullopt;
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(timeout_ns, kMost)));
}

std::vector<std::string> to_strings(const char* const* list) {
  std::vector<std::string> strings;
  for (; list != nullptr && *list != nullptr; ++list) strings.emplace_back(*list);
  return strings;
}

api::Output to_output(warmfork_output output, void* context) {
  if (output == nullptr) return {};
  return [=](int descriptor, std::string_view bytes) { output(context, descriptor, bytes.data(), bytes.size()); };
}

std::span<const std::byte> to_bytes(const void* bytes, std::size_t size) {
  return {static_cast<const std::byte*>(bytes), size};
}

api::BootOptions to_boot_options(const warmfork_boot_options& from) {
  api::BootOptions to;
  if (from.name != nullptr) to.name = from.name;
  to.arguments = to_strings(from.arguments);
  to.environment = to_strings(from.environment);
  if (from.memory_bytes != 0) to.memory_bytes = from.memory_bytes;
  if (from.stack_bytes != 0) to.stack_bytes = from.stack_bytes;
  if (from.call_area_bytes != 0) to.call_area_bytes = from.call_area_bytes;
  to.timeout = to_timeout(from.timeout_ns);
  if (from.has_seed != 0) to.seed = from.seed;
  to.output = to_output(from.output, from.output_context);
  if (from.kvm_device != nullptr) to.kvm_device = from.kvm_device;
  return to;
}

api::WarmUp to_warm_up(const warmfork_boot_options& options) {
  if (options.warm_up == nullptr) return {};
  return [warm_up = options.warm_up, context = options.warm_up_context](api::Master& master) -> Outcome {
    warmfork_master handle{master};
    warmfork_error error{};
    const int kind = warm_up(context, &handle, &error);
    if (kind == WARMFORK_OK) return {};
    if (error.kind != kind || error.message[0] == '\0') {
      error.system_errno = 0;
      report(&error, kind, "the warm-up function returned " + std::to_string(kind));
    }
    error.message[sizeof error.message - 1] = '\0';
    const bool known = kind >= WARMFORK_USAGE && kind <= WARMFORK_UNSUPPORTED;
    return api::Error{known ? static_cast<api::ErrorKind>(kind) : api::ErrorKind::kUsage, error.message,
                      error.system_errno};
  };
}

template <class Boot>
Outcome boot(const warmfork_boot_options* options, warmfork_snapshot** snapshot, const Boot& boot_program) {
  warmfork_boot_options known;
  if (Outcome copied = copy_in(options, known, "warmfork_boot_options"); !copied) return copied;
  return hand_over(boot_program(to_boot_options(known), to_warm_up(known)),
                   [&](api::Snapshot made) { *snapshot = new warmfork_snapshot{std::move(made)}; });
}

/// Makes `call` and stores the answer. `make` has the call.
template <class Make>
Outcome make_call(const warmfork_call* from, std::uint64_t* answer, const Make& make) {
  warmfork_call call;
  if (Outcome copied = copy_in(from, call, "warmfork_call"); !copied) return copied;
  if (call.argument_count > WARMFORK_MAX_ARGUMENTS) {
    return usage("a call with " + std::to_string(call.argument_count) + " arguments, at most 6");
  }
  api::Call made(api::Function{call.function});
  made.with(std::span(call.arguments).first(call.argument_count));
  if (const auto timeout = to_timeout(call.timeout_ns)) made.within(*timeout);
  return hand_over(make(made), [&](std::uint64_t value) {
    if (answer != nullptr) *answer = value;
  });
}

std::size_t copy_text(std::string_view from, char* text, std::size_t size) {
  if (text != nullptr && size != 0) {
    const std::size_t length = std::min(from.size(), size - 1);
    std::memcpy(text, from.data(), length);
    text[length] = '\0';
  }
  return from.size();
}

/// For functions that return a text's length and no error.
template <class Describe>
std::size_t guarded_text(char* text, std::size_t size, const Describe& describe) noexcept {
  std::size_t length = copy_text("", text, size);
  (void)guarded(nullptr, [&]() -> Outcome {
    length = copy_text(describe(), text, size);
    return {};
  });
  return length;
}

bool no_bytes(const void* bytes, std::size_t size) { return bytes == nullptr && size != 0; }

}  // namespace

extern "C" {

const char* warmfork_kind_name(int kind) {
  if (kind == WARMFORK_OK) return "ok";
  return api::name_of(static_cast<api::ErrorKind>(kind)).data();  // all of them are literals
}

// --- Snapshots -------------------------------------------------------------------------------------------------------

int warmfork_snapshot_boot(const char* path, const warmfork_boot_options* options, warmfork_snapshot** snapshot,
                           warmfork_error* error) {
  return guarded_for(
      error,
      [&] {
        return boot(options, snapshot, [&](const api::BootOptions& with, const api::WarmUp& warm_up) {
          return api::Snapshot::boot(std::string(path), with, warm_up);
        });
      },
      path, snapshot);
}

int warmfork_snapshot_boot_bytes(const void* elf, size_t elf_size, const warmfork_boot_options* options,
                                 warmfork_snapshot** snapshot, warmfork_error* error) {
  return guarded_for(
      error,
      [&] {
        return boot(options, snapshot, [&](const api::BootOptions& with, const api::WarmUp& warm_up) {
          return api::Snapshot::boot(to_bytes(elf, elf_size), with, warm_up);
        });
      },
      static_cast<const char*>(elf), snapshot);
}

int warmfork_snapshot_save(const warmfork_snapshot* snapshot, const char* path, warmfork_error* error) {
  return guarded_for(error, [&] { return snapshot->snapshot.save(path); }, snapshot, path);
}

int warmfork_snapshot_load(const char* path, const char* kvm_device, warmfork_snapshot** snapshot,
                           warmfork_error* error) {
  return guarded_for(
      error,
      [&] {
        return hand_over(api::Snapshot::load(path, kvm_device == nullptr ? "/dev/kvm" : kvm_device),
                         [&](api::Snapshot loaded) { *snapshot = new warmfork_snapshot{std::move(loaded)}; });
      },
      path, snapshot);
}

int warmfork_snapshot_find(const warmfork_snapshot* snapshot, const char* name, uint64_t* function,
                           warmfork_error* error) {
  return guarded_for(
      error,
      [&] { return hand_over(snapshot->snapshot.find(name), [&](api::Function found) { *function = found.address; }); },
      snapshot, name, function);
}

uint64_t warmfork_snapshot_stored_bytes(const warmfork_snapshot* snapshot) {
  return snapshot == nullptr ? 0 : snapshot->snapshot.stored_bytes();
}

void warmfork_snapshot_free(warmfork_snapshot* snapshot) { delete snapshot; }

// --- The master ------------------------------------------------------------------------------------------------------

int warmfork_master_find(warmfork_master* master, const char* name, uint64_t* function, warmfork_error* error) {
  return guarded_for(
      error,
      [&] { return hand_over(master->master.find(name), [&](api::Function found) { *function = found.address; }); },
      master, name, function);
}

int warmfork_master_call(warmfork_master* master, const warmfork_call* call, uint64_t* answer, warmfork_error* error) {
  return guarded_for(
      error, [&] { return make_call(call, answer, [&](const api::Call& made) { return master->master.call(made); }); },
      master, call);
}

int warmfork_master_write(warmfork_master* master, uint64_t offset, const void* bytes, size_t size, uint64_t* address,
                          warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        if (no_bytes(bytes, size)) return usage("no bytes to write");
        return hand_over(master->master.write(offset, to_bytes(bytes, size)), [&](std::uint64_t at) { *address = at; });
      },
      master, address);
}

int warmfork_master_read(warmfork_master* master, uint64_t address, void* bytes, size_t size, warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        if (no_bytes(bytes, size)) return usage("no room to read to");
        return master->master.read(address, {static_cast<std::byte*>(bytes), size});
      },
      master);
}

// --- Pools -----------------------------------------------------------------------------------------------------------

int warmfork_pool_create(const warmfork_snapshot* snapshot, const warmfork_pool_options* options, warmfork_pool** pool,
                         warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        warmfork_pool_options known;
        if (Outcome copied = copy_in(options, known, "warmfork_pool_options"); !copied) return copied;
        api::PoolOptions chosen;
        // Numbers that are in no enum are refused by the pool.
        chosen.kind = static_cast<api::ForkKind>(known.kind);
        chosen.reset = static_cast<api::ResetMode>(known.reset);
        chosen.policy = static_cast<api::ResetPolicy>(known.policy);
        if (known.ready != 0) chosen.ready = known.ready;
        if (known.most != 0) chosen.most = known.most;
        chosen.timeout = to_timeout(known.timeout_ns);
        if (known.has_seed != 0) chosen.seed = known.seed;
        chosen.heap_limit_bytes = known.heap_limit_bytes;
        chosen.instruction_budget = known.instruction_budget;
        chosen.output = to_output(known.output, known.output_context);
        return hand_over(api::Pool::create(snapshot->snapshot, chosen),
                         [&](api::Pool made) { *pool = new warmfork_pool{std::move(made)}; });
      },
      snapshot, pool);
}

int warmfork_pool_request(warmfork_pool* pool, const warmfork_call* call, uint64_t* answer, warmfork_error* error) {
  return guarded_for(
      error, [&] { return make_call(call, answer, [&](const api::Call& made) { return pool->pool.request(made); }); },
      pool, call);
}

int warmfork_pool_acquire(warmfork_pool* pool, uint64_t timeout_ns, warmfork_fork** fork, warmfork_error* error) {
  return guarded_for(
      error,
      [&] {
        return hand_over(pool->pool.acquire(to_timeout(timeout_ns)),
                         [&](api::Fork taken) { *fork = new warmfork_fork{std::move(taken)}; });
      },
      pool, fork);
}

void warmfork_pool_close(warmfork_pool* pool) {
  (void)guarded_for(
      nullptr,
      [&]() -> Outcome {
        pool->pool.close();
        return {};
      },
      pool);
}

int warmfork_pool_read_stats(const warmfork_pool* pool, warmfork_pool_stats* stats, warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        if (stats->size < sizeof(warmfork_pool_stats)) return usage("warmfork_pool_stats: size is not set");
        const api::PoolStats now = pool->pool.stats();
        const warmfork_pool_stats known{.size = stats->size,
                                        .acquired = now.acquired,
                                        .waited = now.waited,
                                        .faults = now.faults,
                                        .deadlines = now.deadlines,
                                        .replaced = now.replaced,
                                        .forks = now.forks,
                                        .vcpus = now.vcpus,
                                        .in_use = now.in_use};
        std::memcpy(stats, &known, sizeof known);
        return {};
      },
      pool, stats);
}

size_t warmfork_pool_describe(const warmfork_pool* pool, char* text, size_t size) {
  return guarded_text(text, size, [&] { return pool == nullptr ? std::string() : pool->pool.describe(); });
}

void warmfork_pool_free(warmfork_pool* pool) { delete pool; }

// --- Forks -----------------------------------------------------------------------------------------------------------

int warmfork_fork_call(warmfork_fork* fork, const warmfork_call* call, uint64_t* answer, warmfork_error* error) {
  return guarded_for(
      error, [&] { return make_call(call, answer, [&](const api::Call& made) { return fork->fork.call(made); }); },
      fork, call);
}

int warmfork_fork_write(warmfork_fork* fork, uint64_t offset, const void* bytes, size_t size, uint64_t* address,
                        warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        if (no_bytes(bytes, size)) return usage("no bytes to write");
        return hand_over(fork->fork.write(offset, to_bytes(bytes, size)), [&](std::uint64_t at) { *address = at; });
      },
      fork, address);
}

int warmfork_fork_read(warmfork_fork* fork, uint64_t address, void* bytes, size_t size, warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        if (no_bytes(bytes, size)) return usage("no room to read to");
        return fork->fork.read(address, {static_cast<std::byte*>(bytes), size});
      },
      fork);
}

int warmfork_fork_reset(warmfork_fork* fork, warmfork_error* error) {
  return guarded_for(error, [&] { return fork->fork.reset(); }, fork);
}

uint64_t warmfork_fork_generation(const warmfork_fork* fork) { return fork == nullptr ? 0 : fork->fork.generation(); }

void warmfork_fork_cancel(warmfork_fork* fork) {
  if (fork != nullptr) fork->fork.cancel();
}

size_t warmfork_fork_fault(const warmfork_fork* fork, char* text, size_t size) {
  return guarded_text(text, size, [&] { return fork == nullptr ? std::string() : fork->fork.fault(); });
}

int warmfork_fork_open_channel(warmfork_fork* fork, const warmfork_channel_options* options, warmfork_error* error) {
  return guarded_for(
      error,
      [&]() -> Outcome {
        warmfork_channel_options known;
        if (Outcome copied = copy_in(options, known, "warmfork_channel_options"); !copied) return copied;
        api::ChannelOptions chosen;
        if (known.polls_before_parking == std::numeric_limits<std::uint64_t>::max()) {
          chosen.polls_before_parking = 0;
        } else if (known.polls_before_parking != 0) {
          chosen.polls_before_parking = known.polls_before_parking;
        }
        if (const auto spin = to_timeout(known.spin_ns)) chosen.spin = *spin;
        if (known.pin != 0) {
          if (known.cpu > static_cast<std::uint32_t>(std::numeric_limits<int>::max()))
            return usage("no such processor");
          chosen.cpu = static_cast<int>(known.cpu);
        }
        return fork->fork.open_channel(chosen);
      },
      fork);
}

int warmfork_fork_close_channel(warmfork_fork* fork, warmfork_error* error) {
  return guarded_for(error, [&] { return fork->fork.close_channel(); }, fork);
}

void warmfork_fork_free(warmfork_fork* fork) { delete fork; }

}  // extern "C"
