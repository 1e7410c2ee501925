#include "src/engines/tensorrt.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/core/safetensors.hpp"
#include "src/engines/copies.hpp"
#include "src/engines/targets.hpp"

namespace a2edit {
namespace {

template <class Look>
void for_entrances(const GraphSpec& spec, Look&& look) {
  for (const auto* parts : {&spec.inputs, &spec.weights, &spec.parameters})
    for (const TensorSpec& part : *parts) look(part);
}

bool inside(const std::pair<Shape, Shape>& range, const Shape& shape) {
  const auto& [lows, highs] = range;
  if (lows.size() != shape.size() || highs.size() != shape.size()) return false;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] < lows[axis] || shape[axis] > highs[axis]) return false;
  return true;
}

// One execution context, its device buffers and its stream.
//
// Inputs are copied to the GPU at every run and outputs back. Weight sets are copied once, and stay
// there for as long as their arrays live: binding such a set again sets addresses only, as binding
// one that was merged on the GPU does. From the second run after a bind on, the step is replayed as
// a CUDA graph, for as long as inputs have the same shapes.
class TensorRtEngine : public Engine {
 public:
  TensorRtEngine(GraphSpec spec, std::unique_ptr<TensorRtPlan> plan, Cuda& cuda)
      : Engine(std::move(spec)),
        cuda_(cuda),
        plan_(std::move(plan)),
        stream_(cuda),
        copies_([this](const Array& array) { return uploaded(array); }) {
    check_edge(this->spec(), *plan_);
    context_ = plan_->context();
    if (!context_)
      throw Error(ErrorKind::device_memory,
                  "graph " + repr(this->spec().name) +
                      ": no room on the GPU for its activations (" + plan_->reason() +
                      "); close what else uses it, or build for a smaller size");
    const std::vector<TensorSpec>& inputs = this->spec().inputs;
    if (std::any_of(inputs.begin(), inputs.end(), [](const auto& part) { return part.open(); }))
      return;
    Shapes known;
    for (const TensorSpec& part : inputs) known[part.name] = part.shape;
    take(std::move(known));
  }

 private:
  // Set what depends on the inputs' shapes, and make room for them and the outputs.
  void take(Shapes shapes) {
    if (shapes == shapes_) return;
    forget_step();
    shapes_.clear();
    filled_ = false;
    const int profile = fitting_profile(spec(), shapes, *plan_);
    if (profile != profile_) {
      set("profile " + std::to_string(profile), context_->set_profile(profile, stream_.handle()));
      stream_.wait();
      profile_ = profile;
    }
    for_entrances(spec(), [&](const TensorSpec& part) {
      const auto given = shapes.find(part.name);
      set(part.name,
          context_->set_shape(part.name, given == shapes.end() ? part.shape : given->second));
    });
    outputs_.clear();
    for (const TensorSpec& part : spec().outputs)
      outputs_[part.name] = part.open() ? context_->shape(part.name) : part.shape;
    for (const TensorSpec& part : spec().inputs) make_room(part, shapes.at(part.name));
    for (const TensorSpec& part : spec().outputs) make_room(part, outputs_.at(part.name));
    for (const auto& [name, buffer] : buffers_) set_address(name, buffer->address());
    for (const auto& [name, address] : weights_) set_address(name, address.get());
    shapes_ = std::move(shapes);
  }

  void make_room(const TensorSpec& part, const Shape& shape) {
    if (std::any_of(shape.begin(), shape.end(), [](std::int64_t size) { return size < 0; }))
      fail_engine("graph " + repr(spec().name) + ": the engine does not say how large " +
                  part.text() + " is; build the bundle again");
    const std::size_t nbytes = byte_count(part.type, shape);
    std::unique_ptr<DeviceBuffer>& buffer = buffers_[part.name];
    if (buffer && buffer->nbytes() == nbytes) return;
    buffer.reset();  // before the new one: both need not fit
    buffer = std::make_unique<DeviceBuffer>(cuda_, nbytes);
  }

  void bind_arrays(const Arrays& arrays) override { bind_placed(arrays, {}); }

