#include "src/engines/merging.hpp"

#include <utility>

#include "src/core/error.hpp"

namespace a2edit {

Merging::Merging(const Bundle& bundle, std::vector<TensorSpec> weights, const std::string& target,
                 Cuda* cuda)
    : bundle_(bundle),
      weights_(std::move(weights)),
      merger_(bundle.path(bundle.manifest.merge.value().file), *bundle.manifest.merge, weights_),
      kernels_(bundle.manifest.merge_kernels.find(target)) {
  if (kernels_ && merges_all(merger_, *kernels_)) cuda_ = cuda;
}

WeightSet Merging::merge(const std::vector<float>& table, const std::string& name) {
  tried_ = true;
  if (cuda_ && !device_) {
    try {
      device_ =
          std::make_unique<DeviceMerger>(*cuda_, merger_, weights_, *kernels_, bundle_.folder);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::engine) throw;
      leave_gpu(error.what());
    }
  }
  return device_ ? device_->merge(table, name) : merger_.merge(table, name);
}

void Merging::leave_gpu(const std::string& reason) {
  device_.reset();
  cuda_ = nullptr;
  warning_ = "routes are merged on the processor: " + reason;
}

}  // namespace a2edit
