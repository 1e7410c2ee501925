// The pixels of a PNG file, by libpng. It is handed nothing but a header and the compressed pixels,
// with what Pillow has checked already (png_chunks.cpp); colours are made here, as Pillow makes
// them.
#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <new>

#include "src/pictures/png_chunks.hpp"

namespace a2edit {
namespace {

constexpr const char* kBroken = "broken data stream when reading image file";

// A PNG file that is handed out in pieces: a header made here, the pieces, and never an end.
class Stream {
 public:
  explicit Stream(const PngFile& png) {
    head_.assign(std::begin(kSignature), std::end(kSignature));
    const auto width = static_cast<std::uint32_t>(png.frame.width());
    const auto height = static_cast<std::uint32_t>(png.frame.height());
    std::vector<std::uint8_t> header;
    append(header, width);
    append(header, height);
    for (const unsigned value : {png.bit_depth, png.colour_type, 0U, 0U, png.interlaced ? 1U : 0U})
      header.push_back(static_cast<std::uint8_t>(value));
    append(head_, static_cast<std::uint32_t>(header.size()));
    append_chunk("IHDR", header);
    if (png.colour_type ==
        PNG_COLOR_TYPE_PALETTE) {  // libpng wants one; the colours are not asked for
      const std::vector<std::uint8_t> palette(std::size_t{3} << png.bit_depth);
      append(head_, static_cast<std::uint32_t>(palette.size()));
      append_chunk("PLTE", palette);
    }
    pieces_.push_back({head_.data(), head_.size()});
    lengths_.reserve(png.data.size());
    for (const ByteView& piece : png.data) {
      std::array<std::uint8_t, 8> start{};
      for (int byte = 0; byte < 4; ++byte)
        start[byte] = static_cast<std::uint8_t>(piece.size >> (24U - 8U * byte));
      std::memcpy(&start[4], "IDAT", 4);
      lengths_.push_back(start);
      pieces_.push_back({lengths_.back().data(), 8});
      pieces_.push_back(piece);
      pieces_.push_back({kChecksum, sizeof kChecksum});
    }
  }

  // Whether reading has come to the last of the pieces.
  bool in_last() const { return piece_ + 3 >= pieces_.size(); }

  // Whether there were as many bytes.
  bool read(std::uint8_t* to, std::size_t length) noexcept {
    while (length > 0) {
      if (piece_ == pieces_.size()) return false;
      const ByteView part = pieces_[piece_].slice(at_, length);
      if (part.size > 0) std::memcpy(to, part.data, part.size);
      to += part.size;
      length -= part.size;
      at_ += part.size;
      if (at_ == pieces_[piece_].size) {
        ++piece_;
        at_ = 0;
      }
    }
    return true;
  }

 private:
  static constexpr std::uint8_t kSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  static constexpr std::uint8_t kChecksum[4] = {0, 0, 0, 0};  // not looked at

  static void append(std::vector<std::uint8_t>& bytes, std::uint32_t value) {
    for (const unsigned shift : {24U, 16U, 8U, 0U})
      bytes.push_back(static_cast<std::uint8_t>(value >> shift));
  }

  void append_chunk(const char* name, const std::vector<std::uint8_t>& body) {
    head_.insert(head_.end(), name, name + 4);
    head_.insert(head_.end(), body.begin(), body.end());
    append(head_, 0);
  }

