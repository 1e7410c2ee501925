// What the readers of PNG and JPEG files hand to images.cpp. They follow Pillow's: what opens there
// opens here, to the same pixels, and what fails there fails here, in the same words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "src/pictures/picture.hpp"

namespace a2edit {

// Bytes of somebody else, who outlives this.
struct ByteView {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;

  ByteView() = default;
  ByteView(const std::uint8_t* start, std::size_t length) : data(start), size(length) {}
  explicit ByteView(const std::string& text)
      : data(reinterpret_cast<const std::uint8_t*>(text.data())), size(text.size()) {}

  // As Python slices: what there is of [start, start + length).
  ByteView slice(std::size_t start, std::size_t length) const {
    if (start >= size) return {data + size, 0};
    return {data + start, length < size - start ? length : size - start};
  }
  bool starts_with(const std::string& prefix) const {
    return slice(0, prefix.size()).text() == prefix;
  }
  std::uint8_t operator[](std::size_t index) const { return data[index]; }
  std::string text() const { return {reinterpret_cast<const char*>(data), size}; }
  std::vector<std::uint8_t> bytes() const { return {data, data + size}; }
};

inline std::uint32_t big_endian_16(const std::uint8_t* at) { return at[0] << 8U | at[1]; }
inline std::uint32_t big_endian_32(const std::uint8_t* at) {
  return big_endian_16(at) << 16U | big_endian_16(at + 2);
}

// Something about the file is broken; the words are Pillow's.
struct BrokenFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// So broken that Pillow, on opening it, does not take it for a picture of the format.
struct Unidentified : BrokenFile {
  using BrokenFile::BrokenFile;
};

// What EXIF begins with in a JPEG file, and in Pillow's memory always.
inline const std::string kExifPrefix("Exif\0\0", 6);

// What stands in a file beside its pixels.
struct Metadata {
  std::vector<std::uint8_t> exif;  // TIFF behind kExifPrefix, or empty
  std::string exif_profile;        // PNG: the text "Raw profile type exif"
  std::string xmp;
  std::vector<std::uint8_t> icc;
  // JPEG: EXIF was read on opening, where what is wrong with it is passed over
  bool exif_is_optional = false;
};

struct FileHeader {
  std::string mode;  // Pillow's: "1", "L", "I;16", "RGB", "P", "LA", "RGBA" or "CMYK"
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  Metadata metadata;
};

struct Raster {
  Pixels rgb;
  std::optional<Pixels> alpha;
};

// 1 to 8 as EXIF (or else XMP) has it, 1 where neither says so. Throws BrokenFile.
int orientation(const Metadata& metadata);

// The pixels where a viewer shows them.
Pixels upright(Pixels pixels, int orientation);

// The text of repr(bytes) in Python.
std::string bytes_repr(ByteView bytes);

}  // namespace a2edit
