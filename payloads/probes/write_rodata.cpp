// Overwrites a constant.

namespace {
[[gnu::used]] constexpr volatile int kConstant = 42;
}

int main() { *const_cast<volatile int*>(&kConstant) = 43; }
