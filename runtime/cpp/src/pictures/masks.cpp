#include "src/pictures/masks.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/pictures/boxes.hpp"
#include "src/pictures/images.hpp"
#include "src/pictures/regions.hpp"
#include "src/pictures/resample.hpp"

namespace a2edit {
namespace {

std::string size_text(int width, int height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

bool any(const Pixels& mask) {
  return std::any_of(mask.data.begin(), mask.data.end(), [](std::uint8_t on) { return on != 0; });
}

// The grey meaning of a mask picture, not yet binarised.
Pixels selection(const Picture& picture, Transparent transparent) {
  if (!picture.alpha) return to_grey(picture.rgb);
  Pixels grey = *picture.alpha;
  if (transparent == Transparent::edit)
    for (std::uint8_t& value : grey.data) value = 255 - value;
  return grey;
}

}  // namespace

Pixels binarise(const Pixels& mask) { return as_mask(at_least_half(mask)); }

Pixels boxes_mask(const std::vector<Box>& boxes, int width, int height, const std::string& of) {
  Pixels mask(height, width, 1);
  for (const Box& box : boxes) {
    if (!inside(checked(box), width, height))
      fail_request("box " + to_text(box) + " lies outside of " + of + ", which is " +
                   size_text(width, height) + " pixels: x runs from 0 to " + std::to_string(width) +
                   ", y from 0 to " + std::to_string(height));
    for (int y = box.y0; y < box.y1; ++y)
      std::fill_n(mask.at(y, box.x0), box.width(), std::uint8_t{255});
  }
  return mask;
}

// Shrinking averages the covered pixels, growing interpolates. Lines too thin to cover half of a
// pixel would vanish: if all of the mask does, whatever it touches is kept instead.
Pixels resize_mask(const Pixels& mask, int width, int height) {
  if (mask.height == height && mask.width == width) return binarise(mask);
  const bool shrinks = width <= mask.width && height <= mask.height;
  Pixels resized =
      binarise(resize(mask, width, height, shrinks ? Resampling::box : Resampling::bilinear));
  if (any(resized)) return resized;
  for (int y = 0; y < mask.height; ++y) {
    const auto row = static_cast<int>(std::int64_t{y} * height / mask.height);
    for (int x = 0; x < mask.width; ++x)
      if (*mask.at(y, x) >= 128)
        *resized.at(row, static_cast<int>(std::int64_t{x} * width / mask.width)) = 255;
  }
  return resized;
}

Pixels load_mask(const PictureSource& source, const std::string& role, int width, int height,
                 const std::string& of, bool resize, Transparent transparent) {
  const Picture picture = load_picture(source, role);
  const Pixels grey = selection(picture, transparent);
  if ((grey.width != width || grey.height != height) && !resize)
    fail_request(picture.name + " is " + size_text(grey.width, grey.height) + ", but " + of +
                 " is " + size_text(width, height) +
                 ": give a mask of the same size, or allow resizing (--resize-mask, "
                 "resize_mask=True)");
  Pixels mask = resize_mask(grey, width, height);
  if (!any(mask)) {
    const int brightest = *std::max_element(grey.data.begin(), grey.data.end());
    const std::string hint = brightest ? "its brightest pixel is " + std::to_string(brightest) +
                                             " of 255, and 128 and more count"
                                       : "all of it is black";
    fail_request(picture.name + " is empty (" + hint +
                 "): paint the region white (or make it transparent)");
  }
  return mask;
}

Pixels feathered(const Pixels& mask, int feather) {
  const int reach = feather / 2;
  Pixels weight = as_mask(dilate(at_least_half(mask), reach));
  for (int pass = 0; pass < reach;
       ++pass)  // repeated boxes are close to a Gaussian, but end for certain
    weight = box_blur(weight);
  for (std::size_t index = 0; index < weight.data.size(); ++index)
    if (mask.data[index] >= 128) weight.data[index] = 255;
  return weight;
}

}  // namespace a2edit