  void bind_placed(const Arrays& arrays, const DeviceTensors& placed) override {
    forget_step();
    weights_.clear();
    for (const auto& [name, copy] : copies_.of(arrays)) weights_[name] = {copy, copy->address()};
    for (const auto& [name, tensor] : placed) weights_[name] = tensor.address;
    stream_.wait();
    for (const auto& [name, address] : weights_) set_address(name, address.get());
  }

  void unbind_arrays() override {
    forget_step();
    weights_.clear();
    copies_.forget_gone();
  }

  void forget_gone() override { copies_.forget_gone(); }

  DeviceCopy uploaded(const Array& array) {
    auto buffer = std::make_shared<const DeviceBuffer>(cuda_, array.nbytes());
    stream_.upload(array, *buffer);
    return buffer;
  }

  Arrays run_arrays(const Arrays& inputs) override {
    Shapes shapes;
    for (const auto& [name, array] : inputs) shapes[name] = array.shape();
    take(std::move(shapes));
    const bool filled = std::exchange(filled_, false);
    for (const auto& [name, array] : inputs)
      if (!filled || !is_unchanged(name)) stream_.upload(array, *buffers_.at(name));
    step();
    Arrays outputs;
    for (const TensorSpec& part : spec().outputs)
      outputs[part.name] = Array(part.type, outputs_.at(part.name));
    for (auto& [name, array] : outputs) stream_.download(*buffers_.at(name), array);
    stream_.wait();
    filled_ = true;
    return outputs;
  }

  // Replay the step; capture it at the second run, when kernels are chosen and loaded.
  void step() {
    if (!captured_ && ran_ && capturable_) capture();
    if (captured_) {
      captured_->launch();
    } else {
      enqueue();
      ran_ = true;
    }
  }

  void capture() {
    // TensorRT for RTX compiles kernels when they are first used, and says when that is over
    if (!context_->capturable(stream_.handle())) return;
    try {
      captured_ = std::make_unique<CapturedStep>(cuda_, stream_, [this] { enqueue(); });
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::engine) throw;
      capturable_ = false;
      warn("graph " + repr(spec().name) + " runs without a CUDA graph: " + error.what());
    }
  }

  void enqueue() {
    if (!context_->enqueue(stream_.handle()))
      fail_engine("graph " + repr(spec().name) + " failed to run: " + plan_->reason());
  }

  void forget_step() {
    ran_ = false;
    captured_.reset();
  }

  void set_address(const std::string& name, void* address) {
    set(name, context_->set_address(name, address));
  }

  void set(const std::string& name, bool done) {
    if (!done)
      fail_engine("graph " + repr(spec().name) + " refused tensor " + repr(name) + ": " +
                  plan_->reason());
  }

  // Destroyed from the last to the first: a context must go before its plan.
  Cuda& cuda_;
  std::unique_ptr<TensorRtPlan> plan_;
  std::unique_ptr<TensorRtContext> context_;
  Stream stream_;
  DeviceCopies copies_;
  std::map<std::string, std::shared_ptr<void>> weights_;  // addresses that keep their memory
  std::map<std::string, std::unique_ptr<DeviceBuffer>> buffers_;
  Shapes shapes_;  // of the inputs, in force
  bool filled_ = false;  // whether their buffers have what the last run read
  Shapes outputs_;
  int profile_ = 0;   // in force from the start
  bool ran_ = false;  // since the last bind
  bool capturable_ = true;
  std::unique_ptr<CapturedStep> captured_;
};

std::string gigabytes(std::size_t nbytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GB", static_cast<double>(nbytes) / 1e9);
  return text;
}

bool says_full(std::string reason) {
  for (char& letter : reason)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter + ('a' - 'A'));
  return reason.find("out of memory") != std::string::npos;
}

}  // namespace

std::string first_reason(const std::vector<std::string>& errors) {
  constexpr const char* blank = " \t\r\n\v\f";
  const std::size_t start = errors.empty() ? std::string::npos : errors[0].find_first_not_of(blank);
  if (start == std::string::npos) return "it does not say why";
  const std::string line = errors[0].substr(start, errors[0].find_first_of("\r\n", start) - start);
  return line.substr(0, line.find_last_not_of(blank) + 1);
}

