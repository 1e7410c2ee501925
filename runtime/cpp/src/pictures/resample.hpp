// Pillow's Image.resize, convert("L") and BoxBlur(1) on u8 pixels, equal to the bit: the same
// filters, the same fixed-point coefficients, the same rounding.
#pragma once

#include "src/pictures/picture.hpp"

namespace a2edit {

enum class Resampling { box, bilinear, lanczos };

// [h, w, C] -> [height, width, C], every channel for itself; the same pixels where nothing changes.
Pixels resize(const Pixels& picture, int width, int height, Resampling kind);

// [h, w, 3] -> [h, w, 1]: luma by ITU-R 601-2.
Pixels to_grey(const Pixels& rgb);

// [h, w, 1] -> the same: means of 3 along the rows, rounded, then of 3 down the columns. Past the
// edge the edge's pixel goes on.
Pixels box_blur(const Pixels& grey);

}  // namespace a2edit
