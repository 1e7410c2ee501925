// The model's part of an edit by ctypes, from pictures that are laid out: tests/cpp/test_pipeline.py.
#include <algorithm>

#include "src/core/json.hpp"
#include "src/pipeline.hpp"
#include "tests/probe.hpp"

using namespace a2edit;
using probe::answered;

namespace {

Pixels copied(const std::uint8_t* data, int height, int width, int channels) {
  Pixels pixels(height, width, channels);
  std::copy_n(data, pixels.data.size(), pixels.data.data());
  return pixels;
}

}  // namespace

// NaN is the bundle's tolerance, 0 no budget.
PROBE int probe_pipeline_open(const char* bundle, const char* device, const char* engine,
                              double tolerance, std::int64_t strict, std::uint64_t budget,
                              Pipeline** pipeline) {
  return answered([&] {
    PipelineOptions options{device, engine, {}};
    if (tolerance == tolerance) options.routes.tolerance = tolerance;
    options.routes.strict = strict != 0;
    if (budget) options.routes.memory_budget = budget;
    *pipeline = new Pipeline(bundle, options);
  });
}

PROBE void probe_pipeline_close(Pipeline* pipeline) { delete pipeline; }

// The picture goes to `into`, [side, side, 3]; the answer is what is known of it, as JSON. Told
// `cancel_at` steps, it cancels.
PROBE int probe_pipeline_paint(Pipeline* pipeline, std::int64_t side, const std::uint8_t* canvas,
                               const std::uint8_t* mask, const std::uint8_t* reference,
                               const std::int64_t* text, const std::int64_t* pooled,
                               std::uint64_t seed, std::int64_t steps, std::int64_t cancel_at,
                               std::uint8_t* into) {
  return answered([&] {
    const ModelSpec& model = pipeline->manifest().model;
    const int height = static_cast<int>(side), width = model.canvas_width(height);
    Prepared prepared;
    prepared.canvas = copied(canvas, height, width, 3);
    prepared.mask = copied(mask, height, width, 1);
    prepared.reference = copied(reference, model.reference_size, model.reference_size, 3);
    const PromptIds ids{{text, text + model.text_length}, {pooled, pooled + model.pooled_length}};
    Json told = Json::array();
    Clock clock;
    const Painted painted = pipeline->paint(
        prepared, ids, seed, static_cast<int>(steps),
        [&](int done, int of) {
          told.push_back({done, of});
          return done != cancel_at;
        },
        clock);
    std::copy(painted.pixels.data.begin(), painted.pixels.data.end(), into);
    Json stages = Json::array();
    for (const auto& [stage, seconds] : clock.seconds()) stages.push_back(stage);
    probe::message() = Json({{"route", painted.plan.route},
                             {"supply", supply_name(painted.plan.supply)},
                             {"predicted_error", painted.plan.predicted_error},
                             {"table", painted.plan.table},
                             {"gate_weights", painted.gate_weights},
                             {"warnings", painted.warnings},
                             {"told", told},
                             {"stages", stages}})
                           .dump();
  });
}
