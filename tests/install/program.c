/* What a stranger's program needs of an installed libvecmill: one header, one symbol, C and C++. */
#include <stdio.h>
#include <vecmill/status.h>

int main(void) {
  puts(vecmill_status_name(VECMILL_ERROR_NOT_FOUND));
  return 0;
}
