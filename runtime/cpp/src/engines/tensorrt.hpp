// TensorRT and TensorRT for RTX on an NVIDIA GPU (runtime/engines/tensorrt.py): one engine for
// both.
//
// What it needs of the two libraries are the calls of the interfaces here, one by one; nvinfer.cpp
// makes them NVIDIA's, and tests play them on the host's memory.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/engines/cuda.hpp"

namespace a2edit {

// A plan that runs: shapes and addresses of its tensors, by name. False means that the library
// refused, and said why.
class TensorRtContext {
 public:
  virtual ~TensorRtContext() = default;

  virtual bool set_profile(int profile, Cuda::Handle stream) = 0;
  virtual bool set_shape(const std::string& name, const Shape& shape) = 0;
  virtual Shape shape(const std::string& name) const = 0;  // with the inputs' shapes set
  virtual bool set_address(const std::string& name, void* address) = 0;
  virtual bool enqueue(Cuda::Handle stream) = 0;

  // Whether what it enqueues can be captured by now.
  virtual bool capturable(Cuda::Handle stream) const = 0;
};

// A plan that was loaded: its tensors, and between which shapes its profiles take them.
class TensorRtPlan {
 public:
  virtual ~TensorRtPlan() = default;

  virtual std::vector<std::string> names() const = 0;
  virtual std::optional<Type> type(const std::string& name) const = 0;  // none: one not known here
  virtual Shape shape(const std::string& name) const = 0;               // open_size where open
  virtual int profiles() const = 0;
  virtual std::pair<Shape, Shape> range(const std::string& name, int profile) const = 0;

  // Null where there is no room for its activations. It must go before the plan.
  virtual std::unique_ptr<TensorRtContext> context() = 0;

  // The first error since the last call, which those after it follow from.
  virtual std::string reason() = 0;
};

// One of the two libraries.
class TensorRt {
 public:
  virtual ~TensorRt() = default;

  // "10.13.3.9"; throws a target Error where the library cannot be opened.
  virtual std::string version() const = 0;

  // Null where it is refused, for `reason`. The bytes are read during the call only.
  virtual std::unique_ptr<TensorRtPlan> load(const void* bytes, std::size_t size,
                                             std::string* reason) const = 0;
};

// The first line of the first of a library's errors.
std::string first_reason(const std::vector<std::string>& errors);

using Shapes = std::map<std::string, Shape>;  // by tensor

// The first profile that the inputs' shapes lie in; 0 for a plan that leaves no size open. Throws
// an engine Error where there is none.
int fitting_profile(const GraphSpec& spec, const Shapes& inputs, const TensorRtPlan& plan);

// Throws an engine Error where the plan's tensors are not those of `spec`.
void check_edge(const GraphSpec& spec, const TensorRtPlan& plan);

// `cuda` must outlive the engine.
std::unique_ptr<Engine> tensorrt_engine(GraphSpec spec, std::unique_ptr<TensorRtPlan> plan,
                                        Cuda& cuda);

// Loads plans by one of the libraries; it compiles nothing.
class TensorRtBackend : public Backend {
 public:
  // `library` and `cuda` must outlive it and its engines.
  TensorRtBackend(std::string name, const TensorRt& library, Cuda& cuda)
      : name_(std::move(name)), library_(library), cuda_(cuda) {}

  std::string version() const override { return library_.version(); }

  // Throws a target Error where there is no GPU, or one that has no `precision`; a device_memory
  // Error where the plan does not fit; an engine Error where it is damaged, or of another version
  // or another GPU after all. The file is mapped, and not read into memory as a whole.
  std::unique_ptr<Engine> from_blob(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override;

  bool compiles() const override { return false; }

  // Throws a target Error always.
  std::unique_ptr<Engine> from_onnx(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override;

 private:
  std::string name_;
  const TensorRt& library_;
  Cuda& cuda_;
};

// The libraries that this one was built with (nvinfer.cpp); each lives as long as the process.
const TensorRt& tensorrt_library();
const TensorRt& tensorrt_rtx_library();

}  // namespace a2edit
