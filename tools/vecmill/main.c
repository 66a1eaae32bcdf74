#include <stdio.h>

int main(void) {
  puts("vecmill");
  return 0;
}
