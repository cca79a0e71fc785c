// Executes one privileged instruction; argv[1] says which.
#include <cstring>

int main(int, char** argv) {
  const char* name = argv[1];
  unsigned char table[16] = {};
  if (std::strcmp(name, "hlt") == 0) asm volatile("hlt");
  if (std::strcmp(name, "mov_cr3") == 0) asm volatile("mov %%cr3, %%rax\n mov %%rax, %%cr3" ::: "rax");
  if (std::strcmp(name, "rdmsr") == 0) asm volatile("rdmsr" : : "c"(0xc0000080) : "rax", "rdx");
  if (std::strcmp(name, "wrmsr") == 0) asm volatile("wrmsr" : : "c"(0xc0000080), "a"(0), "d"(0));
  if (std::strcmp(name, "lidt") == 0) asm volatile("lidt %0" : : "m"(table));
  if (std::strcmp(name, "lgdt") == 0) asm volatile("lgdt %0" : : "m"(table));
  if (std::strcmp(name, "ltr") == 0) asm volatile("ltr %%ax" : : "a"(0x40));
  if (std::strcmp(name, "mov_dr7") == 0) asm volatile("mov %%rax, %%dr7" : : "a"(0));
  if (std::strcmp(name, "wbinvd") == 0) asm volatile("wbinvd");
  if (std::strcmp(name, "invlpg") == 0) asm volatile("invlpg (%0)" : : "r"(table));
  if (std::strcmp(name, "clts") == 0) asm volatile("clts");
  if (std::strcmp(name, "xsetbv") == 0) asm volatile("xsetbv" : : "c"(0), "a"(1), "d"(0));
  if (std::strcmp(name, "iretq") == 0) {
    // A frame that would give CPL 0.
    asm volatile(
        "pushq $0x18\n pushq %%rsp\n pushfq\n pushq $0x10\n leaq 1f(%%rip), %%rax\n pushq %%rax\n iretq\n1:\n"
        "mov %%cr3, %%rax" ::
            : "rax", "memory");
  }
  return 0;  // it was allowed
}
