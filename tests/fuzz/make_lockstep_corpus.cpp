// Makes the first inputs of fuzz_lc3_lockstep: small programs of every generator.
#include "base/file.hpp"
#include "lc3/lockstep/bytes.hpp"
#include "lc3/lockstep/generators.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  using namespace warmfork;
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_lockstep_corpus FOLDER\n");
    return 2;
  }
  for (const lc3::LockstepGenerator& generator : lc3::lockstep_generators()) {
    constexpr std::size_t kSmall = 400;
    int made = 0;
    for (std::uint64_t seed = 1; made < 3 && seed < 1000; ++seed) {
      const auto bytes = lc3::case_to_bytes(lc3::generate(generator, seed, 10'000));
      if (bytes.size() > kSmall && seed < 500) continue;
      ++made;
      const std::string file = fmt::format("{}/{}_{}", argv[1], generator.name, seed);
      if (!write_file(file, bytes.data(), bytes.size())) return 1;
    }
  }
  return 0;
}