int fitting_profile(const GraphSpec& spec, const Shapes& inputs, const TensorRtPlan& plan) {
  std::vector<TensorSpec> parts;
  for_entrances(spec, [&](TensorSpec part) {
    const Shape own = plan.shape(part.name);
    if (std::find(own.begin(), own.end(), open_size) == own.end()) return;
    const auto given = inputs.find(part.name);
    if (given != inputs.end()) part.shape = given->second;
    parts.push_back(std::move(part));
  });
  if (parts.empty()) return 0;
  const int count = plan.profiles();
  for (int profile = 0; profile < count; ++profile)
    if (std::all_of(parts.begin(), parts.end(), [&](const TensorSpec& part) {
          return inside(plan.range(part.name, profile), part.shape);
        }))
      return profile;
  std::vector<std::string> texts;
  texts.reserve(parts.size());
  for (const TensorSpec& part : parts) texts.push_back(part.text());
  fail_engine("graph " + repr(spec.name) + ": none of the engine's " + std::to_string(count) +
              " profiles takes " + joined(texts) + "; build the bundle again for this size");
}

void check_edge(const GraphSpec& spec, const TensorRtPlan& plan) {
  std::map<std::string, std::optional<Type>> found;
  for (const std::string& name : plan.names()) found[name] = plan.type(name);
  const auto check = [&](const TensorSpec& part) {
    const auto place = found.find(part.name);
    if (place == found.end() || place->second != part.type)
      fail_engine("graph " + repr(spec.name) + ": the engine has no tensor " + part.text() +
                  "; build the bundle again");
    found.erase(place);
    const Shape shape = plan.shape(part.name);
    // the plan may leave more sizes open than the graph does
    if (!TensorSpec{part.name, part.type, shape}.fits(part.type, part.shape))
      fail_engine("graph " + repr(spec.name) + ": " + part.text() + " has the shape " +
                  list_text(shape) + " in the engine; build the bundle again");
  };
  for_entrances(spec, check);
  for (const TensorSpec& part : spec.outputs) check(part);
  if (found.empty()) return;
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const auto& [name, type] : found) names.push_back(name);
  fail_engine("graph " + repr(spec.name) + ": the engine asks for " + joined(names) +
              " too; build the bundle again");
}

std::unique_ptr<Engine> tensorrt_engine(GraphSpec spec, std::unique_ptr<TensorRtPlan> plan,
                                        Cuda& cuda) {
  return std::make_unique<TensorRtEngine>(std::move(spec), std::move(plan), cuda);
}

std::unique_ptr<Engine> TensorRtBackend::from_blob(GraphSpec spec, const std::string& path,
                                                   const std::string& precision) const {
  const Target& target = target_of(capability_of(cuda_));
  if (std::find(target.precisions.begin(), target.precisions.end(), precision) ==
      target.precisions.end())
    fail_target("engine " + repr(path) + " computes in " + precision + ", which this GPU (" +
                target.name + ") lacks; it has " + joined(target.precisions) +
                ": use an engine that was built for it");
  std::unique_ptr<const Mapping> file;
  try {
    file = std::make_unique<const Mapping>(path, false);
  } catch (const std::invalid_argument& error) {
    const std::string reason = error.what();
    if (reason == "cannot mmap an empty file")
      fail_engine("engine " + repr(path) + " is empty: build the bundle again");
    fail_engine("engine " + repr(path) + " could not be loaded: " + reason);
  }
  std::string reason;
  std::unique_ptr<TensorRtPlan> plan = library_.load(file->data(), file->size(), &reason);
  if (!plan && says_full(reason))
    throw Error(ErrorKind::device_memory,
                "engine " + repr(path) + " (" + gigabytes(file->size()) +
                    ") does not fit into the GPU's memory; close what else uses it, or build with "
                    "--preset small");
  if (!plan)
    fail_engine("engine " + repr(path) + " could not be loaded by " + name_ + " " + version() +
                " on " + target.name + ": " + reason + "; build it again with --target " +
                target.name);
  return tensorrt_engine(std::move(spec), std::move(plan), cuda_);
}

std::unique_ptr<Engine> TensorRtBackend::from_onnx(GraphSpec, const std::string& path,
                                                   const std::string&) const {
  fail_target("graph " + repr(path) + " would have to be compiled, which " + name_ +
              " does not do in this library: use --engine auto, or build the bundle again with "
              "--backend " +
              name_);
}

}  // namespace a2edit
