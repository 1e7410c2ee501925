// Pastes the generated window back, in source resolution, as in runtime/compose.py (SPEC §7).
#pragma once

#include "src/pictures/masks.hpp"
#include "src/pictures/picture.hpp"

namespace a2edit {

// The edited picture: [H, W, 3], or [H, W, 4] where the source has transparency.
//
// `generated` is the target's [S, S, 3]. With m the feathered mask (0 outside of the window),
// out = source (1 - m) + generated m; every pixel with m = 0 is the source's, bit for bit, colour
// under transparency included. Where m > 0 the edit lies over the source, so it is opaque inside of
// the mask.
Pixels compose(const Prepared& prepared, const Pixels& generated, int feather = kFeather);

}  // namespace a2edit
