// The types that pictures travel in; runtime/images.py, runtime/boxes.py, runtime/request.py and
// runtime/prepare.py have the same nouns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace a2edit {

// u8 [height, width, channels] in C order, rows without padding.
struct Pixels {
  int height = 0;
  int width = 0;
  int channels = 0;  // 1, 3 or 4
  std::vector<std::uint8_t> data;

  Pixels() = default;
  Pixels(int rows, int columns, int depth)
      : height(rows), width(columns), channels(depth),
        data(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns) *
             static_cast<std::size_t>(depth)) {}

  // The first channel of a pixel.
  std::uint8_t* at(int y, int x) { return data.data() + offset(y, x); }
  const std::uint8_t* at(int y, int x) const { return data.data() + offset(y, x); }

 private:
  std::size_t offset(int y, int x) const {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
            static_cast<std::size_t>(x)) * static_cast<std::size_t>(channels);
  }
};

// Half open: x0 <= x < x1 and y0 <= y < y1, in pixels.
struct Box {
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;

  int width() const { return x1 - x0; }
  int height() const { return y1 - y0; }
};

// A decoded picture; `name` is what messages call it.
struct Picture {
  std::string name;
  Pixels rgb;                    // [H, W, 3], as stored
  std::optional<Pixels> alpha;   // [H, W, 1]; none where there is none or it is opaque everywhere
  std::vector<std::uint8_t> icc;  // the RGB colour profile, carried through to the result; or empty
};

// A file, or what the host gives: pixels, u8 of 1, 3 or 4 channels, or a whole file's bytes.
struct PictureSource {
  std::string path;  // of a file, where neither of the others is given
  std::optional<Pixels> pixels;
  std::optional<std::vector<std::uint8_t>> bytes;
};

// What is asked for: paint the object of `reference` into the masked region of `image`. The region is
// `mask`, `boxes`, or both together.
struct Request {
  PictureSource image;
  PictureSource reference;
  std::optional<PictureSource> mask;
  std::optional<PictureSource> reference_mask;  // white = the object; none: alpha, or a plain border
  std::vector<Box> boxes;                       // in pixels of the image
  std::string prompt;                           // UTF-8
  std::optional<int> steps;                     // none: the bundle's
  std::uint64_t seed = 0;
  bool resize_mask = false;                     // scale masks of another size instead of refusing them
  std::optional<int> size;                      // side of the square target; none: the model's
};

// One edit, laid out. S is the side of the target, W is 2S in the diptych layout and S in redux.
struct Prepared {
  Pixels canvas;                  // [S, W, 3], the reference's panel and the window
  Pixels mask;                    // [S, W, 1], 255 = repaint; 0 on the reference's panel
  Pixels reference;               // [R, R, 3], for the image encoder
  Box window;                     // square, in source pixels; may reach outside of a small image
  Pixels source;                  // [H, W, 3], as stored
  Pixels source_mask;             // [H, W, 1], 0 or 255
  std::optional<Pixels> alpha;    // [H, W, 1] of the source
  std::vector<std::uint8_t> icc;  // colour profile of the source, or empty
};

}  // namespace a2edit
