#include "src/engines/engine.hpp"

#include "src/core/error.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

template <class Tensors>
std::string names_of(const Tensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return joined(names);
}

template <class Tensors>
const auto& found(const TensorSpec& spec, const Tensors& tensors, const std::string& where) {
  const auto place = tensors.find(spec.name);
  if (place == tensors.end())
    fail_engine(where + ": " + spec.text() + " is missing; there are " + names_of(tensors));
  return place->second;
}

[[noreturn]] void unexpected(const TensorSpec& spec, const std::string& given,
                             const std::string& where) {
  fail_engine(where + ": expected " + spec.text() + ", got " + given);
}

// The array of `spec`, aligned for its type, or an engine Error.
Array checked(const TensorSpec& spec, const Arrays& arrays, const std::string& where) {
  const Array& array = found(spec, arrays, where);
  // other types of the same size and kind, such as bfloat16's bits, are the file's to name
  if (std::string(numpy_name(array.type())) != numpy_name(spec.type) ||
      !spec.fits(spec.type, array.shape()))
    unexpected(spec, array.text(), where);
  return array.aligned() ? array : array.copy();
}

DeviceTensor checked(const TensorSpec& spec, const DeviceTensors& tensors,
                     const std::string& where) {
  const DeviceTensor& tensor = found(spec, tensors, where);
  if (!spec.fits(tensor.type, tensor.shape)) 
    unexpected(spec, type_name(tensor.type) + list_text(tensor.shape), where);
  return tensor;
}

template <class Tensors>
Tensors all_checked(const std::vector<TensorSpec>& specs, const Tensors& tensors,
                    const std::string& where) {
  Tensors known;
  for (const TensorSpec& spec : specs) known[spec.name] = checked(spec, tensors, where);
  return known;
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
  const bool far = !weights->placed.empty();
  const auto placed = far ? all_checked(spec_.weights, weights->placed, weights->name)
                          : DeviceTensors();
  Arrays arrays = far ? Arrays() : all_checked(spec_.weights, weights->tensors, weights->name);
  arrays.insert(parameters_.begin(), parameters_.end());
  bound_ = nullptr;
  try {
    if (placed.empty()) {
      bind_arrays(arrays);
    } else {
      bind_placed(arrays, placed);
    }
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

void Engine::bind_placed(const Arrays&, const DeviceTensors&) {
  fail_engine("graph " + repr(spec_.name) +
              " runs on the processor, and weights merged on a GPU were bound to it");
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
