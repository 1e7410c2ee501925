// Masks, as in runtime/masks.py: [H, W, 1], 255 = repaint, 0 = keep (SPEC §2 "mask", §7).
#pragma once

#include <string>
#include <vector>

#include "src/pictures/picture.hpp"

namespace a2edit {

// The seam: beyond this many pixels of the mask nothing of the source changes (SPEC §7: 4-8 px).
constexpr int kFeather = 6;

// What the transparent pixels of a mask picture mean.
enum class Transparent {
  edit,    // the region to repaint
  object,  // not the object: the opaque ones are (reference masks)
};

// Grey to 0 or 255 at one half.
Pixels binarise(const Pixels& mask);

// The union of boxes; every one must lie inside the picture, which is called `of`.
Pixels boxes_mask(const std::vector<Box>& boxes, int width, int height, const std::string& of);

// Resizes, then binarises (SPEC §2); a mask that is not empty does not become so.
Pixels resize_mask(const Pixels& mask, int width, int height);

// Reads a mask for the picture called `of`, `width` by `height` pixels: 0 or 255. Refuses another
// size (unless `resize`) and an empty mask.
Pixels load_mask(const PictureSource& source, const std::string& role, int width, int height,
                 const std::string& of, bool resize, Transparent transparent = Transparent::edit);

// The blending weight of the edit (SPEC §7): 255 on the mask, 0 past the seam.
//
// The mask is dilated by half of `feather` and blurred by the other half, so it falls from 255 at
// the mask's edge to 0 at most `feather` pixels further out, and is never less than the mask.
Pixels feathered(const Pixels& mask, int feather = kFeather);

}  // namespace a2edit
