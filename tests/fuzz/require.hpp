// A property that must hold for every input: libFuzzer reports the abort together with the input.
#pragma once

#include <cstdio>
#include <cstdlib>

#define WARMFORK_REQUIRE(condition)                                                      \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
