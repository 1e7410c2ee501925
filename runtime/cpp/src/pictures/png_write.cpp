// PNG files, by libpng.
#include <png.h>
#include <zlib.h>

#include <csetjmp>
#include <new>

#include "src/core/error.hpp"
#include "src/pictures/images.hpp"

namespace a2edit {
namespace {

// What libpng's callbacks share with the function that called it; an error jumps.
struct Encoding {
  std::jmp_buf jump;
  std::vector<std::uint8_t>* out = nullptr;
};

void on_error(png_structp png, png_const_charp) {
  std::longjmp(static_cast<Encoding*>(png_get_error_ptr(png))->jump, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_write(png_structp png, png_bytep from, png_size_t length) {
  auto* state = static_cast<Encoding*>(png_get_io_ptr(png));
  bool written = true;
  try {
    state->out->insert(state->out->end(), from, from + length);
  } catch (const std::bad_alloc&) {
    written = false;  // not thrown through C
  }
  if (!written) png_error(png, "Out of memory");
}

void on_flush(png_structp) {}

bool is_ascii(const std::string& text) {
  for (const char letter : text)
    if (static_cast<unsigned char>(letter) >= 0x80) return false;
  return true;
}

// The body of an iCCP chunk. libpng's own way would refuse profiles that it finds fault with;
// whether a profile is good is not ours to say, and it goes on as it came.
std::vector<std::uint8_t> profile_chunk(const std::vector<std::uint8_t>& icc) {
  const std::string head("ICC Profile\0\0", 13);  // a name, and the method, deflate
  uLongf size = compressBound(static_cast<uLong>(icc.size()));
  std::vector<std::uint8_t> chunk(head.begin(), head.end());
  chunk.resize(head.size() + size);
  if (compress(&chunk[head.size()], &size, icc.data(), static_cast<uLong>(icc.size())) != Z_OK)
    throw std::bad_alloc();
  chunk.resize(head.size() + size);
  return chunk;
}

// Nothing with a destructor lives here, since an error jumps out of the middle.
bool encode(Encoding& state, const Pixels& picture, const std::vector<std::uint8_t>& profile,
            png_textp text, int texts) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &state, on_error, on_warning);
  if (!png) return false;
  png_infop info = png_create_info_struct(png);
  if (setjmp(state.jump)) {
    png_destroy_write_struct(&png, info ? &info : nullptr);
    return false;
  }
  if (!info) png_error(png, "Out of memory");
  png_set_write_fn(png, &state, on_write, on_flush);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  const int colours = picture.channels == 1   ? PNG_COLOR_TYPE_GRAY
                      : picture.channels == 3 ? PNG_COLOR_TYPE_RGB
                                              : PNG_COLOR_TYPE_RGB_ALPHA;
  png_set_IHDR(png, info, static_cast<png_uint_32>(picture.width),
               static_cast<png_uint_32>(picture.height), 8, colours, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (texts > 0) png_set_text(png, info, text, texts);
  png_write_info_before_PLTE(png, info);
  if (!profile.empty())
    png_write_chunk(png, reinterpret_cast<png_const_bytep>("iCCP"), profile.data(), profile.size());
  png_write_info(png, info);
  for (int y = 0; y < picture.height; ++y) png_write_row(png, picture.at(y, 0));
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return true;
}

}  // namespace

std::vector<std::uint8_t> encode_png(const Pixels& picture, const std::vector<std::uint8_t>& icc,
                                     const TextChunks& text) {
  std::vector<png_text> chunks;
  for (const auto& [key, value] : text) {
    png_text chunk{};
    // tEXt is Latin-1, of which ASCII is the part that it shares with UTF-8
    chunk.compression = is_ascii(value) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    chunk.key = const_cast<png_charp>(key.c_str());
    chunk.text = const_cast<png_charp>(value.c_str());
    chunks.push_back(chunk);
  }
  std::vector<std::uint8_t> out;
  Encoding state;
  state.out = &out;
  const auto profile = icc.empty() ? std::vector<std::uint8_t>() : profile_chunk(icc);
  if (!encode(state, picture, profile, chunks.data(), static_cast<int>(chunks.size())))
    throw Error(ErrorKind::internal, "a PNG of " + std::to_string(picture.width) + "x" +
                                         std::to_string(picture.height) + " could not be encoded");
  return out;
}

}  // namespace a2edit
