#include <doctest/doctest.h>

#include "src/modulation.hpp"
#include "tests/refusal.hpp"

using namespace a2edit;

namespace {

using Floats = std::vector<float>;

// modulation = [the sum of pooled, sigma, guidance]. Records the levels, and can run out.
class Recording : public Engine {
 public:
  Recording()
      : Engine({"modulation",
                {{"pooled", Type::float32, {1, 2}},
                 {"sigma", Type::float32, {1}},
                 {"guidance", Type::float32, {1}}},
                {{"modulation", Type::float32, {1, 3}}},
                {},
                {}}) {}

  Floats levels;
  std::size_t runs_left = 100;

 private:
  void bind_arrays(const Arrays&) override {}
  void unbind_arrays() override {}
  Arrays run_arrays(const Arrays& inputs) override {
    if (runs_left-- == 0) throw Error(ErrorKind::device_memory, "full");
    const auto* pooled = inputs.at("pooled").as<float>();
    levels.push_back(*inputs.at("sigma").as<float>());
    const Floats made = {pooled[0] + pooled[1], levels.back(), *inputs.at("guidance").as<float>()};
    return {{"modulation", Array::of(Type::float32, {1, 3}, made)}};
  }
};

Array prompt(float value) { return Array::of(Type::float32, {1, 2}, Floats{value, 1.0F}); }

std::vector<Floats> values(const std::vector<Array>& steps) {
  std::vector<Floats> found;
  for (const Array& step : steps) found.emplace_back(step.as<float>(), step.as<float>() + 3);
  return found;
}

const Floats two = {1.0F, 0.75F, 0.0F}, other_two = {1.0F, 0.5F, 0.0F}, one = {1.0F, 0.0F};

}  // namespace

TEST_CASE("every step has its own, and the level at which the loop ends has none") {
  Recording engine;
  Modulations modulations(3.5);
  CHECK(values(modulations.of(engine, prompt(2), two)) ==
        std::vector<Floats>{{3.0F, 1.0F, 3.5F}, {3.0F, 0.75F, 3.5F}});
  CHECK(engine.levels == Floats{1.0F, 0.75F});
}

TEST_CASE("a loop of the same prompt and levels takes the last one's again") {
  Recording engine;
  Modulations modulations(3.5);
  const std::vector<Floats> first = values(modulations.of(engine, prompt(2), two));
  CHECK(values(modulations.of(engine, prompt(2), two)) == first);  // from other memory
  CHECK(engine.levels.size() == 2);
}

TEST_CASE("another prompt, other levels and another number of steps are computed") {
  Recording engine;
  Modulations modulations(3.5);
  modulations.of(engine, prompt(2), two);
  CHECK(values(modulations.of(engine, prompt(4), two))[0] == Floats{5.0F, 1.0F, 3.5F});
  CHECK(engine.levels.size() == 4);
  CHECK(values(modulations.of(engine, prompt(4), other_two))[1] == Floats{5.0F, 0.5F, 3.5F});
  CHECK(engine.levels.size() == 6);
  CHECK(modulations.of(engine, prompt(4), one).size() == 1);
  CHECK(engine.levels.size() == 7);
  CHECK(values(modulations.of(engine, prompt(2), two))[1] == Floats{3.0F, 0.75F, 3.5F});
  CHECK(engine.levels.size() == 9);  // of loops before the last nothing is kept
}

TEST_CASE("a loop whose engine failed leaves nothing to take again") {
  Recording engine;
  Modulations modulations(3.5);
  modulations.of(engine, prompt(2), two);
  for (int times = 0; times < 2; ++times) {
    engine.runs_left = 1;
    CHECK(refusal(ErrorKind::device_memory, [&] { modulations.of(engine, prompt(4), two); }) ==
          "full");
  }
  engine.runs_left = 2;
  CHECK(values(modulations.of(engine, prompt(4), two))[1] == Floats{5.0F, 0.75F, 3.5F});
}
