// Executes an undefined instruction.

int main() { asm volatile("ud2"); }
