#include "src/engines/cuda.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "src/core/error.hpp"

namespace a2edit {
namespace {

std::string megabytes(std::size_t nbytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f MB", static_cast<double>(nbytes) / 1e6);
  return text;
}

}  // namespace

void check_cuda(const std::string& what, const CudaStatus& status) {
  // errors that mean that there is no GPU to use at all
  constexpr const char* absent[] = {"cudaErrorNoDevice", "cudaErrorInsufficientDriver",
                                    "cudaErrorStubLibrary"};
  if (status.error.empty()) return;
  if (std::find(std::begin(absent), std::end(absent), status.error) != std::end(absent))
    fail_target("this needs an NVIDIA GPU with its driver, and CUDA says: " + status.text +
                "; use --device cpu with a bundle that has cpu engines, or a machine with a GPU");
  if (status.error == "cudaErrorMemoryAllocation")
    throw Error(ErrorKind::device_memory,
                what +
                    ": the GPU's memory is full; close what else uses it, or build with "
                    "--preset small");
  fail_engine(what + ": CUDA says: " + status.text);
}

Capability capability_of(Cuda& cuda) {
  int major = 0, minor = 0;
  check_cuda("the GPU cannot be asked what it is", cuda.capability(&major, &minor));
  return {major, minor};
}

int multiprocessors_of(Cuda& cuda) {
  int count = 0;
  check_cuda("the GPU cannot be asked what it is", cuda.multiprocessors(&count));
  return count;
}

DeviceBuffer::DeviceBuffer(Cuda& cuda, std::size_t nbytes) : cuda_(cuda), nbytes_(nbytes) {
  // an empty tensor has an address too
  check_cuda(megabytes(nbytes) + " on the GPU",
        cuda.allocate(&address_, std::max<std::size_t>(nbytes, 1)));
}

Stream::Stream(Cuda& cuda) : cuda_(cuda) {
  check_cuda("a CUDA stream cannot be made", cuda.make_stream(&handle_));
}

void Stream::upload(const Array& array, const DeviceBuffer& buffer, std::size_t offset) {
  if (const std::size_t nbytes = array.nbytes())
    check_cuda("a copy to or from the GPU failed",
               cuda_.upload(static_cast<unsigned char*>(buffer.address()) + offset, array.data(),
                            nbytes, handle_));
}

void Stream::download(const DeviceBuffer& buffer, Array& array) {
  if (const std::size_t nbytes = array.nbytes())
    check_cuda("a copy to or from the GPU failed",
               cuda_.download(array.writable<void>(), buffer.address(), nbytes, handle_));
}

void Stream::zero(void* address, std::size_t nbytes) {
  check_cuda("memory of the GPU cannot be set", cuda_.zero(address, nbytes, handle_));
}

void Stream::wait() { check_cuda("the GPU failed", cuda_.wait(handle_)); }

CapturedStep::CapturedStep(Cuda& cuda, const Stream& stream, const std::function<void()>& enqueue)
    : cuda_(cuda), stream_(stream.handle()) {
  const std::string what = "the step cannot be captured as a CUDA graph";
  check_cuda(what, cuda.begin_capture(stream_));
  Cuda::Handle graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    // a capture that failed must be ended all the same, and its error be forgotten
    cuda.end_capture(stream_, &graph);
    if (graph) cuda.destroy_graph(graph);
    cuda.forget_error();
    throw;
  }
  CudaStatus status = cuda.end_capture(stream_, &graph);
  if (status.error.empty()) status = cuda.instantiate(&step_, graph);
  if (graph) cuda.destroy_graph(graph);
  check_cuda(what, status);
}

void CapturedStep::launch() {
  check_cuda("a captured step cannot be launched", cuda_.launch(step_, stream_));
}

}  // namespace a2edit
