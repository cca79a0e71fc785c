// Says that a vmcall has returned although none was made.
#include "warmfork/abi/layout.h"

int main() { asm volatile("outb %%al, %0" : : "i"(WARMFORK_PORT_RETURN)); }
