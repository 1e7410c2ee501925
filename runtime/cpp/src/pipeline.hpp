// The model's part of an edit: encode, ask the gate, choose weights, modulate, denoise, decode (the
// stages of runtime/editor.py between prepare and compose).
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "src/core/bundle.hpp"
#include "src/core/routing.hpp"
#include "src/engines/pool.hpp"
#include "src/modulation.hpp"
#include "src/pictures/picture.hpp"

namespace a2edit {

// Told how many steps of how many are done; false cancels the edit.
using Progress = std::function<bool(int, int)>;

// Seconds by stage, in the order of the stages.
class Clock {
 public:
  using Seconds = std::vector<std::pair<std::string, double>>;

  // What `work` returns; the time that it takes counts for `stage`.
  template <class Work>
  decltype(auto) operator()(const char* stage, Work&& work) {
    const Stop stop{*this, stage, std::chrono::steady_clock::now()};
    return work();
  }

  const Seconds& seconds() const { return seconds_; }

 private:
  struct Stop {
    Clock& clock;
    const char* stage;
    std::chrono::steady_clock::time_point start;
    ~Stop();
  };

  Seconds seconds_;
};

// Of a prompt, for both encoders: int64, as long as the model's text_length and pooled_length.
struct PromptIds {
  std::vector<std::int64_t> text, pooled;
};

struct PipelineOptions {
  std::string device = "cpu";
  std::string engine = "auto";
  RouteOptions routes;
};

// What the model made of a prepared request.
struct Painted {
  Pixels pixels;  // [S, S, 3]
  RoutePlan plan;
  std::vector<float> gate_weights;  // [L, N]
  std::vector<std::string> warnings;
};

// A bundle, its engines and its routes. One thread at a time.
class Pipeline {
 public:
  // Checks every file of the bundle. Throws a bundle, target or request Error.
  Pipeline(const std::string& bundle, const PipelineOptions& options);
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // Open every engine now instead of at the first edit.
  void open_engines() { engines_.open_all(); }

  // `steps` is at least 1. Throws a cancelled Error where `progress` says so. Where the GPU is full
  // it makes room and begins again, and `progress` is told of the steps anew.
  Painted paint(const Prepared& prepared, const PromptIds& ids, std::uint64_t seed, int steps,
                const Progress& progress, Clock& clock);

  const Bundle& bundle() const { return bundle_; }
  const Manifest& manifest() const { return bundle_.manifest; }
  const std::string& target() const { return engines_.target(); }
  const std::string& backend() const { return engines_.backend_name(); }

 private:
  Painted paint_once(const Prepared& prepared, const PromptIds& ids, std::uint64_t seed, int steps,
                     const Progress& progress, Clock& clock);
  Arrays encode(const Prepared& prepared, const PromptIds& ids);
  Arrays denoise(Engine& engine, Arrays inputs, const std::vector<float>& levels,
                 const std::vector<Array>& modulation, const Progress& progress);
  std::vector<std::string> warnings(const RoutePlan& plan) const;

  Bundle bundle_;
  EnginePool engines_;
  RouteStore routes_;
  Modulations modulations_;
};

}  // namespace a2edit
