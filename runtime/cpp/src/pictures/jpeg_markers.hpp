// The segments of a JPEG file before its scans, in Pillow's reading.
#pragma once

#include "src/pictures/decode.hpp"

namespace a2edit {

struct JpegFile : FileHeader {
  ByteView file;
};

// Throws Unidentified or BrokenFile. The file outlives what is returned.
JpegFile open_jpeg(ByteView file);

// Throws BrokenFile.
Raster load_jpeg(const JpegFile& jpeg);

}  // namespace a2edit
