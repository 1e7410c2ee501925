#include "src/pictures/resample.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace a2edit {
namespace {

// 8 bits for the result and 2 to spare: a filter with negative lobes overshoots both ends.
constexpr int kPrecisionBits = 32 - 8 - 2;

constexpr double kPi = 3.14159265358979323846;

struct Filter {
  double (*weight)(double);
  double support;  // half of the width, in pixels of the larger grid
};

double box_weight(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear_weight(double x) {
  const double distance = std::fabs(x);
  return distance < 1.0 ? 1.0 - distance : 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  const double angle = x * kPi;
  return std::sin(angle) / angle;
}

double lanczos_weight(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

Filter filter_of(Resampling kind) {
  switch (kind) {
    case Resampling::box:
      return {box_weight, 0.5};
    case Resampling::bilinear:
      return {bilinear_weight, 1.0};
    default:
      return {lanczos_weight, 3.0};
  }
}

// Which pixels make one pixel of the result, and by how much.
struct Taps {
  int first = 0;
  int count = 0;
  const std::int32_t* weights = nullptr;  // 1.0 is 1 << kPrecisionBits
};

class Coefficients {
 public:
  Coefficients(int from, int to, const Filter& filter) {
    const double scale = static_cast<double>(from) / to;
    const double filter_scale = std::max(scale, 1.0);
    const double support = filter.support * filter_scale;
    const double inverse = 1.0 / filter_scale;
    most_ = static_cast<int>(std::ceil(support)) * 2 + 1;
    spans_.reserve(static_cast<std::size_t>(to));
    weights_.resize(static_cast<std::size_t>(to) * static_cast<std::size_t>(most_));
    std::vector<double> exact(static_cast<std::size_t>(most_));
    for (int index = 0; index < to; ++index) {
      const double centre = (index + 0.5) * scale;
      const double low = centre - support + 0.5, high = centre + support + 0.5;
      const int first = std::max(static_cast<int>(low), 0);
      const int count = std::min(static_cast<int>(high), from) - first;
      double sum = 0.0;
      for (int tap = 0; tap < count; ++tap) {
        exact[tap] = filter.weight((tap + first - centre + 0.5) * inverse);
        sum += exact[tap];
      }
      std::int32_t* out = weights_.data() + static_cast<std::size_t>(index) * most_;
      for (int tap = 0; tap < count; ++tap) {
        const double share = sum != 0.0 ? exact[tap] / sum : exact[tap];
        const double fixed = share * (1 << kPrecisionBits);
        out[tap] = static_cast<std::int32_t>(share < 0 ? fixed - 0.5 : fixed + 0.5);
      }
      spans_.emplace_back(first, count);
    }
  }

  Taps at(int index) const {
    const auto& [first, count] = spans_[static_cast<std::size_t>(index)];
    return {first, count, weights_.data() + static_cast<std::size_t>(index) * most_};
  }

 private:
  int most_ = 0;
  std::vector<std::pair<int, int>> spans_;
  std::vector<std::int32_t> weights_;
};

constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);

std::uint8_t clipped(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

template <int C>
void row_across(const std::uint8_t* from, std::uint8_t* to, int width, const Coefficients& taps) {
  for (int x = 0; x < width; ++x) {
    const Taps span = taps.at(x);
    const std::uint8_t* in = from + static_cast<std::ptrdiff_t>(span.first) * C;
    std::int32_t sums[C];
    std::fill_n(sums, C, kHalf);
    for (int tap = 0; tap < span.count; ++tap, in += C)
      for (int channel = 0; channel < C; ++channel)
        sums[channel] += in[channel] * span.weights[tap];
    for (int channel = 0; channel < C; ++channel) to[x * C + channel] = clipped(sums[channel]);
  }
}

// Rows `first` to `first + rows` of the picture.
Pixels resized_across(const Pixels& picture, int width, int first, int rows, const Filter& filter) {
  const Coefficients taps(picture.width, width, filter);
  Pixels out(rows, width, picture.channels);
  for (int y = 0; y < rows; ++y) {
    const std::uint8_t* from = picture.at(first + y, 0);
    if (picture.channels == 1) row_across<1>(from, out.at(y, 0), width, taps);
    if (picture.channels == 3) row_across<3>(from, out.at(y, 0), width, taps);
    if (picture.channels == 4) row_across<4>(from, out.at(y, 0), width, taps);
  }
  return out;
}

// `picture` starts at row `first` of what the coefficients count in.
Pixels resized_down(const Pixels& picture, int height, int first, const Coefficients& taps) {
  Pixels out(height, picture.width, picture.channels);
  const std::size_t row = static_cast<std::size_t>(picture.width) * picture.channels;
  std::vector<std::int32_t> sums(row);
  for (int y = 0; y < height; ++y) {
    const Taps span = taps.at(y);
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int tap = 0; tap < span.count; ++tap) {
      const std::uint8_t* in = picture.at(span.first + tap - first, 0);
      const std::int32_t weight = span.weights[tap];
      for (std::size_t x = 0; x < row; ++x) sums[x] += in[x] * weight;
    }
    std::uint8_t* to = out.at(y, 0);
    for (std::size_t x = 0; x < row; ++x) to[x] = clipped(sums[x]);
  }
  return out;
}

// Which way comes first shows in the rounding. Pillow goes down the columns first where that takes
// away much more of the height than of the width.
bool columns_first(const Pixels& picture, int width, int height) {
  const std::int64_t shorter = std::int64_t{picture.height} - height;
  const std::int64_t narrower = std::int64_t{picture.width} - width;
  return shorter > 0 && shorter > 2 * narrower;
}

}  // namespace

Pixels resize(const Pixels& picture, int width, int height, Resampling kind) {
  if (picture.width == width && picture.height == height) return picture;
  const Filter filter = filter_of(kind);
  if (picture.height == height) return resized_across(picture, width, 0, height, filter);
  const Coefficients down(picture.height, height, filter);
  if (picture.width == width) return resized_down(picture, height, 0, down);
  if (columns_first(picture, width, height))
    return resized_across(resized_down(picture, height, 0, down), width, 0, height, filter);
  const int first = down.at(0).first;
  const Taps last = down.at(height - 1);
  const int rows = last.first + last.count - first;
  return resized_down(resized_across(picture, width, first, rows, filter), height, first, down);
}

Pixels to_grey(const Pixels& rgb) {
  Pixels grey(rgb.height, rgb.width, 1);
  const std::uint8_t* in = rgb.data.data();
  for (std::uint8_t& out : grey.data) {
    out = static_cast<std::uint8_t>((in[0] * 19595 + in[1] * 38470 + in[2] * 7471 + 0x8000) >> 16);
    in += 3;
  }
  return grey;
}

namespace {

// A third in 24 bits, as Pillow counts: three of them are one too few, and what would be shared
// among the pixels beyond comes out as 0.
constexpr std::uint32_t kThird = (1U << 24) / 3;

std::uint8_t third(std::uint32_t sum) {
  return static_cast<std::uint8_t>((sum * kThird + (1U << 23)) >> 24);
}

}  // namespace

Pixels box_blur(const Pixels& grey) {
  Pixels across(grey.height, grey.width, 1);
  for (int y = 0; y < grey.height; ++y) {
    const std::uint8_t* in = grey.at(y, 0);
    std::uint8_t* out = across.at(y, 0);
    for (int x = 0; x < grey.width; ++x) {
      const int left = std::max(x - 1, 0), right = std::min(x + 1, grey.width - 1);
      out[x] = third(static_cast<std::uint32_t>(in[left]) + in[x] + in[right]);
    }
  }
  Pixels down(grey.height, grey.width, 1);
  for (int y = 0; y < grey.height; ++y) {
    const std::uint8_t* above = across.at(std::max(y - 1, 0), 0);
    const std::uint8_t* in = across.at(y, 0);
    const std::uint8_t* below = across.at(std::min(y + 1, grey.height - 1), 0);
    std::uint8_t* out = down.at(y, 0);
    for (int x = 0; x < grey.width; ++x)
      out[x] = third(static_cast<std::uint32_t>(above[x]) + in[x] + below[x]);
  }
  return down;
}

}  // namespace a2edit
