// The chunks of a PNG file around its pixels, in Pillow's reading: what it checks, and what it
// passes over.
#pragma once

#include <optional>
#include <vector>

#include "src/pictures/decode.hpp"

namespace a2edit {

struct PngFile : FileHeader {
  unsigned bit_depth = 0;
  unsigned colour_type = 0;
  bool interlaced = false;
  std::vector<std::uint8_t> palette;        // of RGB, as stored
  std::vector<std::uint8_t> palette_alpha;  // of its first entries
  std::optional<std::vector<unsigned>>
      transparent;             // one grey or three colours that mean "nothing"
  Box frame;                   // of an animation: where the first frame lies
  std::vector<ByteView> data;  // the compressed pixels, in pieces
  // what to say where the pieces end before the pixels do, and whether the file ended amid the last
  std::string cut_off;
  bool last_is_cut = false;
  // what was wrong behind the pixels, or empty
  std::string trailer_error;
};

// Throws Unidentified or BrokenFile. The file outlives what is returned.
PngFile open_png(ByteView file);

// Throws BrokenFile.
Raster load_png(const PngFile& png);

}  // namespace a2edit