  std::vector<std::uint8_t> head_;
  std::vector<std::array<std::uint8_t, 8>> lengths_;
  std::vector<ByteView> pieces_;
  std::size_t piece_ = 0;
  std::size_t at_ = 0;
};

// What libpng's callbacks share with the function that called it. They are C's: nothing is thrown
// through them, an error jumps.
struct Decoding {
  std::jmp_buf jump;
  Stream* stream = nullptr;
  const char* problem = nullptr;  // in Pillow's words; null where the data ran out
  std::size_t rows_left = 0;      // whose pixels are still to come
};

void on_error(png_structp png, png_const_charp message) {
  auto* state = static_cast<Decoding*>(png_get_error_ptr(png));
  if (std::strcmp(message, "bad adaptive filter value") == 0)
    state->problem = "unrecognized data stream contents when reading image file";
  else if (std::strcmp(message, "no more data") == 0 ||
           std::strcmp(message, "Not enough image data") == 0)
    state->problem = nullptr;
  else if (std::strcmp(message, "Out of memory") == 0)
    state->problem = "out of memory when reading image file";
  else
    state->problem = kBroken;
  std::longjmp(state->jump, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep to, png_size_t length) {
  auto* state = static_cast<Decoding*>(png_get_io_ptr(png));
  if (!state->stream->read(to, length)) png_error(png, "no more data");
}

// Called for every row that has come; what libpng does after the last of them cannot hurt.
void on_row(png_structp png, png_row_infop, png_bytep) {
  --static_cast<Decoding*>(png_get_user_transform_ptr(png))->rows_left;
}

// Rows of samples as Pillow unpacks them: 8 bits each, but 16 for 16-bit grey. Nothing with a
// destructor lives here, since an error jumps out of the middle.
bool decode_rows(Decoding& state, png_bytepp rows, int height, bool narrow) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state, on_error, on_warning);
  if (!png) return false;
  png_infop info = png_create_info_struct(png);
  if (setjmp(state.jump)) {
    png_destroy_read_struct(&png, info ? &info : nullptr, nullptr);
    return state.rows_left == 0;
  }
  if (!info) png_error(png, "Out of memory");
  png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_read_fn(png, &state, on_read);
  png_read_info(png, info);
  png_set_packing(png);
  if (narrow) png_set_strip_16(png);
  png_set_read_user_transform_fn(png, on_row);
  png_set_user_transform_info(png, &state, 0, 0);
  const int passes = png_set_interlace_handling(png);
  png_start_read_image(png);
  for (int pass = 0; pass < passes; ++pass)
    for (int y = 0; y < height; ++y) png_read_row(png, rows[y], nullptr);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

int samples_of(unsigned colour_type) {
  const int colours =
      colour_type & PNG_COLOR_MASK_COLOR && !(colour_type & PNG_COLOR_MASK_PALETTE) ? 3 : 1;
  return colours + (colour_type & PNG_COLOR_MASK_ALPHA ? 1 : 0);
}

// Bytes of the rows, a byte for the filter included, in the order of the file.
std::vector<std::size_t> row_sizes(const PngFile& png) {
  const auto width = static_cast<png_uint_32>(png.frame.width());
  const auto height = static_cast<png_uint_32>(png.frame.height());
  const std::size_t bits = std::size_t{png.bit_depth} * samples_of(png.colour_type);
  const auto size_of = [&](std::size_t pixels) { return 1 + (pixels * bits + 7) / 8; };
  if (!png.interlaced) return std::vector<std::size_t>(height, size_of(width));
  std::vector<std::size_t> sizes;
  for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; ++pass)
    if (PNG_PASS_COLS(width, pass) > 0)
      sizes.insert(sizes.end(), PNG_PASS_ROWS(height, pass), size_of(PNG_PASS_COLS(width, pass)));
  return sizes;
}

// Whether the compressed data ends by itself, and with a row: Pillow takes the rows below for
// black.
bool ends_between_rows(const PngFile& png) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) throw std::bad_alloc();
  std::array<std::uint8_t, 16384> unpacked;
  int status = Z_OK;
  std::size_t total = 0;
  for (const ByteView& piece : png.data) {
    stream.next_in = const_cast<Bytef*>(piece.data);
    stream.avail_in = static_cast<uInt>(piece.size);
    while (stream.avail_in > 0 && status == Z_OK) {
      stream.next_out = unpacked.data();
      stream.avail_out = static_cast<uInt>(unpacked.size());
      status = inflate(&stream, Z_NO_FLUSH);
      total += unpacked.size() - stream.avail_out;
    }
  }
  inflateEnd(&stream);
  const std::size_t all = total;
  for (const std::size_t size : row_sizes(png)) {
    if (total < size) break;
    total -= size;
  }
  return status == Z_STREAM_END && all > 0 && total == 0;
}

// The samples of the whole picture, `channels` bytes a pixel; black outside of the frame.
Pixels samples(const PngFile& png, int channels) {
  Pixels out(static_cast<int>(png.height), static_cast<int>(png.width), channels);
  if (png.frame.width() <= 0 || png.frame.height() <= 0)
    throw BrokenFile("tile cannot extend outside image");
  std::vector<png_bytep> rows;
  rows.reserve(static_cast<std::size_t>(png.frame.height()));
  for (int y = png.frame.y0; y < png.frame.y1; ++y) rows.push_back(out.at(y, png.frame.x0));
  Stream stream(png);
  Decoding state;
  state.stream = &stream;
  state.rows_left = row_sizes(png).size();
  const bool decoded = decode_rows(state, rows.data(), png.frame.height(), png.mode != "I;16");
  const bool whole = decoded || (!state.problem && ends_between_rows(png));
  if (!whole && !state.problem) throw BrokenFile(png.cut_off);
  if (!png.trailer_error.empty()) throw BrokenFile(png.trailer_error);
  // where the pixels are broken, Pillow looks at what follows before it says so
  if (!whole && png.last_is_cut && !stream.in_last()) throw BrokenFile("Truncated File Read");
  if (!whole) throw BrokenFile(state.problem);
  return out;
}

