#include "src/engines/pool.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/engines/targets.hpp"

namespace a2edit {
namespace {

// Every backend that a bundle can be run by, by some host.
const std::vector<std::string> modules = {"openvino",
                                          "onnxruntime",
                                          "onnxruntime-cuda",
                                          "onnxruntime-tensorrt",
                                          "tensorrt_rtx",
                                          "tensorrt",
                                          "inductor"};

std::string graph_name(const std::string& engine) { return engine.substr(0, engine.find('.')); }

void check_choice(const std::string& device, const std::string& backend) {
  if (device != "cpu" && device != "cuda")
    fail_target("device " + repr(device) + " is unknown: use cpu or cuda");
  const bool known = std::find(modules.begin(), modules.end(), backend) != modules.end();
  if (backend != "auto" && !known)
    fail_target("engine " + repr(backend) + " is unknown: use auto, " + joined(modules));
  if (backend == "auto" || runs_on(device, backend)) return;
  std::vector<std::string> fitting;
  for (const std::string& name : modules)
    if (runs_on(device, name)) fitting.push_back(name);
  std::sort(fitting.begin(), fitting.end());
  fail_target("engine " + repr(backend) + " does not run on the device " + repr(device) +
              ": use auto, " + joined(fitting) + ", or another --device");
}

// Which of the bundle's targets a device is; of several GPUs, the one at hand.
std::string target_for(const Bundle& bundle, const std::string& device, const Backends& backends) {
  std::vector<std::string> held;
  for (const auto& [name, engines] : bundle.manifest.engines)
    if (const Target* target = target_named(name); target && target->device() == device)
      held.push_back(name);
  std::string here = "the device " + repr(device);
  if (device == "cuda" && !held.empty()) {
    if (!backends.capability)
      fail_target("this library was built without an engine for GPUs, and has " +
                  joined(backends.names("cpu")) +
                  ": use --device cpu with a bundle that has cpu engines, a library that was built "
                  "with A2EDIT_TENSORRT, or the Python runtime");
    const std::string gpu = target_of(backends.capability()).name;
    held = std::find(held.begin(), held.end(), gpu) == held.end() ? std::vector<std::string>{}
                                                                  : std::vector<std::string>{gpu};
    here = "this GPU (" + gpu + ")";
  }
  if (!held.empty()) return held.front();
  const std::string names = joined(bundle.manifest.engines.sorted_names());
  fail_target(repr(bundle.folder) + " has no engines for " + here + "; it has some for " +
              (names.empty() ? "nothing" : names) +
              ": build with another --target, or give another --device");
}

}  // namespace

EnginePool::EnginePool(const Bundle& bundle, const std::string& device,
                       const std::string& backend, const Backends& backends)
    : bundle_(bundle) {
  check_choice(device, backend);
  target_ = target_for(bundle, device, backends);
  entries_ = bundle.manifest.engines.find(target_);
  if (entries_->empty())
    fail_bundle(repr(bundle.folder) + " has no engine for " + repr(std::string(denoiser_name)) +
                ": " + rebuild);
  backend_name_ = backend == "auto" ? entries_->begin()->second.backend : backend;
  if (std::find(modules.begin(), modules.end(), backend_name_) == modules.end())
    fail_target("the bundle's engines are for " + repr(backend_name_) +
                ", which this a2edit does not know: use --engine " + joined(modules, " or "));
  backend_ = backends.find(backend_name_);
  if (!backend_)
    fail_target("this library was built without the engine " + repr(backend_name_) + ": use " +
                joined(backends.names(device), " or ") + ", or the Python runtime");
  entry_of(denoiser_name);
  if (device == "cuda") cuda_ = backends.cuda;
}

std::vector<std::string> EnginePool::warnings() const {
  std::vector<std::string> said = warnings_;
  if (merging_ && !merging_->warning().empty()) said.push_back(merging_->warning());
  for (const auto& [name, engine] : engines_)
    if (engine) said.insert(said.end(), engine->warnings().begin(), engine->warnings().end());
  return said;
}

void EnginePool::open_all() {
  for (const auto& [name, variants] : bundle_.manifest.graphs) {
    // Head and tail of the denoiser are for a step cache, which only the Python runtime has.
    const bool part = std::find(std::begin(cache_graphs), std::end(cache_graphs), name) !=
                      std::end(cache_graphs);
    if (!part && (name != denoiser_name || !baked())) get(name);
  }
}

Engine& EnginePool::get(const std::string& name) {
  std::unique_ptr<Engine>& engine = engines_[name];
  if (!engine) {
    std::unique_ptr<Engine> fresh = opened(name);
    const std::vector<TensorSpec>& parameters = fresh->spec().parameters;
    if (!parameters.empty()) fresh->feed(bundle_.parameters(parameters));
    engine = std::move(fresh);
  }
  return *engine;
}

WeightSource EnginePool::static_weights() const {
  if (baked()) return {[](const RoutePlan& plan) { return WeightSet{plan.route, {}, {}}; }, 0};
  const std::string variant = entry_of(denoiser_name).variant;
  return {[this, variant](const RoutePlan& plan) { return bundle_.weight_set(plan.route, variant); },
          set_bytes()};
}

std::optional<WeightSource> EnginePool::merged_weights() {
  if (!bundle_.manifest.merge) return std::nullopt;
  if (!merging_)
    merging_ = std::make_unique<Merging>(bundle_, graph_of(denoiser_name).weights, target_, cuda_);
  return WeightSource{
      [this](const RoutePlan& plan) { return merging_->merge(plan.table, plan.route); },
      set_bytes()};
}

void EnginePool::with_room(const std::function<void()>& work,
                           const std::function<void()>& forget) {
  std::string reason;
  if (found_room(work, reason)) return;
  drop_sets(forget);
  if (found_room(work, reason)) return;
  drop_sets(forget);
  merging_->leave_gpu(reason);
  work();
}

// Whether `work` could be done; why not, where routes that are merged on the GPU may be in its way.
bool EnginePool::found_room(const std::function<void()>& work, std::string& reason) {
  try {
    work();
    return true;
  } catch (const Error& error) {
    const bool others = merging_ && merging_->on_gpu();
    if (error.kind() != ErrorKind::device_memory || !others) throw;
    reason = error.what();
    return false;
  }
}

void EnginePool::drop_sets(const std::function<void()>& forget) {
  forget();
  for (const auto& [name, engine] : engines_)
    if (engine) engine->forget_gone();
}

Engine& EnginePool::denoiser(const RouteChoice& choice) {
  if (baked() && choice.plan.supply == Supply::built)
    return get(std::string(denoiser_name) + "." + choice.plan.route);
  Engine& engine = get(denoiser_name);
  engine.bind(choice.weights);
  if (bound_ && bound_ != choice.weights) bound_->rest();
  bound_ = choice.weights;
  return engine;
}

void EnginePool::release(const SharedWeights& weights) {
  if (weights != bound_) return;
  bound_ = nullptr;
  const auto engine = engines_.find(denoiser_name);
  if (engine != engines_.end() && engine->second) engine->second->unbind();
}

std::unique_ptr<Engine> EnginePool::opened(const std::string& name) {
  const std::string kind = graph_name(name);
  const GraphEntry& graph = graph_of(kind);
  GraphSpec spec{name, graph.inputs, graph.outputs, graph.weights, graph.parameters};
  const EngineEntry* entry = entries_->find(name);
  if (entry && loadable(*entry)) {
    if (entry->materialise == "baked") spec.weights.clear();
    return backend_->from_blob(std::move(spec), bundle_.path(entry->file), entry->precision);
  }
  if (entry && entry->backend == backend_name_) {
    const std::string made = entry->file + " was compiled by " + entry->backend + " " +
                             entry->version + ", here is " + backend_->version();
    if (!backend_->compiles())
      fail_target(made + ": install that version, or build the bundle again");
    warnings_.push_back(made + ": compiling its graph instead");
  }
  return backend_->from_onnx(std::move(spec), bundle_.path(graph.file), entry_of(kind).precision);
}

// What the bundle says of a graph here; the engines of a baked denoiser agree.
const EngineEntry& EnginePool::entry_of(const std::string& graph) const {
  for (const auto& [name, entry] : *entries_)
    if (graph_name(name) == graph) return entry;
  fail_bundle(repr(bundle_.folder) + " has no engine for " + repr(graph) + ": " + rebuild);
}

const GraphEntry& EnginePool::graph_of(const std::string& name) const {
  const Table<GraphEntry>* variants = bundle_.manifest.graphs.find(name);
  if (!variants)
    fail_bundle(repr(bundle_.folder) + " has no graph " + repr(name) + "; it has " +
                joined(bundle_.manifest.graphs.sorted_names()));
  return *variants->find(entry_of(name).variant);
}

bool EnginePool::loadable(const EngineEntry& entry) const {
  return entry.backend == backend_name_ && entry.version == backend_->version();
}

// Whether every route has an engine of its own, the weights constant.
bool EnginePool::baked() const {
  const std::string own = std::string(denoiser_name) + ".";
  bool any = false;
  for (const auto& [name, entry] : *entries_) {
    if (name.rfind(own, 0) != 0) continue;
    if (!loadable(entry)) return false;
    any = true;
  }
  return any;
}

std::uint64_t EnginePool::set_bytes() const {
  std::uint64_t sum = 0;
  for (const TensorSpec& spec : graph_of(denoiser_name).weights) sum += spec.nbytes();
  return sum;
}

}  // namespace a2edit
