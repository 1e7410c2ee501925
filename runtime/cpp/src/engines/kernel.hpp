// Compiled kernels that a bundle carries (runtime/engines/kernel.py).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "src/engines/cuda.hpp"

namespace a2edit {

// What a kernel is called with; a pointer is into the GPU's memory.
using KernelArgument = std::variant<void*, std::int32_t, float>;

// A function of a cubin, in a library of CUDA's that goes with this object.
class CompiledKernel {
 public:
  // `threads` of a block, and the bytes of shared memory that it takes. Throws an engine Error
  // where the file is no cubin for this GPU, or has no such function. `cuda` must outlive it.
  CompiledKernel(Cuda& cuda, const std::string& path, const std::string& symbol, unsigned threads,
                 std::size_t shared);
  ~CompiledKernel() { cuda_.unload(library_); }
  CompiledKernel(const CompiledKernel&) = delete;
  CompiledKernel& operator=(const CompiledKernel&) = delete;

  // Blocks that one multiprocessor of this GPU holds at a time.
  int resident() const { return resident_; }

  // Enqueue `blocks` blocks on `stream`; the arguments are copied now.
  void launch(const Stream& stream, unsigned blocks, std::vector<KernelArgument> arguments) const;

 private:
  Cuda& cuda_;
  std::string symbol_;
  unsigned threads_;
  std::size_t shared_;
  Cuda::Handle library_ = nullptr;
  Cuda::Handle kernel_ = nullptr;
  int resident_ = 0;
};

}  // namespace a2edit
