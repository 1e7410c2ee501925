#include "src/engines/engine.hpp"

#include "src/core/error.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

std::string names_of(const Arrays& arrays) {
  std::vector<std::string> names;
  for (const auto& [name, array] : arrays) names.push_back(name);
  return joined(names);
}

// The array of `spec`, aligned for its type, or an engine Error.
Array checked(const TensorSpec& spec, const Arrays& arrays, const std::string& where) {
  const auto found = arrays.find(spec.name);
  if (found == arrays.end())
    fail_engine(where + ": " + spec.text() + " is missing; there are " + names_of(arrays));
  const Array& array = found->second;
  // other types of the same size and kind, such as bfloat16's bits, are the file's to name
  if (std::string(numpy_name(array.type())) != numpy_name(spec.type) ||
      !spec.fits(spec.type, array.shape()))
    fail_engine(where + ": expected " + spec.text() + ", got " + array.text());
  return array.aligned() ? array : array.copy();
}

Arrays all_checked(const std::vector<TensorSpec>& specs, const Arrays& arrays,
                   const std::string& where) {
  Arrays found;
  for (const TensorSpec& spec : specs) found[spec.name] = checked(spec, arrays, where);
  return found;
}

}  // namespace

void Engine::feed(const Arrays& parameters) {
  Arrays found =
      all_checked(spec_.parameters, parameters, "the parameters of " + repr(spec_.name));
  bind_arrays(found);
  parameters_ = std::move(found);
}

void Engine::bind(const SharedWeights& weights) {
  if (weights == bound_) return;
  Arrays arrays = all_checked(spec_.weights, weights->tensors, weights->name);
  arrays.insert(parameters_.begin(), parameters_.end());
  bound_ = nullptr;
  try {
    bind_arrays(arrays);
  } catch (...) {
    unbind_arrays();  // part of the new weights may be in place beside the old
    throw;
  }
  bound_ = weights;
}

void Engine::unbind() {
  if (!bound_) return;
  bound_ = nullptr;
  unbind_arrays();
}

Arrays Engine::run(const Arrays& inputs, const InputNames& unchanged) {
  if (!spec_.weights.empty() && !bound_)
    fail_engine("graph " + repr(spec_.name) + " runs on routed weights: bind a set first");
  if (!spec_.parameters.empty() && parameters_.empty())
    fail_engine("graph " + repr(spec_.name) + " takes its parameters as inputs: feed them");
  std::vector<std::string> unknown;
  Arrays wanted;
  for (const TensorSpec& spec : spec_.inputs) wanted[spec.name];
  for (const auto& [name, array] : inputs)
    if (!wanted.count(name)) unknown.push_back(name);
  if (!unknown.empty())
    fail_engine("graph " + repr(spec_.name) + " has no input " + joined(unknown) + "; it has " +
                names_of(wanted));
  unchanged_ = unchanged;
  return run_arrays(all_checked(spec_.inputs, inputs, "the inputs of " + repr(spec_.name)));
}

bool runs_on(const std::string& device, const std::string& backend) {
  const bool processors = backend == "openvino" || backend == "onnxruntime";
  return backend == "inductor" || processors == (device == "cpu");
}

const Backend* Backends::find(const std::string& name) const {
  const auto found = named.find(name);
  return found == named.end() ? nullptr : found->second;
}

std::vector<std::string> Backends::names(const std::string& device) const {
  std::vector<std::string> found;
  for (const auto& [name, backend] : named)
    if (runs_on(device, name)) found.push_back(name);
  return found;
}

}  // namespace a2edit
