// The schedule and the noise: plain functions (SPEC §2, "schedule"; runtime/sampler.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/core/manifest.hpp"

namespace a2edit {

// Return `steps`, or throw a request Error where no schedule of that length exists.
int check_steps(int steps);

// The noise levels from 1 to 0: [steps + 1], the last exactly 0. `image_tokens` counts the whole
// image sequence: both halves of a diptych. In float64, rounded once.
std::vector<float> sigmas(int steps, std::int64_t image_tokens, const Shift& shift);

// `count` standard normal values, the same for a seed in every host: Philox4x64-10 with key (seed, 0)
// and a counter that is 1 for the first block, Box-Muller in float64, rounded last.
std::vector<float> noise(std::uint64_t seed, std::size_t count);

}  // namespace a2edit
