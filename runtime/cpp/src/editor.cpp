#include "src/editor.hpp"

#include <cstdio>
#include <tuple>

#include "src/pictures/compose.hpp"
#include "src/pictures/prepare.hpp"
#include "src/request.hpp"

namespace a2edit {
namespace {

PromptTokenizer tokenizer_of(const Bundle& bundle, const char* name) {
  const TokenizerEntry& entry = *bundle.manifest.tokenizers.find(name);
  return {bundle.path(entry.file), entry.length, entry.pad_id};
}

}  // namespace

Editor::Editor(const std::string& bundle, const PipelineOptions& options)
    : pipeline_(bundle, options),
      text_(tokenizer_of(pipeline_.bundle(), "text")),
      pooled_(tokenizer_of(pipeline_.bundle(), "pooled")) {}

void Editor::open_engines() {
  const std::lock_guard<std::mutex> lock(engines_);
  pipeline_.open_engines();
}

EditResult Editor::edit(const Request& request, const Progress& progress) {
  check_request(request);
  Clock clock;
  {
    const std::lock_guard<std::mutex> lock(engines_);
    clock("load", [&] { pipeline_.open_engines(); });
  }
  PromptIds ids;
  bool cut = false;
  const Prepared prepared = clock("prepare", [&] {
    Prepared laid_out = prepare(request, manifest().model);
    std::tie(ids.text, cut) = text_.encode(request.prompt);
    ids.pooled = pooled_.encode(request.prompt).first;
    return laid_out;
  });
  const int steps = request.steps.value_or(manifest().sampler.steps);
  Painted painted;
  {
    const std::lock_guard<std::mutex> lock(engines_);
    painted = pipeline_.paint(prepared, ids, request.seed, steps, progress, clock);
  }
  EditResult result;
  result.image = clock("compose", [&] { return compose(prepared, painted.pixels); });
  if (cut)
    result.warnings.push_back("the prompt is longer than " + std::to_string(ids.text.size()) +
                              " tokens: its end was cut off");
  result.warnings.insert(result.warnings.end(), painted.warnings.begin(), painted.warnings.end());
  result.icc = prepared.icc;
  result.plan = std::move(painted.plan);
  result.seed = request.seed;
  result.steps = steps;
  result.window = prepared.window;
  result.bundle_hash = manifest().bundle_hash;
  result.gate_weights = std::move(painted.gate_weights);
  result.seconds = clock.seconds();
  return result;
}

TextChunks EditResult::text() const {
  char error[64];
  std::snprintf(error, sizeof error, "%.6f", plan.predicted_error);
  return {
      {"Software", "a2edit"},
      {"a2edit:route", plan.route},
      {"a2edit:supply", supply_name(plan.supply)},
      {"a2edit:predicted_error", error},
      {"a2edit:seed", std::to_string(seed)},
      {"a2edit:steps", std::to_string(steps)},
      {"a2edit:bundle", bundle_hash},
  };
}

}  // namespace a2edit
