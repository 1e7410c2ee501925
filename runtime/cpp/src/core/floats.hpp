// The floating-point types that C++ lacks, by their bits (kernels/reference.py).
#pragma once

#include <cstddef>

#include "src/core/tensor.hpp"

namespace a2edit {

// float32 of `count` items of float32, float16, bfloat16, float8_e4m3fn or int8 from place `first` of
// an array on. The array need not be aligned.
void widen(const Array& array, std::size_t first, std::size_t count, float* into);

// float32 rounded to the nearest of `type`, ties to even, into an array of it from place `first` on.
// float8_e4m3fn saturates: what is larger than 448, infinities too, becomes 448.
void narrow(const float* values, std::size_t count, Array& into, std::size_t first);

}  // namespace a2edit
