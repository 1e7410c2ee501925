#include "src/pictures/reference.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/core/error.hpp"
#include "src/pictures/masks.hpp"
#include "src/pictures/regions.hpp"
#include "src/pictures/resample.hpp"
#include "src/pictures/rounding.hpp"

namespace a2edit {
namespace {

// A border counts as plain if this share of its pixels lies within kPlain levels of its median
// colour; ground is what joins it within kGround levels (JPEG and soft shadows need some room).
constexpr double kPlainShare = 0.8;
constexpr double kPlain = 12;
constexpr double kGround = 20;
constexpr double kLeastObject = 0.002;  // of the picture; less is noise on an empty picture
constexpr int kSearch = 1024;           // longer side at which ground is told from object

using Colour = std::array<double, 3>;

// The median of each channel over the pixels of `edge`; between two, their mean.
Colour median(const Pixels& picture, const Bools& edge) {
  std::array<std::array<std::int64_t, 256>, 3> histogram{};
  std::int64_t pixels = 0;
  for (std::size_t index = 0; index < edge.data.size(); ++index) {
    if (!edge.data[index]) continue;
    ++pixels;
    for (int channel = 0; channel < 3; ++channel)
      ++histogram[channel][picture.data[3 * index + channel]];
  }
  Colour colour{};
  for (int channel = 0; channel < 3; ++channel) {
    const auto value_at = [&](std::int64_t rank) {
      int value = 0;
      for (std::int64_t below = histogram[channel][0]; below <= rank;)
        below += histogram[channel][++value];
      return value;
    };
    colour[channel] = (value_at((pixels - 1) / 2) + value_at(pixels / 2)) / 2.0;
  }
  return colour;
}

// How far a pixel is from a colour, in levels of the channel that differs most.
double distance(const std::uint8_t* pixel, const Colour& colour) {
  double most = 0;
  for (int channel = 0; channel < 3; ++channel)
    most = std::max(most, std::fabs(pixel[channel] - colour[channel]));
  return most;
}

Pixels whole(int height, int width) {
  Pixels mask(height, width, 1);
  std::fill(mask.data.begin(), mask.data.end(), std::uint8_t{255});
  return mask;
}

}  // namespace

Pixels object_mask(const Picture& reference, const std::optional<PictureSource>& source,
                   bool resize) {
  if (source)
    return load_mask(*source, "reference mask", reference.rgb.width, reference.rgb.height,
                     reference.name, resize, Transparent::object);
  if (!reference.alpha) return object_on_plain_ground(reference.rgb);
  const auto opaque = [](std::uint8_t alpha) { return alpha >= 128; };
  if (std::none_of(reference.alpha->data.begin(), reference.alpha->data.end(), opaque))
    fail_request(
        reference.name +
        " is transparent everywhere: give a picture whose object is opaque, or a reference "
        "mask");
  return *reference.alpha;
}

Pixels object_on_plain_ground(const Pixels& picture) {
  const int height = picture.height, width = picture.width;
  const double scale = std::min(1.0, static_cast<double>(kSearch) / std::max(height, width));
  const auto scaled = [&](int side) { return std::max(1, rounded(side * scale)); };
  const Pixels small = resize(picture, scaled(width), scaled(height), Resampling::box);
  const Bools edge = border(small.height, small.width);
  const Colour colour = median(small, edge);

  Bools ground(small.height, small.width, 1);
  std::int64_t plain = 0;
  for (std::size_t index = 0; index < ground.data.size(); ++index) {
    const double away = distance(small.data.data() + 3 * index, colour);
    ground.data[index] = away <= kGround;
    plain += edge.data[index] && away <= kPlain;
  }
  if (static_cast<double>(plain) / static_cast<double>(count(edge)) < kPlainShare)
    return whole(height, width);
  Bools object = flood(ground, edge);
  for (std::uint8_t& pixel : object.data) pixel ^= 1;
  const auto pixels = static_cast<double>(object.data.size());
  if (static_cast<double>(count(object)) / pixels < kLeastObject) return whole(height, width);
  return resize(as_mask(object), width, height, Resampling::bilinear);
}

}  // namespace a2edit
