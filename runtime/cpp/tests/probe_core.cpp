// src/core by ctypes: see tests/cpp/test_core.py and its neighbours.
#include <cstring>
#include <optional>

#include "src/core/bundle.hpp"
#include "src/core/fields.hpp"
#include "src/core/floats.hpp"
#include "src/core/manifest.hpp"
#include "src/core/merge.hpp"
#include "src/core/product.hpp"
#include "src/core/routing.hpp"
#include "src/core/sampler.hpp"
#include "src/core/sha256.hpp"
#include "tests/probe.hpp"

using namespace a2edit;
using probe::answered;

namespace {

template <class T>
void give(const std::vector<T>& values, T* into) {
  std::copy(values.begin(), values.end(), into);
}

// Name, type, shape and SHA-256 of the bytes of each, as JSON.
Json described(const Arrays& tensors) {
  Json all = Json::object();
  for (const auto& [name, array] : tensors)
    all[name] = {type_name(array.type()), array.shape(), sha256_hex(array.data(), array.nbytes())};
  return all;
}

// The merging part of a manifest for a merge.safetensors: {"scale", "blocks", "weights"}.
RouteMerger merger_of(const char* source, const char* text) {
  const Json content = json_from(text);
  MergeEntry entry;
  entry.scale = content["scale"].get<double>();
  for (const auto& item : content["blocks"].items())
    entry.blocks.add(item.key(), item.value().get<int>());
  std::vector<TensorSpec> weights;
  for (const Json& spec : content["weights"]) {
    weights.emplace_back();
    weights.back().name = spec[0].get<std::string>();
    if (!type_from(spec[1].get<std::string>(), weights.back().type)) throw std::logic_error("type");
    weights.back().shape = spec[2].get<Shape>();
  }
  return RouteMerger(source, entry, weights);
}

}  // namespace

PROBE int probe_noise(std::uint64_t seed, std::uint64_t count, float* into) {
  return answered([&] { give(noise(seed, count), into); });
}

PROBE int probe_sigmas(std::int64_t steps, std::int64_t tokens, double base, double most,
                       std::int64_t base_tokens, std::int64_t max_tokens, float* into) {
  return answered([&] {
    give(sigmas(static_cast<int>(steps), tokens, {base, most, base_tokens, max_tokens}), into);
  });
}

PROBE int probe_read_manifest(const char* folder) {
  return answered([&] { probe::message() = read_manifest(folder).bundle_hash; });
}

PROBE int probe_open_bundle(const char* folder) {
  return answered([&] { probe::message() = open_bundle(folder).manifest.bundle_hash; });
}

PROBE int probe_weight_set(const char* folder, const char* route, const char* variant) {
  return answered([&] {
    probe::message() = described(open_bundle(folder).weight_set(route, variant).tensors).dump();
  });
}

PROBE int probe_map_tensors(const char* path) {
  return answered([&] { probe::message() = described(map_tensors(path).tensors).dump(); });
}

// What Python's json would write of a text that is JSON: the canonical form, a line feed, the file's.
PROBE int probe_json(const char* text, std::uint64_t length) {
  return answered([&] {
    const Json value = json_from(std::string(text, length));
    probe::message() = canonical_json(value, "bundle_hash") + "\n" + file_bytes(value);
  });
}

// float32 to a type by its name and back: the bits, and the values that they are.
PROBE int probe_rounded(const char* type, std::uint64_t count, const float* values, void* bits,
                        float* back) {
  return answered([&] {
    Array array;
    TensorSpec spec;
    if (!type_from(type, spec.type)) throw std::logic_error("type");
    array = Array(spec.type, {static_cast<std::int64_t>(count)});
    narrow(values, count, array, 0);
    widen(array, 0, count, back);
    std::memcpy(bits, array.data(), array.nbytes());
  });
}

PROBE int probe_merge(const char* source, const char* entry, std::uint64_t count,
                      const float* table) {
  return answered([&] {
    const RouteMerger merger = merger_of(source, entry);
    probe::message() = described(merger.merge({table, table + count}, "probe").tensors).dump();
  });
}

// What a store of a bundle's routes answers: [route, predicted error, supply, warning, tables' SHA-256,
// [[route, error], …]], sets being of 100 bytes. NaN is the bundle's tolerance, 0 no budget.
PROBE int probe_plan(const char* folder, double tolerance, std::int64_t strict, std::int64_t merging,
                     std::uint64_t budget, std::uint64_t count, const float* gate) {
  return answered([&] {
    const Manifest manifest = read_manifest(folder);
    RouteOptions options;
    if (tolerance == tolerance) options.tolerance = tolerance;
    options.strict = strict != 0;
    if (budget) options.memory_budget = budget;
    const WeightSource source = {[](const RoutePlan& plan) { return WeightSet{plan.route, {}, {}}; },
                                 100};
    RouteStore store(manifest, source, merging ? std::optional(source) : std::nullopt, options);
    const std::vector<float> asked(gate, gate + count);
    const RouteChoice choice = store.supply(store.plan(asked));
    const RoutePlan& plan = choice.plan;
    probe::message() =
        Json({choice.weights->name, plan.predicted_error, supply_name(plan.supply), plan.warning,
              sha256_hex(plan.table.data(), plan.table.size() * sizeof(float)),
              store.ranked(asked)})
            .dump();
  });
}

PROBE int probe_product(const float* high, const float* low, float* out, std::uint64_t rows,
                        std::uint64_t inner, std::uint64_t depth) {
  return answered([&] { fused_product(high, low, out, rows, inner, depth); });
}

PROBE int probe_format_size(std::uint64_t size) {
  return answered([&] { probe::message() = format_size(size); });
}
