// SHA-256 by OpenSSL's own block function, which uses the processor's instructions for it (SHA-NI); libsodium's is
// portable C. Of OpenSSL only these functions and what they call are linked, into guests too: they allocate nothing,
// need no initialisation and no system call. They are declared here because a guest's build sees no header of the
// host's system (FIPS 180-4; SHA256_Init(3ssl)).
#pragma once

#include "ivshmem/protocol.hpp"

#include <cstddef>
#include <cstdint>

namespace warmfork::ivshmem {

extern "C" {
struct WarmforkSha256 {  // SHA256_CTX of OpenSSL 3
  std::uint32_t h[8];
  std::uint32_t bits_low, bits_high;
  std::uint32_t data[16];
  unsigned num, digest_bytes;
};
int SHA256_Init(WarmforkSha256* context);
int SHA256_Update(WarmforkSha256* context, const void* data, std::size_t bytes);
int SHA256_Final(unsigned char* digest, WarmforkSha256* context);
}

inline void sha256(const unsigned char* data, std::size_t bytes, unsigned char (&digest)[kHashBytes]) {
  WarmforkSha256 context{};
  SHA256_Init(&context);
  SHA256_Update(&context, data, bytes);
  SHA256_Final(digest, &context);
}

}  // namespace warmfork::ivshmem
