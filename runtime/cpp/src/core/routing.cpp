#include "src/core/routing.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "src/core/error.hpp"
#include "src/core/metric.hpp"
#include "src/core/repr.hpp"
#include "src/core/sha256.hpp"

namespace a2edit {
namespace {

// Tables are merged in steps of 1/quantum: fine enough to change no picture, and two processes
// whose gates differ in a last bit merge the same weights. Exact in float32.
constexpr double quantum = 65536;

std::string percent(double share) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f%%", 100 * share);
  return text;
}

std::vector<float> flat(const GateTable& table) {
  std::vector<float> values;
  for (const std::vector<double>& row : table)
    for (const double weight : row) values.push_back(static_cast<float>(weight));
  return values;
}

const char* shown(float value) {
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

}  // namespace

const char* supply_name(Supply supply) { return supply == Supply::built ? "static" : "merged"; }

std::string format_size(std::uint64_t size) {
  if (size < 1024) return std::to_string(size) + " B";
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB"};
  double number = static_cast<double>(size) / 1024;
  std::size_t unit = 0;
  for (; number >= 1024 && unit < 3; ++unit) number /= 1024;
  char text[64];
  std::snprintf(text, sizeof text, "%.1f %s", number, units[unit]);
  return text;
}

RouteStore::RouteStore(const Manifest& manifest, WeightSource fixed,
                       std::optional<WeightSource> merged, const RouteOptions& options,
                       ResidentSets::Dropped dropped)
    : manifest_(manifest),
      static_(std::move(fixed)),
      merged_(std::move(merged)),
      tolerance_(options.tolerance.value_or(manifest.route_metric.tolerance)),
      strict_(options.strict),
      resident_(options.memory_budget, std::move(dropped)) {
  if (!(tolerance_ >= 0 && std::isfinite(tolerance_)))
    fail_request("route tolerance " + repr(tolerance_) +
                 " must be 0 or more: 0.01 lets the velocity be 1 % off, 0 merges whatever was not "
                 "built exactly");
  const std::uint64_t largest = std::max(static_.nbytes, merged_ ? merged_->nbytes : 0);
  if (options.memory_budget && *options.memory_budget < largest)
    fail_request("memory budget " + format_size(*options.memory_budget) +
                 " is less than one weight set of this bundle, " + format_size(largest) +
                 ": give that at least, or no budget");
}

RoutePlan RouteStore::plan(const std::vector<float>& gate_weights) const {
  const auto [route, error] = ranked(gate_weights).front();
  RoutePlan plan;
  plan.route = route;
  plan.table = flat(manifest_.routes.find(route)->table);
  plan.predicted_error = error;
  if (error <= tolerance_) return plan;
  if (!merged_)
    return beyond(std::move(plan), "this bundle has no experts to merge from",
                  "without --routes-only");
  RoutePlan merged = merge_plan(checked(gate_weights));
  if (merge_error() == 0 || merged.predicted_error < error) return merged;
  const std::string why =
      "a merge from this bundle's base in 8 bits one of " + percent(merged.predicted_error);
  return beyond(std::move(plan), why, "with --merge-base full");
}

RouteChoice RouteStore::supply(const RoutePlan& plan) {
  const bool built = plan.supply == Supply::built;
  const WeightSource& source = built ? static_ : merged_.value();
  // a merged set is found again by its exact table only, and never by a route's name
  const std::string key =
      built ? "static " + plan.route
            : "merged " + std::string(reinterpret_cast<const char*>(plan.table.data()),
                                      plan.table.size() * sizeof(float));
  return {resident_.get(key, source.nbytes, [&] { return source.make(plan); }), plan};
}

std::vector<std::pair<std::string, double>> RouteStore::ranked(
    const std::vector<float>& gate_weights) const {
  const GateTable asked = checked(gate_weights);
  std::vector<std::pair<std::string, double>> routes;
  for (const auto& [name, entry] : manifest_.routes)
    routes.emplace_back(name, predicted_error(manifest_.route_metric, asked, entry.table));
  std::stable_sort(routes.begin(), routes.end(),
                   [](const auto& one, const auto& other) { return one.second < other.second; });
  return routes;
}

RoutePlan RouteStore::merge_plan(const GateTable& asked) const {
  GateTable stepped = asked;
  for (std::vector<double>& row : stepped)
    for (double& weight : row)
      weight = std::nearbyint(weight * quantum) / quantum + 0.0;  // +0: one zero, one hash
  RoutePlan plan;
  plan.table = flat(stepped);
  for (std::size_t place = 0; place < plan.table.size(); ++place) {
    const std::size_t experts = asked[0].size();
    stepped[place / experts][place % experts] = static_cast<double>(plan.table[place]);
  }
  const std::string hash = sha256_hex(plan.table.data(), plan.table.size() * sizeof(float));
  plan.route = "merged-" + hash.substr(0, 12);
  plan.predicted_error =
      std::hypot(predicted_error(manifest_.route_metric, asked, stepped), merge_error());
  plan.supply = Supply::merged;
  return plan;
}

double RouteStore::merge_error() const { return manifest_.merge ? manifest_.merge->error : 0; }

// The nearest route though it is too far, with a warning; a refusal if strict.
RoutePlan RouteStore::beyond(RoutePlan plan, const std::string& why,
                             const std::string& build) const {
  const std::string gap = "the nearest route, " + plan.route + ", has a predicted error of " +
                          percent(plan.predicted_error) + ", above the tolerance of " +
                          percent(tolerance_) + ", and " + why;
  if (strict_)
    fail_request(gap + ": build it " + build +
                 " or with more routes, raise --route-tolerance, or leave out --strict-route");
  plan.warning = gap;
  return plan;
}

// The table of a gate in float64, its sizes and values checked.
GateTable RouteStore::checked(const std::vector<float>& gate_weights) const {
  const auto blocks = static_cast<std::size_t>(manifest_.model.blocks);
  const auto experts = static_cast<std::size_t>(manifest_.model.experts);
  if (gate_weights.size() != blocks * experts)
    fail_request("gate weights have shape [" + std::to_string(gate_weights.size()) +
                 "]; this bundle's routes are [" + std::to_string(blocks) + ", " +
                 std::to_string(experts) + "]: blocks, experts");
  GateTable table(blocks, std::vector<double>(experts));
  for (std::size_t place = 0; place < gate_weights.size(); ++place) {
    const std::size_t block = place / experts, expert = place % experts;
    if (!std::isfinite(gate_weights[place]))
      fail_request("gate weights must be finite, got " + std::string(shown(gate_weights[place])) +
                   " for block " + std::to_string(block) + ", expert " + std::to_string(expert) +
                   ": the gate of this bundle is broken, build it again");
    table[block][expert] = static_cast<double>(gate_weights[place]);
  }
  return table;
}

}  // namespace a2edit
