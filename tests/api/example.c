/* The example in C: boot, warm up, freeze; requests from two threads, some of which crash their guest.
 * usage: api_example_c GUEST_PROGRAM (the one of guest.cpp) */
#include "warmfork/warmfork.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 2, REQUESTS = 500 };
#define SECOND UINT64_C(1000000000)

/* The guest's primes are found before it is frozen. */
static int warm_up(void* context, warmfork_master* master, warmfork_error* error) {
  warmfork_call call = WARMFORK_CALL_INIT;
  uint64_t* primes = context;
  const int failed = warmfork_master_find(master, "prepare", &call.function, error);
  return failed ? failed : warmfork_master_call(master, &call, primes, error);
}

static double now_us(void) {
  struct timespec now;
  timespec_get(&now, TIME_UTC);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

typedef struct client {
  warmfork_pool* pool; /* of both threads */
  uint64_t divide;
  double us[REQUESTS];
  int crashed;
  int wrong;
} client;

static void* make_requests(void* context) {
  client* const self = context;
  for (uint64_t i = 0; i < REQUESTS; ++i) {
    const uint64_t divisor = i % 100 == 99 ? 0 : 7;
    uint64_t answer = 0;
    warmfork_call call = WARMFORK_CALL_INIT;
    call.function = self->divide;
    call.arguments[0] = i * 7;
    call.arguments[1] = divisor;
    call.argument_count = 2;
    call.timeout_ns = 2 * SECOND;
    const double begin = now_us();
    const int kind = warmfork_pool_request(self->pool, &call, &answer, NULL);
    self->us[i] = now_us() - begin;
    if (divisor == 0) {
      self->crashed += kind == WARMFORK_GUEST_FAULT;
    } else {
      self->wrong += kind != WARMFORK_OK || answer != i;
    }
  }
  return NULL;
}

static int compare(const void* a, const void* b) {
  const double x = *(const double*)a;
  const double y = *(const double*)b;
  return (x > y) - (x < y);
}

/* A fork of one's own, for a call with a buffer. */
static int use_buffers(warmfork_pool* pool, uint64_t count_words, warmfork_error* error) {
  static const char text[] = "the quick brown fox";
  warmfork_fork* fork = NULL;
  warmfork_call call = WARMFORK_CALL_INIT;
  uint64_t words = 0;
  int failed = warmfork_pool_acquire(pool, 2 * SECOND, &fork, error);
  if (failed) return failed;
  call.function = count_words;
  call.arguments[1] = strlen(text);
  call.argument_count = 2;
  failed = warmfork_fork_write(fork, 0, text, strlen(text), &call.arguments[0], error);
  if (!failed) failed = warmfork_fork_call(fork, &call, &words, error);
  if (!failed) printf("%" PRIu64 " words\n", words);
  warmfork_fork_free(fork); /* it goes back, and is reset */
  return failed;
}

static int use_pool(const warmfork_snapshot* snapshot, warmfork_pool* pool, warmfork_error* error) {
  static client clients[THREADS];
  pthread_t threads[THREADS];
  char text[128];
  warmfork_pool_stats stats = WARMFORK_POOL_STATS_INIT;
  uint64_t divide = 0;
  uint64_t count_words = 0;
  int failed = warmfork_snapshot_find(snapshot, "divide", &divide, error);
  if (!failed) failed = warmfork_snapshot_find(snapshot, "count_words", &count_words, error);
  if (!failed) failed = use_buffers(pool, count_words, error);
  if (failed) return failed;

  warmfork_pool_describe(pool, text, sizeof text);
  printf("a pool: %s\n", text);
  for (int i = 0; i < THREADS; ++i) {
    clients[i].pool = pool;
    clients[i].divide = divide;
    if (pthread_create(&threads[i], NULL, make_requests, &clients[i]) != 0) abort();
  }
  for (int i = 0; i < THREADS; ++i) {
    client* const each = &clients[i];
    pthread_join(threads[i], NULL);
    qsort(each->us, REQUESTS, sizeof each->us[0], compare);
    printf("%d requests, %d crashed, %d wrong; p50 %.1f us, p99 %.1f us\n", REQUESTS, each->crashed, each->wrong,
           each->us[REQUESTS / 2], each->us[REQUESTS * 99 / 100]);
    if (each->wrong != 0 || each->crashed != REQUESTS / 100) failed = WARMFORK_GUEST_FAULT;
  }
  if (failed) {
    snprintf(error->message, sizeof error->message, "answers that cannot be right");
    return failed;
  }
  failed = warmfork_pool_read_stats(pool, &stats, error);
  if (!failed) printf("the pool lent %" PRIu64 " forks, %" PRIu64 " came back crashed\n", stats.acquired, stats.faults);
  return failed;
}

int main(int argc, char** argv) {
  warmfork_boot_options boot = WARMFORK_BOOT_OPTIONS_INIT;
  warmfork_pool_options options = WARMFORK_POOL_OPTIONS_INIT;
  warmfork_snapshot* snapshot = NULL;
  warmfork_pool* pool = NULL;
  warmfork_error error;
  uint64_t primes = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s GUEST_PROGRAM\n", argv[0]);
    return 2;
  }
  boot.memory_bytes = 4 << 20;
  boot.timeout_ns = 10 * SECOND;
  boot.warm_up = warm_up;
  boot.warm_up_context = &primes;
  options.ready = THREADS;

  int failed = warmfork_snapshot_boot(argv[1], &boot, &snapshot, &error);
  if (!failed) {
    printf("warmed up: %" PRIu64 " primes\n", primes);
    failed = warmfork_pool_create(snapshot, &options, &pool, &error);
  }
  if (!failed) failed = use_pool(snapshot, pool, &error);
  if (failed) fprintf(stderr, "%s: %s\n", warmfork_kind_name(failed), error.message);
  warmfork_pool_free(pool);
  warmfork_snapshot_free(snapshot);
  return failed ? 1 : 0;
}
