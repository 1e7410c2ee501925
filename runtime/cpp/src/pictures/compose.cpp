#include "src/pictures/compose.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/pictures/boxes.hpp"
#include "src/pictures/layout.hpp"

namespace a2edit {
namespace {

// source (1 - m) + edit m, rounded; one row of `width` pixels.
void blend(std::uint8_t* source, const std::uint8_t* edit, const std::uint8_t* weight, int width) {
  for (int x = 0; x < width; ++x)
    for (int channel = 0; channel < 3; ++channel, ++source, ++edit)
      *source =
          static_cast<std::uint8_t>((*source * (255 - weight[x]) + *edit * weight[x] + 127) / 255);
}

// The edit with opacity m over a source with opacity `alpha` (Porter-Duff "over").
void blend_over(std::uint8_t* source, std::uint8_t* alpha, const std::uint8_t* edit,
                const std::uint8_t* weight, int width) {
  for (int x = 0; x < width; ++x, source += 3, edit += 3) {
    const int m = weight[x];
    if (m == 0) continue;
    const int below = alpha[x] * (255 - m);  // what is left of the source, of 255 * 255
    const int total = below + 255 * m;
    for (int channel = 0; channel < 3; ++channel)
      source[channel] = static_cast<std::uint8_t>(
          (source[channel] * below + edit[channel] * 255 * m + total / 2) / total);
    alpha[x] = static_cast<std::uint8_t>((total + 127) / 255);
  }
}

Pixels stacked(const Pixels& rgb, const Pixels& alpha) {
  Pixels out(rgb.height, rgb.width, 4);
  for (std::size_t index = 0; index < alpha.data.size(); ++index) {
    std::copy_n(&rgb.data[3 * index], 3, &out.data[4 * index]);
    out.data[4 * index + 3] = alpha.data[index];
  }
  return out;
}

Pixels cropped(const Pixels& picture, const Box& box) {
  Pixels out(box.height(), box.width(), picture.channels);
  for (int y = 0; y < out.height; ++y)
    std::copy_n(picture.at(box.y0 + y, box.x0),
                static_cast<std::size_t>(out.width) * picture.channels, out.at(y, 0));
  return out;
}

}  // namespace

Pixels compose(const Prepared& prepared, const Pixels& generated, int feather) {
  const Box& window = prepared.window;
  // what can change: the mask and its seam, as far as there is an edit to show
  const Box reach = grown(tight_box(prepared.source_mask), feather);
  const Box area = checked({std::max({reach.x0, window.x0, 0}), std::max({reach.y0, window.y0, 0}),
                            std::min({reach.x1, window.x1, prepared.source.width}),
                            std::min({reach.y1, window.y1, prepared.source.height})});
  const Pixels edit = resize_picture(generated, window.width(), window.height());
  const Pixels weight = feathered(cropped(prepared.source_mask, area), feather);

  Pixels out = prepared.source;
  const bool transparent = prepared.alpha.has_value();
  Pixels alpha = transparent ? *prepared.alpha : Pixels();
  for (int y = 0; y < area.height(); ++y) {
    std::uint8_t* to = out.at(area.y0 + y, area.x0);
    const std::uint8_t* from = edit.at(area.y0 + y - window.y0, area.x0 - window.x0);
    if (transparent)
      blend_over(to, alpha.at(area.y0 + y, area.x0), from, weight.at(y, 0), area.width());
    else
      blend(to, from, weight.at(y, 0), area.width());
  }
  return transparent ? stacked(out, alpha) : out;
}

}  // namespace a2edit
