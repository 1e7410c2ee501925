// OpenVINO on the processor: the default engine (runtime/engines/openvino.py).
#include <algorithm>
#include <cstring>
#include <openvino/openvino.hpp>
#include <sstream>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/core/safetensors.hpp"
#include "src/engines/engine.hpp"

namespace a2edit {
namespace {

// Never destroyed: at the end of a process its threads may be gone before it is.
ov::Core& core() {
  static ov::Core* const shared = new ov::Core();
  return *shared;
}

[[noreturn]] void fail(const std::string& what, const std::exception& error) {
  const std::string text = error.what();
  if (dynamic_cast<const std::bad_alloc*>(&error) || text.find("bad_alloc") != std::string::npos)
    throw Error(ErrorKind::device_memory,
                what + ": out of memory; close other programs or use int8");
  std::istringstream lines(text);
  std::string reason = "RuntimeError";
  constexpr const char* blank = " \t\r\n\v\f";
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find_first_not_of(blank);
    if (first != std::string::npos)
      reason = line.substr(first, line.find_last_not_of(blank) - first + 1);
  }
  fail_engine(what + ": " + reason);
}

// The settings that make the processor compute in `precision`. OpenVINO itself would take bf16
// wherever it is fast, and emulate it where it is not; here the bundle decides. Throws a target
// Error where the processor lacks the type.
ov::AnyMap device_options(const std::string& precision) {
  if (precision != "fp32" && precision != "bf16" && precision != "int8")
    fail_target("precision " + repr(precision) +
                " is unknown; OpenVINO has ['fp32', 'bf16', 'int8']");
  auto offered = core().get_property("CPU", ov::device::capabilities);
  std::sort(offered.begin(), offered.end());
  if (precision == "bf16" && !std::count(offered.begin(), offered.end(), "BF16"))
    fail_target("this bundle computes in bf16, which this processor lacks (it offers " +
                joined(offered) + "): build one with --precision fp32 or int8");
  return {
      {"INFERENCE_PRECISION_HINT", precision == "bf16" ? "bf16" : "f32"},
      // or it rounds the inputs of products whose weights are stored in 8 bits to 8 bits as well
      {"DYNAMIC_QUANTIZATION_GROUP_SIZE", "0"},
      {"PERFORMANCE_HINT", "LATENCY"},
      {"NUM_STREAMS", "1"},
      {"CACHE_DIR", ""},
  };
}

// One compiled model and one infer request. Routed weights are set as tensors over the caller's
// memory: binding moves pointers only.
class OpenVinoEngine : public Engine {
 public:
  // `memory`: what the model was read from, which it may still point into.
  OpenVinoEngine(GraphSpec spec, ov::CompiledModel compiled,
                 std::shared_ptr<const Mapping> memory = nullptr)
      : Engine(std::move(spec)),
        memory_(std::move(memory)),
        compiled_(std::move(compiled)),
        request_(compiled_.create_infer_request()) {}

 private:
  void bind_arrays(const Arrays& arrays) override {
    for (const auto& [name, array] : arrays) set(name, array);
  }

  void unbind_arrays() override {
    // a request cannot forget an input; another one takes less than a millisecond
    request_ = compiled_.create_infer_request();
    kept_.clear();
  }

  Arrays run_arrays(const Arrays& inputs) override {
    for (const auto& [name, array] : inputs) set(name, array);
    try {
      request_.infer();
    } catch (const std::exception& error) {
      fail("graph " + repr(spec().name) + " failed to run", error);
    }
    Arrays outputs;  // copies: the request reuses its own buffers at the next run
    for (const TensorSpec& wanted : spec().outputs) {
      const ov::Tensor tensor = request_.get_tensor(wanted.name);
      const ov::Shape& sides = tensor.get_shape();
      Array array(wanted.type, Shape(sides.begin(), sides.end()));
      if (array.nbytes() != tensor.get_byte_size())
        fail_engine("graph " + repr(spec().name) + " gave " +
                    std::to_string(tensor.get_byte_size()) + " bytes as " + wanted.text());
      std::memcpy(array.writable<void>(), std::as_const(tensor).data(), array.nbytes());
      outputs[wanted.name] = std::move(array);
    }
    return outputs;
  }

  void set(const std::string& name, const Array& array) {
    const ov::Shape shape(array.shape().begin(), array.shape().end());
    try {
      // the port's type: files name the bits of a type that the graph names itself
      const ov::element::Type type = compiled_.input(name).get_element_type();
      if (type.size() != item_size(array.type()))
        throw std::invalid_argument("it takes " + type.get_type_name() + ", not " + array.text());
      request_.set_tensor(name, ov::Tensor(type, shape, const_cast<void*>(array.data())));
    } catch (const std::exception& error) {
      fail("graph " + repr(spec().name) + " refused input " + repr(name), error);
    }
    kept_[name] = array;
  }

  std::shared_ptr<const Mapping> memory_;
  ov::CompiledModel compiled_;
  ov::InferRequest request_;
  Arrays kept_;  // alive for as long as the request points into them
};

class OpenVinoBackend : public Backend {
 public:
  std::string version() const override { return ov::get_openvino_version().buildNumber; }

  std::unique_ptr<Engine> from_blob(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override {
    const ov::AnyMap options = device_options(precision);
    try {
      const auto memory = std::make_shared<const Mapping>(path, false);
      const ov::Tensor blob(ov::element::u8, {memory->size()},
                            static_cast<const void*>(memory->data()));
      return std::make_unique<OpenVinoEngine>(std::move(spec),
                                              core().import_model(blob, "CPU", options), memory);
    } catch (const std::exception& error) {
      fail("engine " + repr(path) + " could not be loaded", error);
    }
  }

  bool compiles() const override { return true; }

  std::unique_ptr<Engine> from_onnx(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override {
    const ov::AnyMap options = device_options(precision);
    try {
      return std::make_unique<OpenVinoEngine>(
          std::move(spec), core().compile_model(core().read_model(path), "CPU", options));
    } catch (const std::exception& error) {
      fail("graph " + repr(path) + " could not be compiled", error);
    }
  }
};

}  // namespace

const Backend& openvino_backend() {
  static const OpenVinoBackend backend;
  return backend;
}

}  // namespace a2edit
