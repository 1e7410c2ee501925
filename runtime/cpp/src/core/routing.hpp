// Which weights run: a route that is near enough to the gate's wish, or a merge (SPEC §5,
// runtime/routing.py).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/core/manifest.hpp"
#include "src/core/resident.hpp"

namespace a2edit {

// "static": built ahead; "merged": from the experts.
enum class Supply { built, merged };
const char* supply_name(Supply supply);

// What is to run for a gate's table, before its weights are had.
struct RoutePlan {
  std::string route;         // of the bundle, or "merged-<hash of the table>"
  std::vector<float> table;  // [L, N], what runs
  double predicted_error = 0;  // of `table` against what the gate asked for, relative
  Supply supply = Supply::built;
  std::string warning;
};

// The weights to bind, and what is known of them.
struct RouteChoice {
  SharedWeights weights;
  RoutePlan plan;
};

// Where sets come from, and what one of them takes in memory.
struct WeightSource {
  std::function<WeightSet(const RoutePlan&)> make;
  std::uint64_t nbytes = 0;
};

struct RouteOptions {
  std::optional<double> tolerance;              // none: the metric's
  bool strict = false;                          // refuse what is past it, if nothing can be merged
  std::optional<std::uint64_t> memory_budget;   // bytes of all sets in memory
};

// Answers every gate table: by a static route, by a merge, or by a refusal.
//
// 1. The nearest static route, where its predicted error is within the tolerance.
// 2. Otherwise the weights are merged from the experts, for the table in steps of 2^-16; from a base
//    in 8 bits only where that errs less than the nearest route.
// 3. Without the experts (a bundle built with --routes-only), or where such a merge errs as much:
//    the nearest static route with a warning, or a request Error if strict.
//
// The answer to a table never depends on what else was asked before. One thread at a time.
class RouteStore {
 public:
  // The manifest must outlive the store. Throws a request Error for a tolerance that is none, and a
  // budget that holds not one set.
  RouteStore(const Manifest& manifest, WeightSource fixed, std::optional<WeightSource> merged,
             const RouteOptions& options, ResidentSets::Dropped dropped = {});

  // What runs for a gate's float32 [L, N]; no weights are read or merged.
  RoutePlan plan(const std::vector<float>& gate_weights) const;

  // The weights of a plan of this store: from memory, from the bundle, or merged now.
  RouteChoice supply(const RoutePlan& plan);

  // Every static route and its predicted error, the nearest first; ties in their order.
  std::vector<std::pair<std::string, double>> ranked(const std::vector<float>& gate_weights) const;

  void clear() { resident_.clear(); }
  std::uint64_t nbytes() const { return resident_.nbytes(); }

 private:
  GateTable checked(const std::vector<float>& gate_weights) const;
  RoutePlan merge_plan(const GateTable& asked) const;
  double merge_error() const;
  RoutePlan beyond(RoutePlan plan, const std::string& why, const std::string& build) const;

  const Manifest& manifest_;
  WeightSource static_;
  std::optional<WeightSource> merged_;
  double tolerance_;
  bool strict_;
  ResidentSets resident_;
};

// Bytes for people, in powers of 1024: 22020096 is "21.0 MiB".
std::string format_size(std::uint64_t size);

}  // namespace a2edit
