#pragma once

#include <cstddef>

namespace a2edit {

// out [rows, inner] = high [rows, depth] · low [depth, inner], all float32 in C order.
//
// Every sum is one chain of fused multiply-adds from 0, in the order of `depth`, so that the bytes are
// the same on every processor and for every number of threads. OpenBLAS, which numpy's wheels bring,
// does the same where it has AVX-512, for matrices of two columns or more: there a route merged here
// is Python's to the byte. Its AVX2 kernels keep several sums, which differ in the last bits.
void fused_product(const float* high, const float* low, float* out, std::size_t rows,
                   std::size_t inner, std::size_t depth);

}  // namespace a2edit
