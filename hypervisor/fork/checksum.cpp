#include "fork/checksum.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace warmfork {
namespace {

XXH3_state_t* native(void* state) { return static_cast<XXH3_state_t*>(state); }

}  // namespace

std::string to_text(const Checksum& checksum) { return fmt::format("{:016x}{:016x}", checksum.high, checksum.low); }

Checksum checksum_of(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

// SAFETY: a State is never anything but XXH3_createState()'s object; the name only hides the library's type.
Checksummer::Checksummer() : state_(reinterpret_cast<State*>(XXH3_createState())) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(native(state_.get()));
}

void Checksummer::Free::operator()(State* state) const { XXH3_freeState(native(state)); }

void Checksummer::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(native(state_.get()), bytes.data(), bytes.size());
}

Checksum Checksummer::result() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(native(state_.get()));
  return {hash.low64, hash.high64};
}

}  // namespace warmfork
