/*
 * What this processor can do. Asked once; then a constant.
 *
 * VECMILL_CPU in the environment masks features so that tests can run every
 * path: a comma-separated list of names to remove, each with a minus sign
 * ("-avx512,-avx2"). Removing a feature removes those that build on it:
 * -avx2 leaves the C reference. An unknown name is reported by doctor.
 * Only cpuid and xgetbv are asked (valgrind knows no more).
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

enum cpu_feature {
  CPU_AVX2 = 1 << 0,   /* AVX2, FMA, F16C, BMI2, with the state saved by the system */
  CPU_AVX512 = 1 << 1, /* F, BW, DQ, VL */
  CPU_VNNI = 1 << 2,   /* AVX512_VNNI */
  CPU_BF16 = 1 << 3,   /* AVX512_BF16 */
  CPU_NEON = 1 << 4    /* arm64 */
};

unsigned cpu_features(void);        /* after VECMILL_CPU */
unsigned cpu_features_native(void); /* before it */
/*
 * *unknown_out (may be NULL): the first item of the mask that names no feature, in place up to its
 * comma; or NULL.
 */
unsigned cpu_features_masked_by(unsigned native, const char *mask, const char **unknown_out);

/* "avx512" and the like for one feature bit; NULL for none. */
const char *cpu_feature_name(unsigned feature);

/* The processor's brand string ("AMD EPYC 9B14"), or "unknown". Static. */
const char *cpu_brand(void);

#endif
