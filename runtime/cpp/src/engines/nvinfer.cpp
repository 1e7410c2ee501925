// One of NVIDIA's two libraries behind TensorRt (tensorrt.hpp). Compiled once a product, against
// its own headers, which say which of them it is: TensorRT for RTX has the names of TensorRT
// throughout.
//
// The library is opened when it is first asked for, so that where it is missing everything else
// works; and by its own name, so that both can be in one process.
#include <NvInferVersion.h>
#include <dlfcn.h>

// Both products' classes are called the same, and need not be: each has a namespace of its own
// here.
#ifdef TRT_MAJOR_RTX
#define nvinfer1 nvinfer1_rtx
#define A2EDIT_PRODUCT "tensorrt_rtx"
#define A2EDIT_STEM "libtensorrt_rtx.so."
#else
#define A2EDIT_PRODUCT "tensorrt"
#define A2EDIT_STEM "libnvinfer.so."
#endif
#include <NvInferRuntime.h>

#include <deque>
#include <mutex>
#include <type_traits>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/engines/tensorrt.hpp"

namespace a2edit {
namespace {

// Keeps errors for our exceptions. Any thread of the library may log.
class Messages : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity != Severity::kERROR && severity != Severity::kINTERNAL_ERROR) return;
    try {
      const std::lock_guard<std::mutex> hold(mutex_);
      errors_.emplace_back(message);
    } catch (const std::exception&) {
      // without memory for it, an error goes without its text
    }
  }

  std::string reason() {
    const std::lock_guard<std::mutex> hold(mutex_);
    return first_reason(std::exchange(errors_, {}));
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> errors_;
};

// One for each plan. None is destroyed: the library keeps the first that it is given, for errors
// that are of no plan.
Messages& new_messages() {
  static std::mutex mutex;
  static auto* const all = new std::deque<Messages>();
  const std::lock_guard<std::mutex> hold(mutex);
  return all->emplace_back();
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) dims.d[axis] = shape[axis];
  return dims;
}

Shape shape_of(const nvinfer1::Dims& dims) {
  return dims.nbDims < 0 ? Shape{} : Shape(dims.d, dims.d + dims.nbDims);
}

// Only TensorRT for RTX compiles kernels late, and can say when that is over.
template <class Context>
auto ready(const Context& context, cudaStream_t stream,
           int) -> decltype(static_cast<bool>(context.isStreamCapturable(stream))) {
  return context.isStreamCapturable(stream);
}
template <class Context>
bool ready(const Context&, cudaStream_t, long) {
  return true;
}

class NvContext : public TensorRtContext {
 public:
  explicit NvContext(nvinfer1::IExecutionContext* context) : context_(context) {}

  bool set_profile(int profile, Cuda::Handle stream) override {
    return context_->setOptimizationProfileAsync(profile, static_cast<cudaStream_t>(stream));
  }
  bool set_shape(const std::string& name, const Shape& shape) override {
    return shape.size() <= static_cast<std::size_t>(nvinfer1::Dims::MAX_DIMS) &&
           context_->setInputShape(name.c_str(), dims_of(shape));
  }
  Shape shape(const std::string& name) const override {
    return shape_of(context_->getTensorShape(name.c_str()));
  }
  bool set_address(const std::string& name, void* address) override {
    return context_->setTensorAddress(name.c_str(), address);
  }
  bool enqueue(Cuda::Handle stream) override {
    return context_->enqueueV3(static_cast<cudaStream_t>(stream));
  }
  bool capturable(Cuda::Handle stream) const override {
    return ready(*context_, static_cast<cudaStream_t>(stream), 0);
  }