Pixels spread(const Pixels& grey) {
  Pixels rgb(grey.height, grey.width, 3);
  for (std::size_t index = 0; index < grey.data.size(); ++index)
    std::fill_n(&rgb.data[3 * index], 3, grey.data[index]);
  return rgb;
}

// 16 bits a pixel, the high byte first: 65535 is white.
Raster from_deep_grey(const Pixels& bytes) {
  Pixels grey(bytes.height, bytes.width, 1);
  for (std::size_t index = 0; index < grey.data.size(); ++index) {
    const auto value = static_cast<float>(big_endian_16(&bytes.data[2 * index]));
    grey.data[index] = static_cast<std::uint8_t>(std::nearbyintf(value / 65535.0F * 255.0F));
  }
  return {spread(grey), std::nullopt};
}

Raster from_grey(const PngFile& png, Pixels grey) {
  if (png.bit_depth < 8)
    for (std::uint8_t& value : grey.data)
      value = static_cast<std::uint8_t>(value * (255U / ((1U << png.bit_depth) - 1)));
  Raster raster{spread(grey), std::nullopt};
  if (png.transparent) {
    const auto nothing = static_cast<std::uint8_t>((*png.transparent)[0]);
    for (std::uint8_t& value : grey.data) value = value == nothing ? 0 : 255;
    raster.alpha = std::move(grey);
  }
  return raster;
}

Raster from_rgb(const PngFile& png, Pixels rgb) {
  Raster raster{std::move(rgb), std::nullopt};
  if (!png.transparent) return raster;
  std::array<std::uint8_t, 3> nothing{};
  for (int channel = 0; channel < 3; ++channel)
    nothing[channel] = static_cast<std::uint8_t>((*png.transparent)[channel]);
  raster.alpha = Pixels(raster.rgb.height, raster.rgb.width, 1);
  for (std::size_t index = 0; index < raster.alpha->data.size(); ++index)
    raster.alpha->data[index] =
        std::equal(nothing.begin(), nothing.end(), &raster.rgb.data[3 * index]) ? 0 : 255;
  return raster;
}

Raster from_palette(const PngFile& png, const Pixels& indices) {
  if (png.palette.size() / 3 > 256) throw BrokenFile("invalid palette size");
  if (png.palette_alpha.size() > 256) throw BrokenFile("palette index out of range");
  std::array<std::uint8_t, 768> colours{};  // past the end of the palette: black
  std::copy_n(png.palette.begin(), png.palette.size() / 3 * 3, colours.begin());
  std::array<std::uint8_t, 256> opacity{};
  opacity.fill(255);
  std::copy(png.palette_alpha.begin(), png.palette_alpha.end(), opacity.begin());
  Raster raster{Pixels(indices.height, indices.width, 3), std::nullopt};
  const bool has_alpha = !png.palette_alpha.empty();
  if (has_alpha) raster.alpha = Pixels(indices.height, indices.width, 1);
  for (std::size_t index = 0; index < indices.data.size(); ++index) {
    const std::uint8_t entry = indices.data[index];
    std::copy_n(&colours[3 * std::size_t{entry}], 3, &raster.rgb.data[3 * index]);
    if (has_alpha) raster.alpha->data[index] = opacity[entry];
  }
  return raster;
}

Raster from_samples_with_alpha(const Pixels& samples) {
  Raster raster{Pixels(samples.height, samples.width, 3), Pixels(samples.height, samples.width, 1)};
  const int last = samples.channels - 1;
  for (std::size_t index = 0; index < raster.alpha->data.size(); ++index) {
    const std::uint8_t* from = &samples.data[index * samples.channels];
    for (int channel = 0; channel < 3; ++channel)
      raster.rgb.data[3 * index + channel] = from[std::min(channel, last - 1)];
    raster.alpha->data[index] = from[last];
  }
  return raster;
}

}  // namespace

Raster load_png(const PngFile& png) {
  if (png.data.empty()) throw BrokenFile("cannot load this image");
  if (png.mode == "I;16") return from_deep_grey(samples(png, 2));
  Pixels pixels = samples(png, samples_of(png.colour_type));
  if (png.mode == "P") return from_palette(png, pixels);
  if (png.mode == "RGB") return from_rgb(png, std::move(pixels));
  if (png.mode == "1" || png.mode == "L") return from_grey(png, std::move(pixels));
  return from_samples_with_alpha(pixels);
}

}  // namespace a2edit
