// Sets the trap flag.

int main() { asm volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n nop" ::: "memory", "cc"); }
