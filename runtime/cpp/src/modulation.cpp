#include "src/modulation.hpp"

#include <cstring>

namespace a2edit {
namespace {

Array single(float value) { return Array::of(Type::float32, {1}, std::vector<float>{value}); }

bool same(const Array& one, const Array& other) {
  return one.type() == other.type() && one.shape() == other.shape() &&
         std::memcmp(one.data(), other.data(), one.nbytes()) == 0;
}

}  // namespace

const std::vector<Array>& Modulations::of(Engine& engine, const Array& pooled,
                                          const std::vector<float>& levels) {
  if (!steps_.empty() && levels == levels_ && same(pooled, pooled_)) return steps_;
  steps_.clear();  // before the new ones are made, so that both never lie in memory
  Arrays inputs = {{"pooled", pooled}, {"guidance", single(guidance_)}};
  std::vector<Array> made;
  for (std::size_t step = 0; step + 1 < levels.size(); ++step) {
    inputs["sigma"] = single(levels[step]);
    made.push_back(engine.run(inputs).at("modulation"));
  }
  pooled_ = pooled;
  levels_ = levels;
  steps_ = std::move(made);
  return steps_;
}

}  // namespace a2edit
