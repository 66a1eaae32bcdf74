/*
 * A fuzz target without a fuzzer: hands it the files that the command line names, one by one.
 *
 *   replay-pg_answers FILE..
 */
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n_bytes);

int main(int n_arguments, char **arguments) {
  for (int i = 1; i < n_arguments; i++) {
    FILE *file = fopen(arguments[i], "rb");
    static unsigned char data[1 << 20];
    size_t n_bytes = file ? fread(data, 1, sizeof data, file) : 0;
    if (!file || ferror(file) || !feof(file)) {
      perror(arguments[i]);
      return 1;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, n_bytes);
  }
  return 0;
}
