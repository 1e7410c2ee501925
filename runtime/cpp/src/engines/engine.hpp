// What every backend offers (runtime/engines/base.py).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/core/tensor.hpp"
#include "src/core/weight_set.hpp"

namespace a2edit {

// The edge of a graph; see GraphEntry.
struct GraphSpec {
  std::string name;
  std::vector<TensorSpec> inputs, outputs, weights, parameters;
};

using InputNames = std::set<std::string>;

// A graph compiled for a device. Public functions check, private ones work. One thread at a time.
// It keeps the arrays that are bound to it alive, and returns arrays that nothing writes to again.
class Engine {
 public:
  explicit Engine(GraphSpec spec) : spec_(std::move(spec)) {}
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const GraphSpec& spec() const { return spec_; }

  // Give the engine its parameters; once, before it runs. They are kept, and not copied.
  void feed(const Arrays& parameters);

  // Make `weights` the routed weights of the following runs, without a copy if possible.
  void bind(const SharedWeights& weights);

  // Let go of the bound weights, so that their memory can be freed; nothing if none are.
  void unbind();

  // Free what a device still holds of weights that are gone.
  virtual void forget_gone() {}

  // Compute every output from every input; the results are fresh arrays. Inputs named in
  // `unchanged` have the values of the last run: a device has them already. Throws an engine Error.
  Arrays run(const Arrays& inputs, const InputNames& unchanged = {});

  // What the caller of an edit should know, such as a fast way that is not there; each once.
  const std::vector<std::string>& warnings() const { return warnings_; }

 protected:
  void warn(std::string text) { warnings_.push_back(std::move(text)); }
  // Of this run.
  bool is_unchanged(const std::string& input) const { return unchanged_.count(input) != 0; }

 private:
  virtual void bind_arrays(const Arrays& arrays) = 0;
  // As `bind_arrays`, of weights that lie on the GPU.
  virtual void bind_placed(const Arrays& parameters, const DeviceTensors& weights);
  virtual void unbind_arrays() = 0;  // of the weights; parameters are bound again with the next set
  virtual Arrays run_arrays(const Arrays& inputs) = 0;

  GraphSpec spec_;
  SharedWeights bound_;
  Arrays parameters_;
  InputNames unchanged_;
  std::vector<std::string> warnings_;
};

// What makes engines of one kind.
class Backend {
 public:
  virtual ~Backend() = default;

  // What a blob must have been compiled by to be loaded.
  virtual std::string version() const = 0;

  // Load what the build wrote; the caller has checked that the version is this one.
  virtual std::unique_ptr<Engine> from_blob(GraphSpec spec, const std::string& path,
                                            const std::string& precision) const = 0;

  // Whether graphs can be compiled here, and one compiled here and now.
  virtual bool compiles() const = 0;
  virtual std::unique_ptr<Engine> from_onnx(GraphSpec spec, const std::string& path,
                                            const std::string& precision) const = 0;
};

// (major, minor) of a GPU's compute capability.
using Capability = std::pair<int, int>;

class Cuda;

// What engines can be run by, and on.
struct Backends {
  std::map<std::string, const Backend*> named;  // "openvino", …; each lives as long as the process
  std::function<Capability()> capability;       // of the GPU; throws a target Error where there is
                                                // none. Empty where no backend is for GPUs.
  Cuda* cuda = nullptr;                 // of those backends

  // The backend of a name; none where there is no such.
  const Backend* find(const std::string& name) const;

  // Those for a device, "cpu" or "cuda".
  std::vector<std::string> names(const std::string& device) const;
};

// Whether a backend of some host has engines for a device, "cpu" or "cuda".
bool runs_on(const std::string& device, const std::string& backend);

// What this library was built with.
const Backends& backends_built();

// Lives as long as the process.
const Backend& openvino_backend();

}  // namespace a2edit
