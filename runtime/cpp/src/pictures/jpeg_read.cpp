// The pixels of a JPEG file, by libjpeg with its defaults: the accurate integer DCT and smooth
// upsampling, which are Pillow's too.

#include <algorithm>
#include <csetjmp>

#include "src/pictures/jpeg_markers.hpp"
#include "src/pictures/libjpeg.hpp"

namespace a2edit {
namespace {

// Pillow hands libjpeg the file in blocks of this many bytes; how much of them was used shows in
// what it says of a file that was cut off.
constexpr std::size_t kReadBlock = 65536;

// What libjpeg's callbacks share with the function that called it. They are C's: nothing is thrown
// through them, an error jumps.
struct Decoding {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  std::jmp_buf jump{};
  ByteView file;
  std::size_t end = 0;   // of what libjpeg may read by now
  std::size_t skip = 0;  // bytes to pass over before the next one

  std::size_t position() const { return end - source.bytes_in_buffer; }

  // Another block; false at the end of the file.
  bool more() {
    const std::size_t start = position();
    const std::size_t block = std::min(kReadBlock, file.size - end);
    if (block == 0) return false;
    end += block;
    const std::size_t skipped = std::min(skip, end - start);
    skip -= skipped;
    source.next_input_byte = file.data + start + skipped;
    source.bytes_in_buffer = end - start - skipped;
    return true;
  }
};

Decoding& state_of(j_common_ptr info) { return *static_cast<Decoding*>(info->client_data); }

void on_error(j_common_ptr info) { std::longjmp(state_of(info).jump, 1); }

void on_message(j_common_ptr) {}
void on_source(j_decompress_ptr) {}

boolean on_empty(j_decompress_ptr) { return FALSE; }  // wait for more

void on_skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  Decoding& state = state_of(reinterpret_cast<j_common_ptr>(info));
  const std::size_t here = std::min<std::size_t>(count, state.source.bytes_in_buffer);
  state.source.next_input_byte += here;
  state.source.bytes_in_buffer -= here;
  state.skip = static_cast<std::size_t>(count) - here;
}

enum class Outcome { whole, cut_off, broken };

// Repeats a step of libjpeg that waits for data until it is done; false at the end of the file.
template <class Step>
bool repeated(Decoding& state, Step step) {
  while (!step())
    if (!state.more()) return false;
  return true;
}

// Rows of `channels` bytes a pixel. Nothing with a destructor lives here, since an error jumps out
// of the middle.
Outcome decode_rows(Decoding& state, J_COLOR_SPACE colours, Pixels& out) {
  jpeg_decompress_struct* info = &state.info;
  if (setjmp(state.jump)) {
    jpeg_destroy_decompress(info);
    return Outcome::broken;
  }
  info->err = jpeg_std_error(&state.errors);
  state.errors.error_exit = on_error;
  state.errors.output_message = on_message;
  info->client_data = &state;
  jpeg_create_decompress(info);
  state.source.init_source = on_source;
  state.source.term_source = on_source;
  state.source.fill_input_buffer = on_empty;
  state.source.skip_input_data = on_skip;
  state.source.resync_to_restart = jpeg_resync_to_restart;
  info->src = &state.source;

  bool whole = repeated(state, [&] {
    int found = JPEG_HEADER_TABLES_ONLY;  // an end before any picture, as often as there is one
    while (found == JPEG_HEADER_TABLES_ONLY) found = jpeg_read_header(info, FALSE);
    return found == JPEG_HEADER_OK;
  });
  if (whole) {
    info->out_color_space = colours;
    whole = repeated(state, [&] { return jpeg_start_decompress(info) != FALSE; });
  }
  if (whole && (static_cast<int>(info->output_width) != out.width ||
                info->output_components != out.channels)) {
    jpeg_destroy_decompress(info);
    return Outcome::broken;
  }
  for (int y = 0; whole && y < out.height; ++y) {
    JSAMPROW row = out.at(y, 0);
    whole = repeated(state, [&] { return jpeg_read_scanlines(info, &row, 1) == 1; });
  }
  if (whole) jpeg_finish_decompress(info);  // for the errors that it finds behind the pixels
  jpeg_destroy_decompress(info);
  return whole ? Outcome::whole : Outcome::cut_off;
}

// Stored inverted, as Adobe has it: 255 is no ink.
void cmyk_to_rgb(const Pixels& cmyk, Pixels& rgb) {
  const std::uint8_t* in = cmyk.data.data();
  for (std::size_t index = 0; index < rgb.data.size(); index += 3, in += 4) {
    const int light = in[3];
    for (int channel = 0; channel < 3; ++channel) {
      const int product = (255 - in[channel]) * light + 128;
      const int ink = ((product >> 8) + product) >> 8;
      rgb.data[index + channel] = static_cast<std::uint8_t>(std::clamp(light - ink, 0, 255));
    }
  }
}

}  // namespace

Raster load_jpeg(const JpegFile& jpeg) {
  if (jpeg.file.size == 0) throw BrokenFile("cannot load this image");
  const int height = static_cast<int>(jpeg.height), width = static_cast<int>(jpeg.width);
  const bool grey = jpeg.mode == "L", cmyk = jpeg.mode == "CMYK";
  Pixels pixels(height, width, grey ? 1 : cmyk ? 4 : 3);
  Decoding state;
  state.file = jpeg.file;
  switch (decode_rows(state, grey ? JCS_GRAYSCALE : cmyk ? JCS_CMYK : JCS_RGB, pixels)) {
    case Outcome::broken:
      throw BrokenFile("broken data stream when reading image file");
    case Outcome::cut_off:
      throw BrokenFile("image file is truncated (" + std::to_string(state.end - state.position()) +
                       " bytes not processed)");
    case Outcome::whole:
      break;
  }
  if (!grey && !cmyk) return {std::move(pixels), std::nullopt};
  Pixels rgb(height, width, 3);
  if (cmyk)
    cmyk_to_rgb(pixels, rgb);
  else
    for (std::size_t index = 0; index < pixels.data.size(); ++index)
      std::fill_n(&rgb.data[3 * index], 3, pixels.data[index]);
  return {std::move(rgb), std::nullopt};
}

}  // namespace a2edit
