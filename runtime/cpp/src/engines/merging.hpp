// Where routes are merged: on the processor, or on a GPU that has room for the base
// (runtime/merging.py).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/core/bundle.hpp"
#include "src/engines/device_merger.hpp"

namespace a2edit {

// Merges routes of a bundle for a target: on its GPU where the bundle has kernels that fit, and on
// the processor where it has none, where they do not load, or after `leave_gpu`. One thread at a
// time; what was merged may outlive it.
class Merging {
 public:
  // For a graph of these routed `weights`, in a bundle that has what to merge from. `cuda`: of the
  // engines, null where they run on the processor. Bundle and `cuda` must outlive it. Throws a
  // bundle Error.
  Merging(const Bundle& bundle, std::vector<TensorSpec> weights, const std::string& target,
          Cuda* cuda);

  // The weight set `name` for a table R[L, N] in C order. Base and experts are copied to the GPU at
  // the first merge there, and stay. Throws a device_memory Error where it has no room for them or
  // for the set.
  WeightSet merge(const std::vector<float>& table, const std::string& name);

  // Whether routes are merged there, or the last merge found no room there.
  bool on_gpu() const { return cuda_ && tried_; }

  // Free what lies there, and merge on the processor from now on; the warning has the reason.
  void leave_gpu(const std::string& reason);

  // Why routes are merged on the processor after all; "" where they are merged as foreseen.
  const std::string& warning() const { return warning_; }

 private:
  const Bundle& bundle_;
  std::vector<TensorSpec> weights_;
  RouteMerger merger_;
  const std::vector<MergeKernelEntry>* kernels_;  // of the bundle; null: none for this target
  Cuda* cuda_ = nullptr;                          // null: the processor merges
  bool tried_ = false;  // to merge there
  std::unique_ptr<DeviceMerger> device_;
  std::string warning_;
};

}  // namespace a2edit
