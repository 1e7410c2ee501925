// Merging on a GPU: base and experts stay there, and a kernel writes weights where engines read
// (runtime/merge_device.py, docs/decisions/0021).
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/core/merge.hpp"
#include "src/engines/kernel.hpp"

namespace a2edit {

// Merges weight sets as a RouteMerger does, on the GPU.
//
// Sums are in another order than on the processor: 8-bit values that lie near a tie may be one
// level away, others differ in their last bit. On one GPU a table gives the same bytes each time.
// One thread at a time; in a process one merge runs at a time, whosever it is. A set that was
// merged may outlive it.
class DeviceMerger {
 public:
  // Copies what `merger` merges from to the GPU, and loads the kernels: those that the bundle in
  // `folder` has for this GPU, `merges_all` of them. `weights` are the routed weights of the graph.
  // Merger and `cuda` must outlive it. Throws a device_memory Error where it does not fit, and an
  // engine Error where a kernel cannot be loaded.
  DeviceMerger(Cuda& cuda, const RouteMerger& merger, const std::vector<TensorSpec>& weights,
               const std::vector<MergeKernelEntry>& kernels, const std::string& folder);

  // The weight set `name` for a table R[L, N] in C order, on the GPU; throws a device_memory Error
  // where it has no room for one.
  WeightSet merge(const std::vector<float>& table, const std::string& name);

 private:
  // Of tensors in one block of memory: where each begins, and how large they are together.
  struct Layout {
    std::map<std::string, std::size_t> offsets;
    std::size_t nbytes = 0;

    void add(const std::string& name, std::size_t size);
  };
  // The kernels of a linear, by phase.
  using Chosen = std::map<std::string, MergeKernelEntry>;

  const CompiledKernel& kernel_of(const MergeKernelEntry& entry) const;
  void launch(const Linear& linear, const DeviceBuffer& block);
  std::vector<KernelArgument> arguments(const Linear& linear, const DeviceBuffer& block) const;
  void* space_of(const Linear& linear) const;

  Cuda& cuda_;
  const RouteMerger& merger_;
  std::vector<TensorSpec> weights_;
  std::map<std::string, Chosen> chosen_;  // by linear
  Layout from_, to_, spaces_;
  Stream stream_;
  std::unique_ptr<const DeviceBuffer> sources_, workspace_, rows_;
  std::int64_t processors_ = 0;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<const CompiledKernel>>
      loaded_;  // by file and symbol
};

// Whether `kernels` can merge every linear of `merger`.
bool merges_all(const RouteMerger& merger, const std::vector<MergeKernelEntry>& kernels);

}  // namespace a2edit
