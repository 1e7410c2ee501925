// The insides of src/pictures. What a function makes waits in a list: probe_made_shape and
// probe_made_copy take it from there.
#include <algorithm>
#include <cstring>

#include "src/pictures/boxes.hpp"
#include "src/pictures/compose.hpp"
#include "src/pictures/images.hpp"
#include "src/pictures/layout.hpp"
#include "src/pictures/masks.hpp"
#include "src/pictures/prepare.hpp"
#include "src/pictures/reference.hpp"
#include "src/pictures/regions.hpp"
#include "src/pictures/resample.hpp"
#include "tests/probe.hpp"

using namespace a2edit;
using probe::answered;
using std::int64_t;
using std::uint8_t;

namespace {

std::vector<Pixels> made;
Request request;

Pixels pixels(const uint8_t* data, int64_t height, int64_t width, int64_t channels) {
  Pixels out(static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels));
  std::copy_n(data, out.data.size(), out.data.begin());
  return out;
}

// A list of bytes is one row.
Pixels row(const std::vector<uint8_t>& bytes) {
  return pixels(bytes.data(), 1, static_cast<int64_t>(bytes.size()), 1);
}

void numbers(const Box& box, int64_t* out) {
  for (const int number : {box.x0, box.y0, box.x1, box.y1}) *out++ = number;
}

Box box_of(const int64_t* numbers) {
  return {static_cast<int>(numbers[0]), static_cast<int>(numbers[1]), static_cast<int>(numbers[2]),
          static_cast<int>(numbers[3])};
}

int answers(const Pixels& one) {
  made = {one};
  return 0;
}

void keep(const Picture& picture) {
  made = {picture.rgb, picture.alpha.value_or(Pixels()), row(picture.icc)};
  probe::message() = picture.name;
}

}  // namespace

// [height, width, channels], all 0 where there is none.
PROBE int probe_made_shape(int64_t index, int64_t* shape) {
  const Pixels none, &one = index < static_cast<int64_t>(made.size()) ? made[index] : none;
  shape[0] = one.height;
  shape[1] = one.width;
  shape[2] = one.channels;
  return 0;
}

PROBE int probe_made_copy(int64_t index, uint8_t* out) {
  std::copy(made[index].data.begin(), made[index].data.end(), out);
  return 0;
}

PROBE int probe_resize(const uint8_t* data, int64_t h, int64_t w, int64_t c, int64_t width,
                       int64_t height, int64_t kind) {
  return answered([&] {
    answers(resize(pixels(data, h, w, c), static_cast<int>(width), static_cast<int>(height),
                   static_cast<Resampling>(kind)));
  });
}

PROBE int probe_to_grey(const uint8_t* data, int64_t h, int64_t w, int64_t c) {
  return answered([&] { answers(to_grey(pixels(data, h, w, c))); });
}

PROBE int probe_box_blur(const uint8_t* data, int64_t h, int64_t w, int64_t c) {
  return answered([&] { answers(box_blur(pixels(data, h, w, c))); });
}

PROBE int probe_dilate(const uint8_t* data, int64_t h, int64_t w, int64_t c, int64_t radius) {
  return answered([&] { answers(dilate(pixels(data, h, w, c), static_cast<int>(radius))); });
}

PROBE int probe_flood(const uint8_t* free, const uint8_t* seeds, int64_t h, int64_t w) {
  return answered([&] { answers(flood(pixels(free, h, w, 1), pixels(seeds, h, w, 1))); });
}

PROBE int probe_fill_outline(const uint8_t* data, int64_t h, int64_t w, int64_t c) {
  return answered([&] { answers(fill_outline(pixels(data, h, w, c))); });
}

PROBE int probe_resize_mask(const uint8_t* data, int64_t h, int64_t w, int64_t c, int64_t width,
                            int64_t height) {
  return answered([&] {
    answers(resize_mask(pixels(data, h, w, c), static_cast<int>(width), static_cast<int>(height)));
  });
}

PROBE int probe_feathered(const uint8_t* data, int64_t h, int64_t w, int64_t c, int64_t feather) {
  return answered([&] { answers(feathered(pixels(data, h, w, c), static_cast<int>(feather))); });
}

PROBE int probe_object_on_plain_ground(const uint8_t* data, int64_t h, int64_t w, int64_t c) {
  return answered([&] { answers(object_on_plain_ground(pixels(data, h, w, c))); });
}

PROBE int probe_tight_box(const uint8_t* data, int64_t h, int64_t w, int64_t c, int64_t* out) {
  return answered([&] { numbers(tight_box(pixels(data, h, w, c)), out); });
}

