#include "src/core/product.hpp"

#include <cmath>

namespace a2edit {
namespace {

struct Sizes {
  std::size_t inner, depth;
};

// A block of Rows x Columns sums, which stay in registers; fewer columns at the right edge.
template <int Rows, int Columns>
[[gnu::always_inline]] inline void block_product(const float* high, const float* low, float* out,
                                                 Sizes sizes) {
  float sums[Rows][Columns] = {};
  for (std::size_t k = 0; k < sizes.depth; ++k)
    for (int row = 0; row < Rows; ++row) {
      const float factor = high[static_cast<std::size_t>(row) * sizes.depth + k];
      for (int column = 0; column < Columns; ++column)
        sums[row][column] =
            std::fma(factor, low[k * sizes.inner + static_cast<std::size_t>(column)],
                     sums[row][column]);
    }
  for (int row = 0; row < Rows; ++row)
    for (int column = 0; column < Columns; ++column)
      out[static_cast<std::size_t>(row) * sizes.inner + static_cast<std::size_t>(column)] =
          sums[row][column];
}

template <int Rows, int Columns>
[[gnu::always_inline]] inline void band_product(const float* high, const float* low, float* out,
                                                Sizes sizes) {
  std::size_t column = 0;
  for (; column + Columns <= sizes.inner; column += Columns)
    block_product<Rows, Columns>(high, low + column, out + column, sizes);
  for (; column < sizes.inner; ++column)
    block_product<Rows, 1>(high, low + column, out + column, sizes);
}

template <int Columns>
[[gnu::always_inline]] inline void whole_product(const float* high, const float* low, float* out,
                                                 std::size_t rows, Sizes sizes) {
  constexpr int Rows = 4;
  std::size_t row = 0;
  for (; row + Rows <= rows; row += Rows)
    band_product<Rows, Columns>(high + row * sizes.depth, low, out + row * sizes.inner, sizes);
  for (; row < rows; ++row)
    band_product<1, Columns>(high + row * sizes.depth, low, out + row * sizes.inner, sizes);
}

using Product = void (*)(const float*, const float*, float*, std::size_t, Sizes);

// The same code for every processor; the sums do not depend on the width of its vectors.
void plain(const float* high, const float* low, float* out, std::size_t rows, Sizes sizes) {
  whole_product<16>(high, low, out, rows, sizes);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void avx2(const float* high, const float* low, float* out,
                                              std::size_t rows, Sizes sizes) {
  whole_product<16>(high, low, out, rows, sizes);
}

__attribute__((target("avx512f,fma,prefer-vector-width=512"))) void avx512(
    const float* high, const float* low, float* out, std::size_t rows, Sizes sizes) {
  whole_product<64>(high, low, out, rows, sizes);
}

Product fastest() {
  if (__builtin_cpu_supports("avx512f")) return avx512;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2 : plain;
}
#else
Product fastest() { return plain; }
#endif

}  // namespace

void fused_product(const float* high, const float* low, float* out, std::size_t rows,
                   std::size_t inner, std::size_t depth) {
  static const Product chosen = fastest();
  chosen(high, low, out, rows, {inner, depth});
}

}  // namespace a2edit
