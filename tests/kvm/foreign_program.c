/* A program as anybody writes it, for libcs that are not ours: arguments, input, formatted output, heap, floating point. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  (void)argv;
  int* numbers = malloc(2 * sizeof *numbers);
  if (numbers == NULL || scanf("%d %d", &numbers[0], &numbers[1]) != 2) return 1;
  const int sum = numbers[0] + numbers[1];
  printf("arguments %d, sum %d, pi %.5f\n", argc, sum, 4.0 * 0.7853981633974483);
  free(numbers);
  return sum;
}
