#include "src/core/floats.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>

namespace a2edit {
namespace {

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Half to even of the number that `bits` is, its lowest `cut` bits cut off.
std::uint32_t rounded(std::uint32_t bits, int cut) {
  const std::uint32_t odd = (bits >> cut) & 1;
  return (bits + (std::uint32_t{1} << (cut - 1)) - 1 + odd) >> cut;
}

float from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t exponent = half >> 10 & 31, mantissa = half & 0x3FF;
  if (exponent == 0) return float_of(sign | bits_of(static_cast<float>(mantissa) * 0x1p-24F));
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return float_of(sign | wide << 23 | mantissa << 13);
}

std::uint16_t to_half(float value) {
  const std::uint32_t bits = bits_of(value), size = bits & 0x7FFFFFFF;
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  std::uint32_t half = 0;
  if (size > 0x7F800000) {
    half = 0x7E00 | (size >> 13 & 0x1FF);  // a NaN stays one
  } else if (size >= 0x47800000) {
    half = 0x7C00;
  } else if (size >= 0x38800000) {
    half = rounded(size - (112U << 23), 13);  // a carry out of the mantissa is the next exponent
  } else {
    half = static_cast<std::uint32_t>(std::nearbyint(float_of(size) * 0x1p24F));
  }
  return static_cast<std::uint16_t>(sign | half);
}

std::uint16_t to_bfloat(float value) {
  return std::isnan(value) ? 0x7FC0 : static_cast<std::uint16_t>(rounded(bits_of(value), 16));
}

constexpr std::uint8_t e4m3_nan = 0x7F;
constexpr float e4m3_most = 448;

// Sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, NaN is all ones.
// https://arxiv.org/abs/2209.05433
float from_e4m3(std::uint8_t level) {
  const int exponent = level >> 3 & 15, mantissa = level & 7;
  const float size = (level & 0x7F) == e4m3_nan
                         ? NAN
                         : std::ldexp(static_cast<float>(exponent ? 8 + mantissa : mantissa),
                                      (exponent ? exponent : 1) - 10);
  return level & 0x80 ? -size : size;
}

std::uint8_t to_e4m3(float value) {
  if (std::isnan(value)) return e4m3_nan | (bits_of(value) >> 24 & 0x80);
  const float held = std::fmin(std::fmax(value, -e4m3_most), e4m3_most);
  const std::uint32_t bits = bits_of(held), size = bits & 0x7FFFFFFF;
  // below 2^-6 the numbers lie 2^-9 apart, and their count is their bits
  const std::uint32_t level = float_of(size) < 0x1p-6F
                                  ? static_cast<std::uint32_t>(std::nearbyint(float_of(size) * 512))
                                  : rounded(size, 20) - (120U << 3);
  return static_cast<std::uint8_t>((bits >> 24 & 0x80) | level);
}

template <class Item, class Convert>
void each(const void* from, std::size_t first, std::size_t count, float* into, Convert convert) {
  const auto* bytes = static_cast<const unsigned char*>(from) + first * sizeof(Item);
  for (std::size_t i = 0; i < count; ++i) {
    Item item;
    std::memcpy(&item, bytes + i * sizeof(Item), sizeof item);
    into[i] = convert(item);
  }
}

}  // namespace

void widen(const Array& array, std::size_t first, std::size_t count, float* into) {
  const void* data = array.data();
  switch (array.type()) {
    case Type::float32:
      std::memcpy(into, static_cast<const unsigned char*>(data) + first * sizeof(float),
                  count * sizeof(float));
      return;
    case Type::float16:
      return each<std::uint16_t>(data, first, count, into, from_half);
    case Type::bfloat16:
      return each<std::uint16_t>(data, first, count, into, [](std::uint16_t bits) {
        return float_of(static_cast<std::uint32_t>(bits) << 16);
      });
    case Type::float8_e4m3fn:
      return each<std::uint8_t>(data, first, count, into, from_e4m3);
    case Type::int8:
      return each<std::int8_t>(data, first, count, into,
                               [](std::int8_t level) { return static_cast<float>(level); });
    default:
      throw std::logic_error("widen: neither a floating-point type nor int8");
  }
}

void narrow(const float* values, std::size_t count, Array& into, std::size_t first) {
  const auto store = [&](auto* items, auto convert) {
    for (std::size_t i = 0; i < count; ++i) items[first + i] = convert(values[i]);
  };
  switch (into.type()) {
    case Type::float32:
      std::memcpy(into.writable<float>() + first, values, count * sizeof(float));
      return;
    case Type::float16:
      return store(into.writable<std::uint16_t>(), to_half);
    case Type::bfloat16:
      return store(into.writable<std::uint16_t>(), to_bfloat);
    case Type::float8_e4m3fn:
      return store(into.writable<std::uint8_t>(), to_e4m3);
    default:
      throw std::logic_error("narrow: no floating-point type");
  }
}

}  // namespace a2edit
