// Writes an exception port itself, as if the processor had raised a page fault.
#include "warmfork/abi/layout.h"

int main() { asm volatile("outb %%al, %0" : : "i"(WARMFORK_PORT_EXCEPTION + 14)); }
