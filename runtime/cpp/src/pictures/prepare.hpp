// From a request to the model's pictures, as in runtime/prepare.py: read, mask, crop a window, lay
// out (SPEC §7).
#pragma once

#include <utility>

#include "src/core/spec.hpp"
#include "src/pictures/picture.hpp"

namespace a2edit {

// Lays out `request` for `model`; an error for what cannot be edited.
Prepared prepare(const Request& request, const ModelSpec& model);

// The square around `box` (a mask's tight box) that the model sees, in source pixels.
//
// The image's short side, held between 1.45 and 1.9 times the object's longer side, so that the
// object fills a half to two thirds of it: a token is 16 pixels, and an object of few tokens has
// few details. An object too big for that gets the short side as a whole; one that is longer than
// the short side gets a square that reaches past the image, and is padded. Never less than a
// quarter of the working size, nor without room for the seam. The window is centred on the object,
// and then moved into the image.
Box context_window(const Box& box, int width, int height, int size);

// Cuts `window` out and scales it: [S, S, 3] and [S, S, 1]. Outside of the image the picture goes
// on with its edge pixels, and the mask is empty.
std::pair<Pixels, Pixels> crop_window(const Pixels& picture, const Pixels& mask, const Box& window,
                                      int size);

}  // namespace a2edit
