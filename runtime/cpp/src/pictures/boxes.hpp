// Boxes in pixels, as in runtime/boxes.py: x to the right, y down, half open.
#pragma once

#include <string>

#include "src/pictures/picture.hpp"

namespace a2edit {

// The box itself; refuses one that is empty. It may reach outside of a picture.
Box checked(const Box& box);

// Reads "x0,y0,x1,y1" as the command line gives it.
Box parse_box(const std::string& text);

// "x0,y0,x1,y1"
std::string to_text(const Box& box);

bool inside(const Box& box, int width, int height);

// The part inside a picture; an error where there is none.
Box clip(const Box& box, int width, int height);

Box grown(const Box& box, int margin);

// The smallest box around the pixels >= 128 of a mask, [H, W, 1].
Box tight_box(const Pixels& mask);

}  // namespace a2edit
