// Divides by zero.

int main() { asm volatile("xor %%edx, %%edx\n xor %%ecx, %%ecx\n div %%ecx" ::: "eax", "ecx", "edx", "cc"); }
