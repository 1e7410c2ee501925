#include "src/engines/kernel.hpp"

#include <stdexcept>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/core/safetensors.hpp"

namespace a2edit {

CompiledKernel::CompiledKernel(Cuda& cuda, const std::string& path, const std::string& symbol,
                               unsigned threads, std::size_t shared)
    : cuda_(cuda), symbol_(symbol), threads_(threads), shared_(shared) {
  const std::string what = "kernel " + repr(path) +
                           " cannot be loaded; it may want a newer driver, or the bundle was built "
                           "for another GPU";
  try {
    const Mapping image(path, false);
    check_cuda(what, cuda.load(&library_, image.data(), image.size()));
  } catch (const std::invalid_argument& error) {
    fail_engine(what + ": " + error.what());
  }
  CudaStatus status = cuda.find_kernel(&kernel_, library_, symbol.c_str());
  if (status.error.empty()) status = cuda.resident(&resident_, kernel_, threads, shared);
  if (!status.error.empty()) cuda.unload(library_);  // no destructor will
  check_cuda(what, status);
}

void CompiledKernel::launch(const Stream& stream, unsigned blocks,
                            std::vector<KernelArgument> arguments) const {
  std::vector<void*> places;
  places.reserve(arguments.size());
  for (KernelArgument& argument : arguments)
    places.push_back(std::visit([](auto& value) -> void* { return &value; }, argument));
  check_cuda("kernel " + repr(symbol_) + " cannot be launched",
             cuda_.run(kernel_, {blocks, threads_, shared_}, places, stream.handle()));
}

}  // namespace a2edit
