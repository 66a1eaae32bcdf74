/* text/tokenizer.h: any bytes as a tokenizer.json are a clear error, or a tokenizer that encodes.
 */
#include <string.h>

#include "fuzz_file.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  static const char text[] =
      "Hello [SEP] <new> caf\xC3\xA9 \xE4\xB8\xAD\xE3\x80\xAE\xCC\x81 ab! \x80 \xED\x95\x9C";
  tokenizer *tok = NULL;
  tok_scratch *scratch = NULL;
  tok_result whole, cut;
  vecmill_error err = {0};
  if (tok_open(fuzz_file(data, n_bytes), &tok, &err) != VECMILL_OK) {
    if (tok || err.status == VECMILL_OK || !err.text[0] || strchr(err.text, '\n')) abort();
    return 0;
  }
  size_t n_special = tok_n_special(tok);
  if (tok_scratch_open(tok, &scratch, &err) != VECMILL_OK) abort();
  if (tok_encode(tok, scratch, text, sizeof text - 1, SIZE_MAX, &whole, &err) != VECMILL_OK)
    abort();
  if (whole.n_ids != whole.n_ids_whole || whole.n_ids < n_special || whole.n_replaced != 1) abort();
  for (size_t i = 0; i < whole.n_ids; i++)
    if (whole.ids[i] < 0 || (size_t)whole.ids[i] >= tok_n_vocab(tok)) abort();
  size_t n_whole = whole.n_ids_whole;
  if (tok_encode(tok, scratch, text, sizeof text - 1, n_special + 3, &cut, &err) != VECMILL_OK)
    abort();
  if (cut.n_ids > n_special + 3 || cut.n_ids_whole != n_whole) abort();
  tok_scratch_close(&scratch);
  tok_close(&tok);
  return 0;
}
