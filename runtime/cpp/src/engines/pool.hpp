// The engines of a bundle, opened once and kept (runtime/engines/pool.py).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/core/bundle.hpp"
#include "src/core/routing.hpp"
#include "src/engines/engine.hpp"
#include "src/engines/merging.hpp"

namespace a2edit {

constexpr const char* denoiser_name = "dit";

// Opens the graphs of `bundle` for a device, by a backend. "auto" loads the engines that the bundle
// holds for the device. With another version of their backend the bundle's graphs are compiled here
// instead. One thread at a time.
class EnginePool {
 public:
  // The bundle and the backends must outlive the pool. Throws a target Error.
  EnginePool(const Bundle& bundle, const std::string& device, const std::string& backend,
             const Backends& backends = backends_built());

  // Open what every edit needs, so that the edits' own times are pure.
  void open_all();

  // The engine of a graph, opened at the first call.
  Engine& get(const std::string& name);

  // The weights that a route is bound by; none where its engine holds them.
  WeightSource static_weights() const;

  // Weights for any table, merged from the experts, on the GPU where it can be; none where the
  // bundle has none. It must not outlive the pool.
  std::optional<WeightSource> merged_weights();

  // The engine that runs `choice`: the route's own, or the shared one with it bound. The shared one
  // of a baked bundle is compiled here, at the first route that is merged.
  Engine& denoiser(const RouteChoice& choice);

  // Unbind `weights` if they are bound, so that nothing here keeps them in memory.
  void release(const SharedWeights& weights);

  // Call `work`, which may have weights merged, bound and run. Where the GPU has no room for it
  // while routes are merged there, `forget` drops every weight set and it is called again; and once
  // more without base and experts there, with a warning. Throws what `work` does then.
  void with_room(const std::function<void()>& work, const std::function<void()>& forget);

  const std::string& target() const { return target_; }
  const std::string& backend_name() const { return backend_name_; }

  // What was compiled here because the bundle's engines are of another version, and what engines say.
  std::vector<std::string> warnings() const;

 private:
  std::unique_ptr<Engine> opened(const std::string& name);
  const EngineEntry& entry_of(const std::string& graph) const;
  const GraphEntry& graph_of(const std::string& name) const;
  bool loadable(const EngineEntry& entry) const;
  bool baked() const;
  std::uint64_t set_bytes() const;
  bool found_room(const std::function<void()>& work, std::string& reason);
  void drop_sets(const std::function<void()>& forget);

  const Bundle& bundle_;
  std::string target_;
  const Table<EngineEntry>* entries_ = nullptr;
  std::string backend_name_;
  const Backend* backend_ = nullptr;
  Cuda* cuda_ = nullptr;  // of a GPU that engines run on
  std::unique_ptr<Merging> merging_;
  std::map<std::string, std::unique_ptr<Engine>> engines_;
  SharedWeights bound_;  // by the shared denoiser
  std::vector<std::string> warnings_;
};

}  // namespace a2edit
