// What engines need of CUDA: memory, one stream, captured steps (runtime/engines/cuda.py), and
// kernels (kernel.hpp).
//
// Everything is on the first visible GPU (CUDA_VISIBLE_DEVICES says which that is).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/engines/engine.hpp"

namespace a2edit {

// What a call of CUDA came to.
struct CudaStatus {
  std::string error;  // by CUDA's name, "cudaErrorMemoryAllocation"; "" where it succeeded
  std::string text;   // what CUDA says of it
};

// How often a kernel is run, in one dimension, and with what; `shared` in bytes a block.
struct CudaGrid {
  unsigned blocks = 0, threads = 0;
  std::size_t shared = 0;
};

// The calls of CUDA's runtime that are used, one by one; handles are CUDA's own. What is behind it
// is a GPU, or in tests the memory of the host.
class Cuda {
 public:
  using Handle = void*;

  virtual ~Cuda() = default;

  virtual CudaStatus capability(int* major, int* minor) = 0;
  virtual CudaStatus multiprocessors(int* count) = 0;
  virtual CudaStatus allocate(void** address, std::size_t nbytes) = 0;
  virtual void release(void* address) noexcept = 0;

  virtual CudaStatus make_stream(Handle* stream) = 0;
  virtual void destroy_stream(Handle stream) noexcept = 0;
  virtual CudaStatus upload(void* to, const void* from, std::size_t nbytes, Handle stream) = 0;
  virtual CudaStatus download(void* to, const void* from, std::size_t nbytes, Handle stream) = 0;
  virtual CudaStatus zero(void* address, std::size_t nbytes, Handle stream) = 0;
  virtual CudaStatus wait(Handle stream) = 0;

  virtual CudaStatus begin_capture(Handle stream) = 0;
  virtual CudaStatus end_capture(Handle stream, Handle* graph) = 0;  // null where it is broken
  virtual CudaStatus instantiate(Handle* step, Handle graph) = 0;
  virtual CudaStatus launch(Handle step, Handle stream) = 0;
  virtual void destroy_graph(Handle graph) noexcept = 0;
  virtual void destroy_step(Handle step) noexcept = 0;

  // A cubin's functions; the image is read during the call only.
  virtual CudaStatus load(Handle* library, const void* image, std::size_t size) = 0;
  virtual void unload(Handle library) noexcept = 0;
  virtual CudaStatus find_kernel(Handle* kernel, Handle library, const char* symbol) = 0;
  // The blocks that a multiprocessor holds at a time.
  virtual CudaStatus resident(int* blocks, Handle kernel, unsigned threads, std::size_t shared) = 0;
  // The arguments' values are copied during the call.
  virtual CudaStatus run(Handle kernel, const CudaGrid& grid, const std::vector<void*>& arguments,
                         Handle stream) = 0;

  // Forget what a capture that broke off left behind; each call above forgets its own error.
  virtual void forget_error() noexcept = 0;
};

// The one that this library was built with; lives as long as the process.
Cuda& cuda_runtime();

// Throws a target Error where there is no GPU or no driver for it, a device_memory Error where its
// memory is full, and an engine Error of anything else.
void check_cuda(const std::string& what, const CudaStatus& status);

// Of the GPU; throws a target Error where there is none.
Capability capability_of(Cuda& cuda);
int multiprocessors_of(Cuda& cuda);

// Memory on the GPU, freed with this object.
class DeviceBuffer {
 public:
  // Throws a device_memory Error where it does not fit.
  DeviceBuffer(Cuda& cuda, std::size_t nbytes);
  ~DeviceBuffer() { cuda_.release(address_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* address() const { return address_; }
  std::size_t nbytes() const { return nbytes_; }  // as asked for

 private:
  Cuda& cuda_;
  void* address_ = nullptr;
  std::size_t nbytes_;
};

// A queue of work on the GPU: what is put in runs in order, and `wait` returns after it.
class Stream {
 public:
  explicit Stream(Cuda& cuda);
  ~Stream() { cuda_.destroy_stream(handle_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Cuda::Handle handle() const { return handle_; }

  // To the buffer's bytes from `offset` on. The array must stay as it is until `wait` has returned.
  void upload(const Array& array, const DeviceBuffer& buffer, std::size_t offset = 0);

  // The array is filled when `wait` has returned.
  void download(const DeviceBuffer& buffer, Array& array);

  // Make so many bytes of the GPU's memory zeros.
  void zero(void* address, std::size_t nbytes);

  void wait();

 private:
  Cuda& cuda_;
  Cuda::Handle handle_ = nullptr;
};

// The kernels that a call enqueues, recorded once and launched as one (a CUDA graph). The addresses
// that it reads and writes are recorded too: other ones need another capture.
class CapturedStep {
 public:
  // Record `enqueue`, which must only enqueue work on `stream`. Throws an engine Error where
  // something in it cannot be captured; the stream is as before.
  CapturedStep(Cuda& cuda, const Stream& stream, const std::function<void()>& enqueue);
  ~CapturedStep() { cuda_.destroy_step(step_); }
  CapturedStep(const CapturedStep&) = delete;
  CapturedStep& operator=(const CapturedStep&) = delete;

  // Enqueue all of it on its stream.
  void launch();

 private:
  Cuda& cuda_;
  Cuda::Handle stream_;
  Cuda::Handle step_ = nullptr;
};

}  // namespace a2edit
