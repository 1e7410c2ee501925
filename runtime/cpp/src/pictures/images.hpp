// Pictures in, pictures out, as in runtime/images.py: files and pixels become u8 RGB, and come back
// as files. PNG and JPEG are read and written here; Python reads more.
//
// What every kind of picture means:
// - EXIF orientation is applied, so pixels are where a viewer shows them.
// - 16-bit grey counts from 0 to 65535.
// - Palette, CMYK and grey become RGB by Pillow's own conversions.
// - Alpha is kept apart. The colours under it stay as stored; `on_white` is what a viewer sees, and
//   what the model sees.
// - Of an animation, the first frame.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "src/pictures/picture.hpp"

namespace a2edit {

// `role` ("image", "mask", "reference") names the picture in messages, which are request errors.
Picture load_picture(const PictureSource& source, const std::string& role);

// The same from the bytes of a PNG or JPEG file; `name` is what messages call it.
Picture decode_picture(const std::uint8_t* bytes, std::size_t size, const std::string& name);

// [H, W, 3]: composited on white; a copy where there is no alpha.
Pixels on_white(const Picture& picture);

// Text chunks of a PNG, in order: keyword (Latin-1, 1 to 79 bytes) and UTF-8 text.
using TextChunks = std::vector<std::pair<std::string, std::string>>;

// A whole PNG file of [H, W, 1], [H, W, 3] or [H, W, 4].
std::vector<std::uint8_t> encode_png(const Pixels& picture,
                                     const std::vector<std::uint8_t>& icc = {},
                                     const TextChunks& text = {});

// A whole JPEG file, quality 95 without subsampling; [H, W, 4] is composited on white.
std::vector<std::uint8_t> encode_jpeg(const Pixels& picture,
                                      const std::vector<std::uint8_t>& icc = {});

// Refuses, before any work is done, a file that could not be written at the end.
void check_output(const std::string& path, const std::string& role = "output");

// Writes `picture` whole or not at all, as its suffix says; `text` goes into a PNG's text chunks.
void save_picture(const Pixels& picture, const std::vector<std::uint8_t>& icc,
                  const std::string& path, const TextChunks& text = {});

}  // namespace a2edit
