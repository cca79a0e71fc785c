// Asks for more memory than there is, in one piece and in many; then shows that what it got works.
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main() {
  void* volatile absurd = std::malloc(std::size_t{1} << 40);
  if (absurd != nullptr) return 1;
  std::size_t pieces = 0;
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  while (void* volatile piece = std::malloc(kPiece)) {
    std::memset(piece, static_cast<int>(pieces), kPiece);
    ++pieces;
  }
  std::printf("%zu\n", pieces);
  return pieces > 0 ? 0 : 2;
}
