#include "src/pictures/layout.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/pictures/boxes.hpp"
#include "src/pictures/resample.hpp"
#include "src/pictures/rounding.hpp"

namespace a2edit {
namespace {

void paste_centred(Pixels& panel, const Pixels& picture, const Box& box) {
  const int top = box.y0 + (box.height() - picture.height) / 2;
  const int left = box.x0 + (box.width() - picture.width) / 2;
  for (int y = 0; y < picture.height; ++y)
    std::copy_n(picture.at(y, 0), static_cast<std::size_t>(picture.width) * 3,
                panel.at(top + y, left));
}

// "(height, width, 3)", or "(height, width)" of a mask, as numpy shows a shape.
std::string shape_text(const Pixels& pixels) {
  return "(" + std::to_string(pixels.height) + ", " + std::to_string(pixels.width) +
         (pixels.channels == 1 ? ")" : ", " + std::to_string(pixels.channels) + ")");
}

}  // namespace

Pixels resize_picture(const Pixels& picture, int width, int height) {
  return resize(picture, width, height, Resampling::lanczos);
}

Pixels cut_out(const Pixels& reference, const Pixels& reference_mask) {
  if (reference.width != reference_mask.width || reference.height != reference_mask.height)
    fail_request("the reference is " + std::to_string(reference.width) + "x" +
                 std::to_string(reference.height) + " and its mask " +
                 std::to_string(reference_mask.width) + "x" +
                 std::to_string(reference_mask.height) + ": both must have one size");
  const Box box = tight_box(reference_mask);
  Pixels out(box.height(), box.width(), 3);
  for (int y = 0; y < out.height; ++y) {
    const std::uint8_t* colour = reference.at(box.y0 + y, box.x0);
    const std::uint8_t* mask = reference_mask.at(box.y0 + y, box.x0);
    std::uint8_t* to = out.at(y, 0);
    for (int x = 0; x < out.width; ++x)
      for (int channel = 0; channel < 3; ++channel) {
        const int blend = *colour++ * mask[x] + 255 * (255 - mask[x]);
        *to++ = static_cast<std::uint8_t>((blend + 127) / 255);
      }
  }
  return out;
}

Pixels contain(const Pixels& picture, int width, int height) {
  const double scale = std::min(static_cast<double>(width) / picture.width,
                                static_cast<double>(height) / picture.height);
  const int fitted_width = std::min(width, std::max(1, rounded(picture.width * scale)));
  const int fitted_height = std::min(height, std::max(1, rounded(picture.height * scale)));
  return resize_picture(picture, fitted_width, fitted_height);
}

Pixels fit_reference(const Pixels& reference, const Pixels& reference_mask, const Box& box,
                     int size) {
  if (!inside(box, size, size))
    fail_request("box " + to_text(box) + " lies outside the " + std::to_string(size) + "x" +
                 std::to_string(size) + " panel");
  Pixels panel(size, size, 3);
  std::fill(panel.data.begin(), panel.data.end(), std::uint8_t{255});
  paste_centred(panel, contain(cut_out(reference, reference_mask), box.width(), box.height()), box);
  return panel;
}

Pixels reference_square(const Pixels& reference, const Pixels& reference_mask, int size,
                        double margin) {
  const int free = rounded(size * margin);
  const Box inner = checked({free, free, size - free, size - free});
  return fit_reference(reference, reference_mask, inner, size);
}

Pixels reference_panel(const Pixels& reference, const Pixels& reference_mask, const Box& box,
                       int size, const std::string& placement) {
  if (placement == "aligned") return fit_reference(reference, reference_mask, box, size);
  if (placement == "centred") return reference_square(reference, reference_mask, size, 0.0);
  fail_request("reference_placement " + repr(placement) + " is unknown: aligned or centred");
}

std::pair<Pixels, Pixels> diptych(const Pixels& panel, const Pixels& scene, const Pixels& mask) {
  const bool alike = panel.height == scene.height && panel.width == scene.width &&
                     scene.height == mask.height && scene.width == mask.width;
  if (!alike)
    fail_request("panel, scene and mask must have one size, got " + shape_text(panel) + ", " +
                 shape_text(scene) + " and " + shape_text(mask));
  Pixels canvas(scene.height, 2 * scene.width, 3);
  Pixels canvas_mask(mask.height, 2 * mask.width, 1);
  const std::size_t row = static_cast<std::size_t>(scene.width) * 3;
  for (int y = 0; y < scene.height; ++y) {
    std::copy_n(panel.at(y, 0), row, canvas.at(y, 0));
    std::copy_n(scene.at(y, 0), row, canvas.at(y, scene.width));
    std::copy_n(mask.at(y, 0), mask.width, canvas_mask.at(y, mask.width));
  }
  return {std::move(canvas), std::move(canvas_mask)};
}

}  // namespace a2edit
