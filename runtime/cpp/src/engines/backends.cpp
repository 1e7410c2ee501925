// What this library was built with; CMake says which of NVIDIA's libraries are among it.
#include "src/engines/engine.hpp"
#include "src/engines/tensorrt.hpp"

namespace a2edit {

const Backends& backends_built() {
  static const Backends built = [] {
    Backends all;
    all.named["openvino"] = &openvino_backend();
#ifdef A2EDIT_HAS_TENSORRT
    static const TensorRtBackend tensorrt("tensorrt", tensorrt_library(), cuda_runtime());
    all.named["tensorrt"] = &tensorrt;
#endif
#ifdef A2EDIT_HAS_TENSORRT_RTX
    static const TensorRtBackend rtx("tensorrt_rtx", tensorrt_rtx_library(), cuda_runtime());
    all.named["tensorrt_rtx"] = &rtx;
#endif
#if defined(A2EDIT_HAS_TENSORRT) || defined(A2EDIT_HAS_TENSORRT_RTX)
    all.capability = [] { return capability_of(cuda_runtime()); };
    all.cuda = &cuda_runtime();
#endif
    return all;
  }();
  return built;
}

}  // namespace a2edit
