// CUDA's runtime behind Cuda (cuda.hpp).
#include <cuda_runtime_api.h>

#include "src/engines/cuda.hpp"

namespace a2edit {
namespace {

// An error is ours to tell, and not for whoever asks CUDA next, such as TensorRT.
CudaStatus status(cudaError_t error) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();
  return {cudaGetErrorName(error), cudaGetErrorString(error)};
}

#if CUDART_VERSION < 12080
CudaStatus too_old() {
  return {"cudaErrorNotSupported", "this library was built with a CUDA older than 12.8"};
}
#endif

cudaStream_t stream_of(Cuda::Handle handle) { return static_cast<cudaStream_t>(handle); }

class CudaRuntime : public Cuda {
 public:
  CudaStatus capability(int* major, int* minor) override {
    constexpr int first = 0;
    const cudaError_t error =
        cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, first);
    if (error != cudaSuccess) return status(error);
    return status(cudaDeviceGetAttribute(minor, cudaDevAttrComputeCapabilityMinor, first));
  }

  CudaStatus multiprocessors(int* count) override {
    return status(cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, 0));
  }

  CudaStatus allocate(void** address, std::size_t nbytes) override {
    return status(cudaMalloc(address, nbytes));
  }
  void release(void* address) noexcept override { cudaFree(address); }

  CudaStatus make_stream(Handle* stream) override {
    cudaStream_t made = nullptr;
    const cudaError_t error = cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
    *stream = made;
    return status(error);
  }
  void destroy_stream(Handle stream) noexcept override { cudaStreamDestroy(stream_of(stream)); }

  CudaStatus upload(void* to, const void* from, std::size_t nbytes, Handle stream) override {
    return status(cudaMemcpyAsync(to, from, nbytes, cudaMemcpyHostToDevice, stream_of(stream)));
  }
  CudaStatus download(void* to, const void* from, std::size_t nbytes, Handle stream) override {
    return status(cudaMemcpyAsync(to, from, nbytes, cudaMemcpyDeviceToHost, stream_of(stream)));
  }
  CudaStatus zero(void* address, std::size_t nbytes, Handle stream) override {
    return status(cudaMemsetAsync(address, 0, nbytes, stream_of(stream)));
  }
  CudaStatus wait(Handle stream) override {
    return status(cudaStreamSynchronize(stream_of(stream)));
  }

  CudaStatus begin_capture(Handle stream) override {
    return status(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal));
  }
  CudaStatus end_capture(Handle stream, Handle* graph) override {
    cudaGraph_t made = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream_of(stream), &made);
    *graph = made;
    return status(error);
  }
  CudaStatus instantiate(Handle* step, Handle graph) override {
    cudaGraphExec_t made = nullptr;
    const cudaError_t error =
        cudaGraphInstantiateWithFlags(&made, static_cast<cudaGraph_t>(graph), 0);
    *step = made;
    return status(error);
  }
  CudaStatus launch(Handle step, Handle stream) override {
    return status(cudaGraphLaunch(static_cast<cudaGraphExec_t>(step), stream_of(stream)));
  }
  void destroy_graph(Handle graph) noexcept override {
    cudaGraphDestroy(static_cast<cudaGraph_t>(graph));
  }
  void destroy_step(Handle step) noexcept override {
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(step));
  }

#if CUDART_VERSION >= 12080
  CudaStatus load(Handle* library, const void* image, std::size_t) override {
    cudaLibrary_t loaded = nullptr;
    const cudaError_t error =
        cudaLibraryLoadData(&loaded, image, nullptr, nullptr, 0, nullptr, nullptr, 0);
    *library = loaded;
    return status(error);
  }
  void unload(Handle library) noexcept override {
    cudaLibraryUnload(static_cast<cudaLibrary_t>(library));
  }
  CudaStatus find_kernel(Handle* kernel, Handle library, const char* symbol) override {
    cudaKernel_t found = nullptr;
    const cudaError_t error =
        cudaLibraryGetKernel(&found, static_cast<cudaLibrary_t>(library), symbol);
    *kernel = found;
    return status(error);
  }
  // A library's kernel stands for itself wherever a function is asked for.
  CudaStatus resident(int* blocks, Handle kernel, unsigned threads, std::size_t shared) override {
    return status(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks, kernel, static_cast<int>(threads), shared));
  }
  CudaStatus run(Handle kernel, const CudaGrid& grid, const std::vector<void*>& arguments,
                 Handle stream) override {
    return status(cudaLaunchKernel(kernel, dim3(grid.blocks), dim3(grid.threads),
                                   const_cast<void**>(arguments.data()), grid.shared,
                                   stream_of(stream)));
  }
#else
  CudaStatus load(Handle*, const void*, std::size_t) override { return too_old(); }
  void unload(Handle) noexcept override {}
  CudaStatus find_kernel(Handle*, Handle, const char*) override { return too_old(); }
  CudaStatus resident(int*, Handle, unsigned, std::size_t) override { return too_old(); }
  CudaStatus run(Handle, const CudaGrid&, const std::vector<void*>&, Handle) override {
    return too_old();
  }
#endif

  void forget_error() noexcept override { cudaGetLastError(); }
};

}  // namespace

Cuda& cuda_runtime() {
  static CudaRuntime runtime;
  return runtime;
}

}  // namespace a2edit
