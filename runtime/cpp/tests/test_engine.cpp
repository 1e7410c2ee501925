#include <doctest/doctest.h>

#include <stdexcept>

#include "src/engines/engine.hpp"
#include "tests/refusal.hpp"

using namespace a2edit;

namespace {

// Records what reaches a backend, and can refuse.
class Recording : public Engine {
 public:
  explicit Recording(bool parameters = false)
      : Engine({"dit",
                {{"x", Type::float32, {open_size, 2}}},
                {{"y", Type::float32, {1, 2}}},
                {{"w", Type::bfloat16, {2, 2}}},
                parameters ? std::vector<TensorSpec>{{"p", Type::float32, {3}}}
                           : std::vector<TensorSpec>{}}) {}

  std::vector<std::string> calls;
  bool refuses = false;

 private:
  void bind_arrays(const Arrays& arrays) override {
    calls.push_back("bind " + std::to_string(arrays.size()));
    if (refuses) throw std::runtime_error("full");
  }
  void unbind_arrays() override { calls.emplace_back("unbind"); }
  Arrays run_arrays(const Arrays& inputs) override {
    CHECK(inputs.at("x").aligned());
    calls.push_back("run " + inputs.at("x").text());
    return {};
  }
};

SharedWeights weights(Shape shape = {2, 2}) {
  return std::make_shared<const WeightSet>(
      WeightSet{"red", {{"w", Array(Type::bfloat16, std::move(shape))}}, nullptr});
}

const Arrays input = {{"x", Array(Type::float32, {3, 2})}};

}  // namespace

TEST_CASE("what a graph does not take is refused before a backend sees it") {
  Recording engine;
  CHECK(refusal(ErrorKind::engine, [&] { engine.run(input); }) ==
        "graph 'dit' runs on routed weights: bind a set first");
  CHECK(refusal(ErrorKind::engine, [&] { engine.bind(weights({2, 3})); }) ==
        "red: expected w bfloat16[2, 2], got uint16[2, 3]");
  engine.bind(weights());
  CHECK(refusal(ErrorKind::engine, [&] { engine.run({}); }) ==
        "the inputs of 'dit': x float32[-1, 2] is missing; there are ");
  CHECK(refusal(ErrorKind::engine, [&] { engine.run({{"x", Array(Type::float32, {3, 4})}}); }) ==
        "the inputs of 'dit': expected x float32[-1, 2], got float32[3, 4]");
  CHECK(refusal(ErrorKind::engine, [&] { engine.run({{"x", Array(Type::float32, {3, 2})}, {"z", Array()}}); }) ==
        "graph 'dit' has no input z; it has x");
  CHECK(engine.calls == std::vector<std::string>{"bind 1"});
  engine.run(input);
  CHECK(engine.calls.back() == "run float32[3, 2]");
}

TEST_CASE("a set that is bound is not bound again, and goes where binding the next fails") {
  Recording engine;
  const SharedWeights red = weights();
  engine.bind(red);
  engine.bind(red);
  CHECK(engine.calls == std::vector<std::string>{"bind 1"});
  engine.refuses = true;
  CHECK_THROWS(engine.bind(weights()));
  CHECK(engine.calls.back() == "unbind");
  CHECK(refusal(ErrorKind::engine, [&] { engine.run(input); }).find("bind a set first") != std::string::npos);
}

TEST_CASE("parameters are fed once and bound with every set") {
  Recording engine(true);
  engine.bind(weights());
  CHECK(refusal(ErrorKind::engine, [&] { engine.run(input); }) ==
        "graph 'dit' takes its parameters as inputs: feed them");
  engine.feed({{"p", Array(Type::float32, {3})}});
  engine.unbind();
  engine.bind(weights());
  CHECK(engine.calls == std::vector<std::string>{"bind 1", "bind 1", "unbind", "bind 2"});
}

TEST_CASE("an engine of the processor takes no weights that lie on a GPU") {
  Recording engine;
  const DeviceTensor far = {nullptr, Type::bfloat16, {2, 2}};
  const auto set = std::make_shared<const WeightSet>(WeightSet{"far", {}, nullptr, {{"w", far}}});
  CHECK(refusal(ErrorKind::engine, [&] { engine.bind(set); }) ==
        "graph 'dit' runs on the processor, and weights merged on a GPU were bound to it");
  CHECK(engine.calls == std::vector<std::string>{"unbind"});
}

TEST_CASE("an array whose bytes are not aligned is copied") {
  Recording engine;
  engine.bind(weights());
  const auto bytes = std::make_shared<std::vector<std::uint8_t>>(64);
  const Array odd(Type::float32, {3, 2}, bytes->data() + 1, bytes);
  CHECK_FALSE(odd.aligned());
  engine.run({{"x", odd}});
  CHECK(engine.calls.back() == "run float32[3, 2]");
}