PROBE int probe_parse_box(const char* text, int64_t* out) {
  return answered([&] { numbers(parse_box(text), out); });
}

PROBE int probe_context_window(const int64_t* box, int64_t width, int64_t height, int64_t size,
                               int64_t* out) {
  return answered([&] {
    numbers(context_window(box_of(box), static_cast<int>(width), static_cast<int>(height),
                           static_cast<int>(size)),
            out);
  });
}

PROBE int probe_crop_window(const uint8_t* picture, const uint8_t* mask, int64_t h, int64_t w,
                            const int64_t* window, int64_t size) {
  return answered([&] {
    auto [cut, cut_mask] = crop_window(pixels(picture, h, w, 3), pixels(mask, h, w, 1),
                                       box_of(window), static_cast<int>(size));
    made = {cut, cut_mask};
  });
}

PROBE int probe_reference_panel(const uint8_t* picture, const uint8_t* mask, int64_t h, int64_t w,
                                const int64_t* box, int64_t size, const char* placement) {
  return answered([&] {
    answers(reference_panel(pixels(picture, h, w, 3), pixels(mask, h, w, 1), box_of(box),
                            static_cast<int>(size), placement));
  });
}

PROBE int probe_decode(const uint8_t* bytes, int64_t size, const char* name) {
  return answered([&] { keep(decode_picture(bytes, static_cast<std::size_t>(size), name)); });
}

PROBE int probe_load_picture(const char* path, const char* role) {
  return answered([&] { keep(load_picture({path, std::nullopt, std::nullopt}, role)); });
}

PROBE int probe_on_white(const uint8_t* rgba, int64_t h, int64_t w) {
  return answered([&] {
    const PictureSource source{"", pixels(rgba, h, w, 4), std::nullopt};
    answers(on_white(load_picture(source, "image")));
  });
}

// `icc` is a list of bytes; `key` and `value` of one text, or both empty.
PROBE int probe_encode(const char* format, const uint8_t* data, int64_t h, int64_t w, int64_t c,
                       const uint8_t* icc, int64_t icc_size, const char* key, const char* value) {
  return answered([&] {
    const Pixels picture = pixels(data, h, w, c);
    const std::vector<uint8_t> profile(icc, icc + icc_size);
    TextChunks text;
    if (*key) text.emplace_back(key, value);
    made = {row(std::strcmp(format, "png") == 0 ? encode_png(picture, profile, text)
                                                : encode_jpeg(picture, profile))};
  });
}

PROBE int probe_check_output(const char* path, const char* role) {
  return answered([&] { check_output(path, role); });
}

PROBE int probe_save_picture(const uint8_t* data, int64_t h, int64_t w, int64_t c,
                             const char* path) {
  return answered([&] { save_picture(pixels(data, h, w, c), {}, path); });
}

PROBE int probe_new_request(int64_t resize_mask) {
  request = Request();
  request.resize_mask = resize_mask != 0;
  return 0;
}

// `which`: image, reference, mask or reference_mask; pixels where the path is empty.
PROBE int probe_request_picture(const char* which, const char* path, const uint8_t* data, int64_t h,
                                int64_t w, int64_t c) {
  PictureSource source{path, std::nullopt, std::nullopt};
  if (source.path.empty()) source.pixels = pixels(data, h, w, c);
  const std::string role = which;
  if (role == "image") request.image = source;
  if (role == "reference") request.reference = source;
  if (role == "mask") request.mask = source;
  if (role == "reference_mask") request.reference_mask = source;
  return 0;
}

PROBE int probe_request_box(const int64_t* box) {
  request.boxes.push_back(box_of(box));
  return 0;
}

// Canvas, mask, reference, source, its mask, alpha and profile; then `out` is the window and the
// picture that comes of pasting `generated` back.
PROBE int probe_prepare(const char* layout, const char* placement, int64_t size,
                        int64_t reference_size, int64_t* out, const uint8_t* generated) {
  return answered([&] {
    ModelSpec model;
    model.layout = layout;
    model.reference_placement = placement;
    model.size = static_cast<int>(size);
    model.sizes = {model.size};
    model.reference_size = static_cast<int>(reference_size);
    const Prepared prepared = prepare(request, model);
    numbers(prepared.window, out);
    made = {prepared.canvas,      prepared.mask,
            prepared.reference,   prepared.source,
            prepared.source_mask, prepared.alpha.value_or(Pixels()),
            row(prepared.icc),    compose(prepared, pixels(generated, size, size, 3))};
  });
}
