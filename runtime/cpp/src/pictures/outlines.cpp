// fill_outline of regions.hpp.
#include <algorithm>
#include <array>

#include "src/pictures/boxes.hpp"
#include "src/pictures/regions.hpp"
#include "src/pictures/rounding.hpp"

namespace a2edit {
namespace {

// An outline with its inside is at least this many times the area of its line; what is thicker is a
// scribble, and means itself.
constexpr double kOutlineRatio = 2.0;
// Gaps of an outline that are bridged, as shares of the longer side of its box: the first that
// closes it wins, so that a small gap is not bridged with a broad brush.
constexpr std::array<double, 5> kGapShares{0.02, 0.05, 0.10, 0.20, 0.35};
// Outlines are told from scribbles at this many cells along the longer side of their box.
constexpr int kSearch = 1024;

// The sides of the picture that a line touches.
struct Touches {
  bool top, bottom, left, right;
};

Bools padded(const Bools& mask, int margin) {
  Bools out(mask.height + 2 * margin, mask.width + 2 * margin, 1);
  for (int y = 0; y < mask.height; ++y)
    std::copy_n(mask.at(y, 0), mask.width, out.at(y + margin, margin));
  return out;
}

Bools inner(const Bools& mask, int margin) {
  Bools out(mask.height - 2 * margin, mask.width - 2 * margin, 1);
  for (int y = 0; y < out.height; ++y)
    std::copy_n(mask.at(y + margin, margin), out.width, out.at(y, 0));
  return out;
}

Bools either(Bools one, const Bools& other) {
  std::transform(one.data.begin(), one.data.end(), other.data.begin(), one.data.begin(),
                 [](std::uint8_t a, std::uint8_t b) { return static_cast<std::uint8_t>(a | b); });
  return one;
}

// The pixels off the mask that no path off the mask joins to the picture's edge.
Bools enclosed(const Bools& mask) {
  Bools ground = mask;
  for (std::uint8_t& pixel : ground.data) pixel ^= 1;
  const Bools open = flood(ground, border(mask.height, mask.width));
  std::transform(ground.data.begin(), ground.data.end(), open.data.begin(), ground.data.begin(),
                 [](std::uint8_t a, std::uint8_t b) { return static_cast<std::uint8_t>(a & ~b); });
  return ground;
}

Bools with_holes_filled(const Bools& mask) {
  return either(mask, inner(enclosed(padded(mask, 1)), 1));
}

bool is_outline(const Bools& line, const Bools& filled) {
  return static_cast<double>(count(filled)) >= kOutlineRatio * static_cast<double>(count(line));
}

Bools closed_by_edges(const Bools& line, const Bools& plain, const Touches& touches) {
  const std::array<bool, 4> sides{touches.top, touches.bottom, touches.left, touches.right};
  // each side alone, then the corners, as indices of `sides`; one side twice is that side
  constexpr std::array<std::array<int, 2>, 8> kWays{
      {{0, 0}, {1, 1}, {2, 2}, {3, 3}, {0, 2}, {0, 3}, {1, 2}, {1, 3}}};
  for (const auto& way : kWays) {
    if (!sides[way[0]] || !sides[way[1]]) continue;
    Bools canvas = padded(line, 1);
    for (const int side : way) {
      for (int y = 0; y < canvas.height; ++y) {
        if (side == 2) *canvas.at(y, 0) = 1;
        if (side == 3) *canvas.at(y, canvas.width - 1) = 1;
      }
      if (side < 2) std::fill_n(canvas.at(side == 0 ? 0 : canvas.height - 1, 0), canvas.width, 1);
    }
    Bools closed = either(line, inner(enclosed(padded(canvas, 1)), 2));
    if (is_outline(line, closed)) return closed;
  }
  return plain;
}

// `fill_outline` within the tight box of the line.
Bools filled(const Bools& line, const Touches& touches) {
  Bools plain = with_holes_filled(line);
  const double area = static_cast<double>(line.height) * line.width;
  if (is_outline(line, plain) || area < kOutlineRatio * static_cast<double>(count(line)))
    return plain;
  const int size = std::max(line.height, line.width);
  for (const double share : kGapShares) {
    // two brushes of this radius meet across a gap of `share`
    const int radius = std::max(1, rounded(size * share / 2));
    const Bools canvas = padded(line, 2 * radius + 1);
    const Bools inside = dilate(enclosed(dilate(canvas, radius)), radius);
    Bools closed = with_holes_filled(either(line, inner(inside, 2 * radius + 1)));
    if (is_outline(line, closed)) return closed;
  }
  return closed_by_edges(line, plain, touches);
}

// `filled`, decided in cells of k by k pixels where the line's box exceeds `longest`. A cell is on
// if any of its pixels is. Cells inside are filled, and so is what lies between them and the line,
// within the line's own cells.
Bools filled_at_most(int longest, const Bools& line, const Touches& touches) {
  const int cell = (std::max(line.height, line.width) + longest - 1) / longest;
  if (cell == 1) return filled(line, touches);
  Bools cells((line.height + cell - 1) / cell, (line.width + cell - 1) / cell, 1);
  for (int y = 0; y < line.height; ++y)
    for (int x = 0; x < line.width; ++x) *cells.at(y / cell, x / cell) |= *line.at(y, x);
  const Bools shape = filled(cells, touches);
  Bools inside(line.height, line.width, 1);
  for (int y = 0; y < line.height; ++y)
    for (int x = 0; x < line.width; ++x)
      *inside.at(y, x) = *shape.at(y / cell, x / cell) & ~*cells.at(y / cell, x / cell);
  Bools out = dilate(inside, cell);
  for (int y = 0; y < line.height; ++y)
    for (int x = 0; x < line.width; ++x)
      *out.at(y, x) = *line.at(y, x) | (*out.at(y, x) & *shape.at(y / cell, x / cell));
  return out;
}

}  // namespace

Bools fill_outline(const Bools& mask) {
  if (count(mask) == 0) return mask;
  const Box box = tight_box(as_mask(mask));
  Bools line(box.height(), box.width(), 1);
  for (int y = 0; y < line.height; ++y)
    std::copy_n(mask.at(box.y0 + y, box.x0), line.width, line.at(y, 0));
  const Touches touches{box.y0 == 0, box.y1 == mask.height, box.x0 == 0, box.x1 == mask.width};
  const Bools shape = filled_at_most(kSearch, line, touches);
  Bools result = mask;
  for (int y = 0; y < line.height; ++y)
    std::copy_n(shape.at(y, 0), line.width, result.at(box.y0 + y, box.x0));
  return result;
}

}  // namespace a2edit
