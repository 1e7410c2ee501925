// JPEG files, by libjpeg: quality 95, no subsampling, as runtime/images.py has them.

#include <algorithm>
#include <array>
#include <csetjmp>
#include <memory>
#include <new>

#include "src/core/error.hpp"
#include "src/pictures/images.hpp"
#include "src/pictures/libjpeg.hpp"

namespace a2edit {
namespace {

constexpr int kQuality = 95;
// A marker holds 65533 bytes; 14 of them are the name of the profile and the number of its part.
constexpr std::size_t kMostProfile = 65533 - 14;
constexpr int kProfileMarker = JPEG_APP0 + 2;

struct Encoding {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  std::jmp_buf jump{};
  jpeg_destination_mgr destination{};
  std::array<JOCTET, 65536> buffer{};
  std::vector<std::uint8_t>* out = nullptr;
};

void on_error(j_common_ptr info) {
  std::longjmp(static_cast<Encoding*>(info->client_data)->jump, 1);
}

void on_message(j_common_ptr) {}

Encoding& state_of(j_compress_ptr info) { return *static_cast<Encoding*>(info->client_data); }

void on_start(j_compress_ptr info) {
  Encoding& state = state_of(info);
  state.destination.next_output_byte = state.buffer.data();
  state.destination.free_in_buffer = state.buffer.size();
}

void append(j_compress_ptr info, std::size_t length) {
  Encoding& state = state_of(info);
  bool written = true;
  try {
    state.out->insert(state.out->end(), state.buffer.begin(), state.buffer.begin() + length);
  } catch (const std::bad_alloc&) {
    written = false;  // not thrown through C
  }
  if (!written) on_error(reinterpret_cast<j_common_ptr>(info));
}

boolean on_full(j_compress_ptr info) {
  append(info, state_of(info).buffer.size());
  on_start(info);
  return TRUE;
}

void on_end(j_compress_ptr info) {
  append(info, state_of(info).buffer.size() - state_of(info).destination.free_in_buffer);
}

void write_profile(jpeg_compress_struct* info, const std::vector<std::uint8_t>& icc) {
  const std::size_t parts = (icc.size() + kMostProfile - 1) / kMostProfile;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t start = part * kMostProfile;
    const std::size_t length = std::min(kMostProfile, icc.size() - start);
    jpeg_write_m_header(info, kProfileMarker, static_cast<unsigned>(length + 14));
    for (const char letter : {'I', 'C', 'C', '_', 'P', 'R', 'O', 'F', 'I', 'L', 'E', '\0'})
      jpeg_write_m_byte(info, letter);
    jpeg_write_m_byte(info, static_cast<int>(part + 1));
    jpeg_write_m_byte(info, static_cast<int>(parts));
    for (std::size_t at = start; at < start + length; ++at) jpeg_write_m_byte(info, icc[at]);
  }
}

// Nothing with a destructor lives here, since an error jumps out of the middle.
bool encode(Encoding& state, const Pixels& picture, const std::vector<std::uint8_t>& icc) {
  jpeg_compress_struct* info = &state.info;
  if (setjmp(state.jump)) {
    jpeg_destroy_compress(info);
    return false;
  }
  info->err = jpeg_std_error(&state.errors);
  state.errors.error_exit = on_error;
  state.errors.output_message = on_message;
  info->client_data = &state;
  jpeg_create_compress(info);
  state.destination.init_destination = on_start;
  state.destination.empty_output_buffer = on_full;
  state.destination.term_destination = on_end;
  info->dest = &state.destination;
  info->image_width = static_cast<JDIMENSION>(picture.width);
  info->image_height = static_cast<JDIMENSION>(picture.height);
  info->input_components = picture.channels;
  info->in_color_space = picture.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(info);
  jpeg_set_quality(info, kQuality, TRUE);
  info->comp_info[0].h_samp_factor = 1;
  info->comp_info[0].v_samp_factor = 1;
  jpeg_start_compress(info, TRUE);
  write_profile(info, icc);
  for (int y = 0; y < picture.height; ++y) {
    JSAMPROW row = const_cast<JSAMPROW>(picture.at(y, 0));
    jpeg_write_scanlines(info, &row, 1);
  }
  jpeg_finish_compress(info);
  jpeg_destroy_compress(info);
  return true;
}

// On white, rounded as Pillow's alpha_composite rounds.
Pixels flattened(const Pixels& rgba) {
  Pixels rgb(rgba.height, rgba.width, 3);
  for (std::size_t index = 0; index < rgb.data.size() / 3; ++index) {
    const std::uint8_t* from = &rgba.data[4 * index];
    for (int channel = 0; channel < 3; ++channel) {
      const int sum = (from[channel] * from[3] + 255 * (255 - from[3])) * 128 + (128 << 7);
      rgb.data[3 * index + channel] = static_cast<std::uint8_t>((((sum >> 8) + sum) >> 8) >> 7);
    }
  }
  return rgb;
}

}  // namespace

std::vector<std::uint8_t> encode_jpeg(const Pixels& picture, const std::vector<std::uint8_t>& icc) {
  if (picture.channels == 4) return encode_jpeg(flattened(picture), icc);
  if (picture.width > JPEG_MAX_DIMENSION || picture.height > JPEG_MAX_DIMENSION)
    fail_request("a picture of " + std::to_string(picture.width) + "x" +
                 std::to_string(picture.height) + " is too large for JPEG, which ends at " +
                 std::to_string(JPEG_MAX_DIMENSION) + " pixels a side; use PNG");
  std::vector<std::uint8_t> out;
  const auto state = std::make_unique<Encoding>();  // too large for a stack that is not ours
  state->out = &out;
  if (!encode(*state, picture, icc))
    throw Error(ErrorKind::internal, "a JPEG of " + std::to_string(picture.width) + "x" +
                                         std::to_string(picture.height) + " could not be encoded");
  return out;
}

}  // namespace a2edit