 private:
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

class NvPlan : public TensorRtPlan {
 public:
  NvPlan(Messages& messages, std::unique_ptr<nvinfer1::IRuntime> runtime,
         std::unique_ptr<nvinfer1::ICudaEngine> engine)
      : messages_(messages), runtime_(std::move(runtime)), engine_(std::move(engine)) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> found;
    for (std::int32_t place = 0; place < engine_->getNbIOTensors(); ++place)
      found.emplace_back(engine_->getIOTensorName(place));
    return found;
  }
  std::optional<Type> type(const std::string& name) const override {
    using Kind = nvinfer1::DataType;
    switch (engine_->getTensorDataType(name.c_str())) {
      case Kind::kFLOAT:
        return Type::float32;
      case Kind::kHALF:
        return Type::float16;
      case Kind::kBF16:
        return Type::bfloat16;
      case Kind::kFP8:
        return Type::float8_e4m3fn;
      case Kind::kINT8:
        return Type::int8;
      case Kind::kUINT8:
        return Type::uint8;
      case Kind::kINT32:
        return Type::int32;
      case Kind::kINT64:
        return Type::int64;
      case Kind::kBOOL:
        return Type::boolean;
      default:
        return std::nullopt;
    }
  }
  Shape shape(const std::string& name) const override {
    return shape_of(engine_->getTensorShape(name.c_str()));
  }
  int profiles() const override { return engine_->getNbOptimizationProfiles(); }
  std::pair<Shape, Shape> range(const std::string& name, int profile) const override {
    using End = nvinfer1::OptProfileSelector;
    return {shape_of(engine_->getProfileShape(name.c_str(), profile, End::kMIN)),
            shape_of(engine_->getProfileShape(name.c_str(), profile, End::kMAX))};
  }
  std::unique_ptr<TensorRtContext> context() override {
    nvinfer1::IExecutionContext* made = engine_->createExecutionContext();
    return made ? std::make_unique<NvContext>(made) : nullptr;
  }
  std::string reason() override { return messages_.reason(); }

 private:
  Messages& messages_;
  // destroyed from the last to the first, as TensorRT asks for
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
};

class NvLibrary : public TensorRt {
 public:
  std::string version() const override {
    std::string text;
    for (const char* part : {"Major", "Minor", "Patch", "Build"}) {
      const auto number = function<decltype(&getInferLibMajorVersion)>(std::string("getInferLib") +
                                                                       part + "Version");
      text += (text.empty() ? "" : ".") + std::to_string(number());
    }
    return text;
  }

  std::unique_ptr<TensorRtPlan> load(const void* bytes, std::size_t size,
                                     std::string* reason) const override {
    Messages& messages = new_messages();
    const auto create =
        function<decltype(&createInferRuntime_INTERNAL)>("createInferRuntime_INTERNAL");
    std::unique_ptr<nvinfer1::IRuntime> runtime(
        static_cast<nvinfer1::IRuntime*>(create(&messages, NV_TENSORRT_VERSION)));
    std::unique_ptr<nvinfer1::ICudaEngine> engine;
    if (runtime) engine.reset(runtime->deserializeCudaEngine(bytes, size));
    if (!engine) {
      *reason = messages.reason();
      return nullptr;
    }
    return std::make_unique<NvPlan>(messages, std::move(runtime), std::move(engine));
  }

 private:
  template <class Function>
  static Function function(const std::string& name) {
    static const std::string file = A2EDIT_STEM + std::to_string(NV_TENSORRT_MAJOR);
    // never closed: threads of its own may still run at the end of a process
    static void* const library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* const found = library ? ::dlsym(library, name.c_str()) : nullptr;
    if (!found) {
      const char* said = ::dlerror();
      fail_target("engine " + repr(std::string(A2EDIT_PRODUCT)) + " cannot be used (" +
                  (said ? said : file + " cannot be opened") +
                  "): install that library where the loader finds it (LD_LIBRARY_PATH), use a "
                  "bundle for another engine, or --device cpu");
    }
    return reinterpret_cast<Function>(found);
  }
};

}  // namespace

#ifdef TRT_MAJOR_RTX
const TensorRt& tensorrt_rtx_library() {
#else
const TensorRt& tensorrt_library() {
#endif
  static const NvLibrary library;
  return library;
}

}  // namespace a2edit
