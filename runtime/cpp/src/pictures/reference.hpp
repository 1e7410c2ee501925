// Where the object is in its reference picture, as in runtime/reference.py (SPEC §7).
#pragma once

#include <optional>

#include "src/pictures/picture.hpp"

namespace a2edit {

// The object's opacity, [H, W, 1], 255 = object, in this order of trust:
//
// 1. the mask that was given (white, or the opaque part of a transparent one);
// 2. the picture's own alpha channel;
// 3. what differs from a plain border and is not joined to it;
// 4. the whole picture.
Pixels object_mask(const Picture& reference, const std::optional<PictureSource>& source,
                   bool resize);

// [H, W, 3] -> [H, W, 1]: 0 on the plain ground that joins the border, 255 elsewhere. All 255 where
// the border is not plain, or nothing is left but ground.
Pixels object_on_plain_ground(const Pixels& picture);

}  // namespace a2edit
