// What the model sees, as in runtime/layout.py: the reference's panel, the diptych, the image
// encoder's square. Pure functions on pixels.
#pragma once

#include <string>
#include <utility>

#include "src/pictures/picture.hpp"

namespace a2edit {

// [h, w, 3] -> [height, width, 3] by Lanczos; the same pixels where nothing changes.
Pixels resize_picture(const Pixels& picture, int width, int height);

// The object's tight crop on white; a soft mask (0..255) blends softly.
Pixels cut_out(const Pixels& reference, const Pixels& reference_mask);

// Resizes to fit into width x height, keeping the aspect ratio; never below one pixel.
Pixels contain(const Pixels& picture, int width, int height);

// The left panel of the "aligned" placement: [size, size, 3]. The object, cut out on white, fills
// `box` (the mask's tight box in the target panel) as far as its aspect ratio allows, centred:
// where it lies on the left is where it belongs on the right.
Pixels fit_reference(const Pixels& reference, const Pixels& reference_mask, const Box& box,
                     int size);

// The object on a white square with `margin` of the side free all around: [size, size, 3]. This is
// the picture for the image encoder (SPEC §2, "reference": pad to square).
Pixels reference_square(const Pixels& reference, const Pixels& reference_mask, int size,
                        double margin = 0.1);

// The left panel for a checkpoint's `reference_placement`: "aligned" or "centred".
Pixels reference_panel(const Pixels& reference, const Pixels& reference_mask, const Box& box,
                       int size, const std::string& placement);

// Panel and scene [S, S, 3], mask [S, S, 1] -> canvas [S, 2S, 3], its mask [S, 2S, 1]. The
// reference stands on the left and is never repainted: its half of the mask is 0.
std::pair<Pixels, Pixels> diptych(const Pixels& panel, const Pixels& scene, const Pixels& mask);

}  // namespace a2edit
