#include <doctest/doctest.h>

#include <algorithm>

#include "src/core/error.hpp"
#include "src/pictures/boxes.hpp"
#include "src/pictures/compose.hpp"
#include "src/pictures/decode.hpp"
#include "src/pictures/images.hpp"
#include "src/pictures/layout.hpp"
#include "src/pictures/masks.hpp"
#include "src/pictures/regions.hpp"
#include "src/pictures/resample.hpp"

using namespace a2edit;

namespace {

// A picture whose every byte is another than its neighbours.
Pixels pattern(int height, int width, int channels) {
  Pixels pixels(height, width, channels);
  std::uint32_t state = 1;
  for (std::uint8_t& value : pixels.data)
    value = static_cast<std::uint8_t>((state = state * 1664525U + 1013904223U) >> 24U);
  return pixels;
}

Pixels filled(int height, int width, std::uint8_t value) {
  Pixels pixels(height, width, 1);
  std::fill(pixels.data.begin(), pixels.data.end(), value);
  return pixels;
}

Picture decoded(const std::vector<std::uint8_t>& file) {
  return decode_picture(file.data(), file.size(), "image");
}

}  // namespace

TEST_CASE("shrinking by a box is the mean of what it covers") {
  Pixels four(2, 2, 1);
  four.data = {10, 20, 30, 40};
  CHECK(resize(four, 1, 1, Resampling::box).data == std::vector<std::uint8_t>{25});
}

TEST_CASE("one colour stays that colour at any size") {
  for (const Resampling kind : {Resampling::box, Resampling::bilinear, Resampling::lanczos})
    for (const int side : {1, 7, 64}) {
      const Pixels resized = resize(filled(23, 31, 137), side, 2 * side, kind);
      CHECK(resized.data == filled(2 * side, side, 137).data);
    }
}

TEST_CASE("a PNG comes back as it went") {
  for (const int channels : {1, 3, 4}) {
    const Pixels pixels = pattern(13, 29, channels);
    const Picture picture = decoded(encode_png(pixels));
    REQUIRE(picture.rgb.width == 29);
    REQUIRE(picture.rgb.height == 13);
    REQUIRE(picture.alpha.has_value() == (channels == 4));
    for (std::size_t index = 0; index < 13 * 29; ++index) {
      CHECK(picture.rgb.data[3 * index] == pixels.data[index * channels]);
      if (channels == 4) CHECK(picture.alpha->data[index] == pixels.data[4 * index + 3]);
    }
  }
}

TEST_CASE("a JPEG of one grey comes back as that grey") {
  const Picture picture = decoded(encode_jpeg(filled(9, 17, 90)));
  CHECK(std::all_of(picture.rgb.data.begin(), picture.rgb.data.end(),
                    [](std::uint8_t value) { return value == 90; }));
}

TEST_CASE("four quarter turns are none") {
  const Pixels pixels = pattern(3, 5, 3);
  Pixels turned = pixels;
  for (int times = 0; times < 4; ++times) turned = upright(turned, 6);
  CHECK(turned.data == pixels.data);
  CHECK(upright(pixels, 6).width == 3);
}

TEST_CASE("a ring is filled, a scribble stays") {
  Pixels ring = filled(20, 20, 0);
  for (int at = 5; at < 15; ++at)
    for (const int side : {5, 14}) *ring.at(at, side) = *ring.at(side, at) = 1;
  CHECK(count(fill_outline(ring)) == 100);
  Pixels blot = filled(20, 20, 0);
  for (int y = 5; y < 15; ++y) std::fill_n(blot.at(y, 5), 10, std::uint8_t{1});
  CHECK(fill_outline(blot).data == blot.data);
}

TEST_CASE("the seam reaches as far as it says") {
  Pixels mask = filled(41, 41, 0);
  *mask.at(20, 20) = 255;
  const Pixels weight = feathered(mask);
  CHECK(*weight.at(20, 20) == 255);
  for (int x = 0; x < 41; ++x) CHECK((*weight.at(20, x) > 0) == (std::abs(x - 20) <= kFeather));
}

TEST_CASE("outside of the mask nothing moves") {
  Prepared prepared;
  prepared.source = pattern(50, 60, 3);
  prepared.source_mask = filled(50, 60, 0);
  for (int y = 20; y < 30; ++y) std::fill_n(prepared.source_mask.at(y, 20), 10, std::uint8_t{255});
  prepared.window = {10, 5, 50, 45};
  const Pixels edited = compose(prepared, pattern(64, 64, 3));
  for (int y = 0; y < 50; ++y)
    for (int x = 0; x < 60; ++x) {
      const bool far =
          x < 20 - kFeather || x >= 30 + kFeather || y < 20 - kFeather || y >= 30 + kFeather;
      if (far) CHECK(std::equal(edited.at(y, x), edited.at(y, x) + 3, prepared.source.at(y, x)));
    }
}

TEST_CASE("an object keeps its shape where it is contained") {
  const Pixels fitted = contain(pattern(30, 60, 3), 40, 40);
  CHECK(fitted.width == 40);
  CHECK(fitted.height == 20);
}

TEST_CASE("errors are of the request") {
  CHECK_THROWS_AS(tight_box(filled(4, 4, 127)), Error);
  try {
    parse_box("1,2,3");
    FAIL("it was taken");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::request);
    CHECK(
        std::string(error.what()) ==
        "box '1,2,3' is not x0,y0,x1,y1: give four whole numbers in pixels, such as 40,30,200,180");
  }
}
