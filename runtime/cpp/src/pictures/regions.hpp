// Regions of yes-or-no pictures, as in runtime/regions.py: connected ground, dilation, outlines.
// Each is linear in the number of pixels.
#pragma once

#include <cstdint>

#include "src/pictures/picture.hpp"

namespace a2edit {

// [H, W, 1] of 0 and 1.
using Bools = Pixels;

// 1 where a mask of u8 is at least half of white.
Bools at_least_half(const Pixels& mask);

// 255 where it is 1.
Pixels as_mask(const Bools& region);

std::int64_t count(const Bools& region);

// Every pixel within `radius` rows and columns of the mask (a square brush).
Bools dilate(const Bools& mask, int radius);

// The pixels of `free` that are 4-connected to a pixel of `free` and `seeds`.
Bools flood(const Bools& free, const Bools& seeds);

// 1 on the outermost rows and columns.
Bools border(int height, int width);

// The mask with the inside of what it encloses (SPEC §7: an open outline means its inside).
//
// 1. Holes are filled, so a closed outline becomes its shape.
// 2. A thin line that is nearly closed (a gap up to about a third of its size) is closed and
// filled.
//    It counts as an outline if that at least doubles its area; a solid scribble stays as it was.
// 3. A thin line whose ends meet one edge, or two neighbouring edges, of the picture is closed by
//    them. A band from one side to the opposite one is a band.
Bools fill_outline(const Bools& mask);

}  // namespace a2edit
