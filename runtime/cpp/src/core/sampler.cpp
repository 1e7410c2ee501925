#include "src/core/sampler.hpp"

#include <array>
#include <cmath>

#include "src/core/error.hpp"

namespace a2edit {
namespace {

constexpr int max_steps = 1000;

using Block = std::array<std::uint64_t, 4>;

struct Product {
  std::uint64_t high, low;
};

Product multiplied(std::uint64_t one, std::uint64_t other) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(one) * other;
  return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
}

// Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) of a counter
// whose upper three words are 0.
Block philox(std::uint64_t counter, std::uint64_t seed) {
  Block block = {counter, 0, 0, 0};
  std::uint64_t key[2] = {seed, 0};
  for (int round = 0; round < 10; ++round) {
    const Product one = multiplied(0xD2E7470EE14C6C93U, block[0]);
    const Product other = multiplied(0xCA5A826395121157U, block[2]);
    block = {other.high ^ block[1] ^ key[0], other.low, one.high ^ block[3] ^ key[1], one.low};
    key[0] += 0x9E3779B97F4A7C15U;
    key[1] += 0xBB67AE8584CAA73BU;
  }
  return block;
}

}  // namespace

int check_steps(int steps) {
  if (steps < 1 || steps > max_steps)
    fail_request("steps must be between 1 and " + std::to_string(max_steps) + ", got " +
                 std::to_string(steps));
  return steps;
}

std::vector<float> sigmas(int steps, std::int64_t image_tokens, const Shift& shift) {
  check_steps(steps);
  if (shift.max_tokens <= shift.base_tokens)
    fail_request("shift.max_tokens is " + std::to_string(shift.max_tokens) +
                 ": it must exceed base_tokens, " + std::to_string(shift.base_tokens));
  // a line through both ends, not clamped
  const double slope = (shift.max_shift - shift.base_shift) /
                       static_cast<double>(shift.max_tokens - shift.base_tokens);
  const double mu = shift.base_shift + static_cast<double>(image_tokens - shift.base_tokens) * slope;
  const double bent = std::exp(mu);
  std::vector<float> levels;
  for (int i = 0; i < steps; ++i) {
    const double linear = 1.0 - static_cast<double>(i) / steps;
    levels.push_back(static_cast<float>(bent / (bent + 1.0 / linear - 1.0)));
  }
  levels.push_back(0.0F);
  return levels;
}

std::vector<float> noise(std::uint64_t seed, std::size_t count) {
  constexpr double unit = 0x1p-53, turn = 2.0 * 3.141592653589793;
  std::vector<float> values(count);
  for (std::size_t at = 0; at < count; at += 4) {
    const Block words = philox(at / 4 + 1, seed);
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const double first = static_cast<double>(words[2 * pair] >> 11) + 1.0;
      const double radius = std::sqrt(-2.0 * std::log(first * unit));
      const double angle = static_cast<double>(words[2 * pair + 1] >> 11) * unit * turn;
      const std::size_t place = at + 2 * pair;
      if (place < count) values[place] = static_cast<float>(radius * std::cos(angle));
      if (place + 1 < count) values[place + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }
  return values;
}

}  // namespace a2edit
