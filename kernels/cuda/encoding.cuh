// Eight bits and their scales, bit by bit as kernels/reference.py makes them.
//
// Any C++17 compiler takes this file: CI checks it on a CPU, on every bfloat16. Conversions are
// shifts and additions, since GPUs before sm89 have none to E4M3; divisions and additions round as
// IEEE says, whatever -use_fast_math wants of other code.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define A2EDIT_INLINE __host__ __device__ __forceinline__
#else
#define A2EDIT_INLINE inline
#endif

namespace a2edit::kernels {

enum class Levels { int8, e4m3 };
enum class Scales { float32, bfloat16 };

A2EDIT_INLINE std::uint32_t bits_of(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

A2EDIT_INLINE float float_of(std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

A2EDIT_INLINE float quotient(float x, float y) {
#ifdef __CUDA_ARCH__
  return __fdiv_rn(x, y);
#else
  return x / y;
#endif
}

A2EDIT_INLINE float sum(float x, float y) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(x, y);
#else
  return x + y;
#endif
}

// The bits of float8_e4m3fn: nearest, ties to even, saturating at ±448.
A2EDIT_INLINE std::uint8_t e4m3_bits(float x) {
  const std::uint32_t bits = bits_of(x);
  const auto sign = static_cast<std::uint8_t>(bits >> 24 & 0x80);
  std::uint32_t size = bits & 0x7FFFFFFF;
  if (size > 0x7F800000) return sign | 0x7F;     // a NaN
  size = size < 0x43E00000 ? size : 0x43E00000;  // 448
  std::uint32_t level;
  if (size < 0x3C800000) {
    // Below 2^-6 numbers lie 2^-9 apart: beside 2^14 fp32 rounds to just that, and counts them.
    level = bits_of(sum(float_of(size), 16384.0F)) - 0x46800000;
  } else {
    // From fp32's exponent, bias 127, to bias 7; a carry out of the mantissa is the next one.
    level = ((size + 0x7FFFF + (size >> 20 & 1)) >> 20) - (120 << 3);
  }
  return static_cast<std::uint8_t>(level) | sign;
}

// The nearest within ±127, ties to even, as the bits of int8.
A2EDIT_INLINE std::uint8_t int8_bits(float x) {
  const float clipped = fminf(fmaxf(x, -127.0F), 127.0F);
  return static_cast<std::uint8_t>(static_cast<std::int8_t>(rintf(clipped)));
}

// The bits of bfloat16: nearest, ties to even.
A2EDIT_INLINE std::uint16_t bfloat16_bits(float x) {
  const std::uint32_t bits = bits_of(x);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FC0;  // a carry could make another number of it
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

A2EDIT_INLINE std::uint8_t level_bits(float x, float scale, Levels levels) {
  const float q = quotient(x, scale);
  return levels == Levels::e4m3 ? e4m3_bits(q) : int8_bits(q);
}

// The scale of a row whose largest magnitude is `amax`, as it will be stored; 1 for a row of zeros.
A2EDIT_INLINE float scale_of(float amax, Levels levels, Scales scales) {
  float step = quotient(amax, levels == Levels::e4m3 ? 448.0F : 127.0F);
  if (scales == Scales::bfloat16) {
    step = float_of(static_cast<std::uint32_t>(bfloat16_bits(step)) << 16);
  }
  return step > 0.0F ? step : 1.0F;
}

}  // namespace a2edit::kernels
