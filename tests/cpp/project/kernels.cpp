// The part of the kernels' headers that any compiler takes: words that a merge of 100 rows shares, and
// the bits of the largest number of float8_e4m3fn.
#include <cstdio>

#include "merge_tile.cuh"

int main() {
  std::printf("%zu %d\n", a2edit::kernels::Board::size(100), a2edit::kernels::e4m3_bits(1000.0F));
  return 0;
}
