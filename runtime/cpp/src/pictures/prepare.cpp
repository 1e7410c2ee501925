#include "src/pictures/prepare.hpp"

#include <algorithm>
#include <tuple>

#include "src/core/error.hpp"
#include "src/pictures/boxes.hpp"
#include "src/pictures/images.hpp"
#include "src/pictures/layout.hpp"
#include "src/pictures/masks.hpp"
#include "src/pictures/reference.hpp"
#include "src/pictures/regions.hpp"
#include "src/pictures/rounding.hpp"

namespace a2edit {
namespace {

// The object fills between 1/kSideMost and 1/kSideLeast of the window's side where the image allows
// it; where the object leaves less room than that, a quarter more than it needs.
constexpr double kSideLeast = 1.45;
constexpr double kSideMost = 1.9;
constexpr double kSideTight = 1.25;

// Mask and boxes of the request together.
Pixels region_of(const Request& request, const Picture& scene) {
  const int width = scene.rgb.width, height = scene.rgb.height;
  Pixels region = boxes_mask(request.boxes, width, height, scene.name);
  if (request.mask) {
    const Pixels mask =
        load_mask(*request.mask, "mask", width, height, scene.name, request.resize_mask);
    const Pixels shape = as_mask(fill_outline(at_least_half(mask)));
    std::transform(region.data.begin(), region.data.end(), shape.data.begin(), region.data.begin(),
                   [](std::uint8_t one, std::uint8_t other) { return std::max(one, other); });
  }
  return region;
}

// Of a window along one side of the image.
int start_of(int twice_centre, int side, int length) {
  if (side > length) return floor_half(length - side);
  return std::min(std::max(floor_half(twice_centre - side), 0), length - side);
}

// `window` of the picture; past the edge the edge's pixel goes on if `edge`, else it is 0.
Pixels cut(const Pixels& picture, const Box& window, bool edge) {
  Pixels out(window.height(), window.width(), picture.channels);
  const Box part = clip(window, picture.width, picture.height);
  const int channels = picture.channels;
  for (int y = 0; y < out.height; ++y) {
    const int row = std::clamp(window.y0 + y, part.y0, part.y1 - 1);
    if (!edge && row != window.y0 + y) continue;
    std::uint8_t* to = out.at(y, part.x0 - window.x0);
    std::copy_n(picture.at(row, part.x0), static_cast<std::size_t>(part.width()) * channels, to);
    if (!edge) continue;
    for (int x = 0; x < part.x0 - window.x0; ++x)
      std::copy_n(picture.at(row, part.x0), channels, out.at(y, x));
    for (int x = part.x1 - window.x0; x < out.width; ++x)
      std::copy_n(picture.at(row, part.x1 - 1), channels, out.at(y, x));
  }
  return out;
}

}  // namespace

Prepared prepare(const Request& request, const ModelSpec& model) {
  const int size = model.chosen(request.size);
  Picture scene = load_picture(request.image, "image");
  Pixels source_mask = region_of(request, scene);
  const Picture reference = load_picture(request.reference, "reference");
  const Pixels reference_mask = object_mask(reference, request.reference_mask, request.resize_mask);
  // under a given mask the picture counts as it looks; under its own alpha, as it is stored
  const bool as_seen = request.reference_mask && reference.alpha;
  const Pixels object_on_white = as_seen ? on_white(reference) : Pixels();
  const Pixels& object_rgb = as_seen ? object_on_white : reference.rgb;

  Prepared prepared;
  prepared.window = context_window(tight_box(source_mask), scene.rgb.width, scene.rgb.height, size);
  const Pixels scene_on_white = scene.alpha ? on_white(scene) : Pixels();
  const Pixels& scene_rgb = scene.alpha ? scene_on_white : scene.rgb;
  auto [picture, mask] = crop_window(scene_rgb, source_mask, prepared.window, size);
  if (model.diptych()) {
    const Pixels panel = reference_panel(object_rgb, reference_mask, tight_box(mask), size,
                                         model.reference_placement);
    std::tie(picture, mask) = diptych(panel, picture, mask);
  }
  prepared.canvas = std::move(picture);
  prepared.mask = std::move(mask);
  prepared.reference = reference_square(object_rgb, reference_mask, model.reference_size);
  prepared.source = std::move(scene.rgb);
  prepared.source_mask = std::move(source_mask);
  prepared.alpha = std::move(scene.alpha);
  prepared.icc = std::move(scene.icc);
  return prepared;
}

Box context_window(const Box& box, int width, int height, int size) {
  const int longer = std::max(box.width(), box.height());
  const int shorter_side = std::min(width, height), longer_side = std::max(width, height);
  const int least = std::max(longer + 2 * (kFeather + 2), size / 4);
  double side =
      std::max(std::min(std::max<double>(shorter_side, kSideLeast * longer), kSideMost * longer),
               static_cast<double>(least));
  if (side > shorter_side)
    side = std::max({static_cast<double>(shorter_side),
                     std::min(kSideTight * longer, static_cast<double>(longer_side)),
                     static_cast<double>(std::min(least, longer_side))});
  const int whole = rounded(side);
  const int x0 = start_of(box.x0 + box.x1, whole, width);
  const int y0 = start_of(box.y0 + box.y1, whole, height);
  return {x0, y0, x0 + whole, y0 + whole};
}

std::pair<Pixels, Pixels> crop_window(const Pixels& picture, const Pixels& mask, const Box& window,
                                      int size) {
  const Pixels cut_mask = cut(mask, window, false);
  if (std::none_of(cut_mask.data.begin(), cut_mask.data.end(), [](auto on) { return on != 0; }))
    fail_request("the window " + to_text(window) + " holds nothing of the mask");
  return {resize_picture(cut(picture, window, true), size, size),
          resize_mask(cut_mask, size, size)};
}

}  // namespace a2edit
