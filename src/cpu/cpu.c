/* Asking the processor. See cpu.h. */
#include "cpu/cpu.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Each feature with those it builds on; a feature goes when one of them goes. */
static const struct feature {
  const char *name;
  unsigned bit, needs;
} features[] = {
    {"avx2", CPU_AVX2, 0},          {"avx512", CPU_AVX512, CPU_AVX2},
    {"vnni", CPU_VNNI, CPU_AVX512}, {"bf16", CPU_BF16, CPU_AVX512},
    {"neon", CPU_NEON, 0},
};

#define N_FEATURES (sizeof features / sizeof features[0])

static pthread_once_t asked = PTHREAD_ONCE_INIT;
static unsigned native_features, masked_features;
static char brand[64] = "unknown";

static unsigned without_orphans(unsigned set) {
  for (size_t i = 0; i < N_FEATURES; i++) {
    if ((set & features[i].needs) != features[i].needs) {
      set &= ~features[i].bit;
    }
  }
  return set;
}

#if defined(__x86_64__)
/* XCR0: bits 1 and 2 are SSE and AVX state, 5 to 7 the AVX-512 state. */
static uint32_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static unsigned ask_features(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
    return 0;
  }
  uint32_t leaf1 = c, state = saved_state(), wanted = bit_FMA | bit_AVX | bit_F16C;
  if ((leaf1 & wanted) != wanted || (state & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    return 0;
  }
  unsigned set = 0;
  if ((b & bit_AVX2) && (b & bit_BMI2)) {
    set |= CPU_AVX2;
  }
  wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  if ((b & wanted) == wanted && (state & 0xe6) == 0xe6) {
    set |= CPU_AVX512;
    set |= c & bit_AVX512VNNI ? CPU_VNNI : 0;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
      set |= a & 1 << 5 ? CPU_BF16 : 0;
    }
  }
  return without_orphans(set);
}

/* Leaves 0x80000002 to 4 hold 48 bytes of text, padded with spaces. */
static void ask_brand(void) {
  uint32_t words[12];
  if ((unsigned)__get_cpuid_max(0x80000000, NULL) < 0x80000004u) {
    return;
  }
  for (unsigned i = 0; i < 3; i++) {
    uint32_t *w = words + 4 * i;
    __get_cpuid(0x80000002 + i, &w[0], &w[1], &w[2], &w[3]);
  }
  char text[sizeof words + 1] = {0};
  memcpy(text, words, sizeof words);
  const char *start = text + strspn(text, " ");
  size_t n = strlen(start);
  while (n > 0 && start[n - 1] == ' ') {
    n--;
  }
  if (n > 0) {
    memcpy(brand, start, n);
    brand[n] = '\0';
  }
}
#elif defined(__aarch64__)
static unsigned ask_features(void) {
  return CPU_NEON;
} /* part of the base architecture */
static void ask_brand(void) {
  strcpy(brand, "arm64");
}
#else
static unsigned ask_features(void) {
  return 0;
}
static void ask_brand(void) {
}
#endif

static void ask(void) {
  native_features = ask_features();
  masked_features = cpu_features_masked_by(native_features, getenv("VECMILL_CPU"), NULL);
  ask_brand();
}

unsigned cpu_features(void) {
  pthread_once(&asked, ask);
  return masked_features;
}

unsigned cpu_features_native(void) {
  pthread_once(&asked, ask);
  return native_features;
}

const char *cpu_brand(void) {
  pthread_once(&asked, ask);
  return brand;
}

unsigned cpu_features_masked_by(unsigned native, const char *mask, const char **unknown_out) {
  if (unknown_out != NULL) {
    *unknown_out = NULL;
  }
  while (mask != NULL && *mask != '\0') {
    size_t n = strcspn(mask, ",");
    bool known = n == 0;
    for (size_t i = 0; i < N_FEATURES; i++) {
      if (mask[0] == '-' && n == strlen(features[i].name) + 1 &&
          memcmp(mask + 1, features[i].name, n - 1) == 0) {
        native &= ~features[i].bit;
        known = true;
      }
    }
    if (!known && unknown_out != NULL && *unknown_out == NULL) {
      *unknown_out = mask;
    }
    mask += n + (mask[n] == ',');
  }
  return without_orphans(native);
}

const char *cpu_feature_name(unsigned feature) {
  for (size_t i = 0; i < N_FEATURES; i++) {
    if (features[i].bit == feature) {
      return features[i].name;
    }
  }
  return NULL;
}
