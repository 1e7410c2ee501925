#include "src/pipeline.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/core/sampler.hpp"

namespace a2edit {
namespace {

// u8 [1, H, W, C], or [1, H, W] of a mask.
Array batched(const Pixels& pixels) {
  Shape shape = {1, pixels.height, pixels.width};
  if (pixels.channels > 1) shape.push_back(pixels.channels);
  return Array::of(Type::uint8, std::move(shape), pixels.data);
}

Array batched(const std::vector<std::int64_t>& ids) {
  return Array::of(Type::int64, {1, static_cast<std::int64_t>(ids.size())}, ids);
}

Pixels pixels_of(const Array& array) {
  const Shape& shape = array.shape();
  if (array.type() != Type::uint8 || shape.size() != 4 || shape[0] != 1 || shape[3] != 3)
    fail_engine("graph 'vae_decoder' gave " + array.text() + " as pixels: expected one picture");
  Pixels pixels(static_cast<int>(shape[1]), static_cast<int>(shape[2]), 3);
  std::copy_n(array.as<std::uint8_t>(), pixels.data.size(), pixels.data.data());
  return pixels;
}

std::vector<float> floats_of(const Array& array) {
  const float* first = array.as<float>();
  return {first, first + item_count(array.shape())};
}

}  // namespace

Clock::Stop::~Stop() {
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  for (auto& [name, seconds] : clock.seconds_) {
    if (name != stage) continue;
    seconds += spent.count();
    return;
  }
  clock.seconds_.emplace_back(stage, spent.count());
}

Pipeline::Pipeline(const std::string& bundle, const PipelineOptions& options)
    : bundle_(open_bundle(bundle)),
      engines_(bundle_, options.device, options.engine),
      routes_(bundle_.manifest, engines_.static_weights(), engines_.merged_weights(),
              options.routes, [this](const SharedWeights& weights) { engines_.release(weights); }),
      modulations_(bundle_.manifest.sampler.guidance) {}

Painted Pipeline::paint(const Prepared& prepared, const PromptIds& ids, std::uint64_t seed,
                        int steps, const Progress& progress, Clock& clock) {
  Painted painted;
  engines_.with_room([&] { painted = paint_once(prepared, ids, seed, steps, progress, clock); },
                     [this] { routes_.clear(); });
  return painted;
}

Painted Pipeline::paint_once(const Prepared& prepared, const PromptIds& ids, std::uint64_t seed,
                             int steps, const Progress& progress, Clock& clock) {
  const ModelSpec& model = manifest().model;
  const SamplerEntry& sampler = manifest().sampler;
  const std::int64_t rows = model.rows(prepared.canvas.height);
  const std::int64_t columns = model.columns(prepared.canvas.height);
  const Shape shape = {1, rows, columns, model.latent_channels};

  Arrays tokens = clock("encode", [&] { return encode(prepared, ids); });
  const Array pooled = tokens.at("pooled");
  tokens.erase("pooled");
  const std::vector<float> gate_weights = clock("gate", [&] {
    return floats_of(engines_.get("gate").run(tokens).at("gate_weights"));
  });
  const RoutePlan plan = clock("route", [&] { return routes_.plan(gate_weights); });
  const std::vector<float> levels = sigmas(steps, rows * columns, sampler.shift);
  const std::vector<Array>& modulation = clock("modulate", [&]() -> const std::vector<Array>& {
    return modulations_.of(engines_.get("modulation"), pooled, levels);
  });
  Engine& dit = clock("route", [&]() -> Engine& {
    return engines_.denoiser(routes_.supply(plan));
  });
  Arrays latents = clock("denoise", [&] {
    tokens["latents"] = Array::of(Type::float32, shape, noise(seed, item_count(shape)));
    return denoise(dit, std::move(tokens), levels, modulation, progress);
  });
  Pixels pixels = clock("decode", [&] {
    return pixels_of(engines_.get("vae_decoder").run(latents).at("pixels"));
  });
  return {std::move(pixels), plan, gate_weights, warnings(plan)};
}

Arrays Pipeline::encode(const Prepared& prepared, const PromptIds& ids) {
  Arrays tokens =
      engines_.get("vae_encoder")
          .run({{"pixels", batched(prepared.canvas)}, {"mask", batched(prepared.mask)}});
  tokens.merge(engines_.get("image_encoder").run({{"reference", batched(prepared.reference)}}));
  tokens.merge(engines_.get("text_encoder").run({{"text_ids", batched(ids.text)}}));
  tokens.merge(engines_.get("pooled_encoder").run({{"pooled_ids", batched(ids.pooled)}}));
  return tokens;
}

// Euler steps from the latents at levels[0] to the last level.
Arrays Pipeline::denoise(Engine& engine, Arrays inputs, const std::vector<float>& levels,
                         const std::vector<Array>& modulation, const Progress& progress) {
  const int steps = static_cast<int>(levels.size()) - 1;
  InputNames unchanged;
  for (int step = 0; step < steps; ++step) {
    const auto at = static_cast<std::size_t>(step);
    const std::vector<float> delta = {levels[at + 1] - levels[at]};
    inputs["modulation"] = modulation[at];
    inputs["delta"] = Array::of(Type::float32, {1}, delta);
    inputs["latents"] = engine.run(inputs, unchanged).at("next_latents");
    unchanged = {"conditioning", "reference_tokens", "text_tokens"};
    if (progress && !progress(step + 1, steps))
      throw Error(ErrorKind::cancelled, "the edit was cancelled after " + std::to_string(step + 1) +
                                            " of " + std::to_string(steps) + " steps");
  }
  return {{"latents", inputs["latents"]}};
}

// What is to be said about an edit on these engines, with this plan.
std::vector<std::string> Pipeline::warnings(const RoutePlan& plan) const {
  std::vector<std::string> said;
  const Json verified = manifest().verification.value(target(), Json::object());
  const Json accepted = verified.is_object() ? verified.value("accepted", Json()) : Json();
  if (accepted.is_array())
    for (const Json& figure : accepted)
      if (figure.is_string())
        said.push_back("this bundle was built with --accept-quality, though " +
                       figure.get<std::string>());
  if (!plan.warning.empty()) said.push_back(plan.warning);
  const std::vector<std::string> engines = engines_.warnings();
  said.insert(said.end(), engines.begin(), engines.end());
  return said;
}

}  // namespace a2edit
