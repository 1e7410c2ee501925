// What the denoiser's blocks take of every noise level (`modulations` of runtime/sampler.py).
#pragma once

#include <vector>

#include "src/engines/engine.hpp"

namespace a2edit {

// Every block's shifts, scales and gates come of the prompt, the noise level and the guidance
// alone: they are computed before the loop, and kept for the next one, which takes them again where
// prompt and levels are the same. One thread at a time.
class Modulations {
 public:
  explicit Modulations(double guidance) : guidance_(static_cast<float>(guidance)) {}

  // float32 [1, M] for each step of a loop from levels[0] to the last level, by `engine`, the graph
  // "modulation"; good until the next call. `pooled`, float32 [1, P], is kept, and nothing may
  // write to it. Throws an engine Error.
  const std::vector<Array>& of(Engine& engine, const Array& pooled,
                               const std::vector<float>& levels);

 private:
  float guidance_;
  Array pooled_;               // of the last loop,
  std::vector<float> levels_;  // and its levels
  std::vector<Array> steps_;   // none: there was no loop yet, or its engine failed
};

}  // namespace a2edit
