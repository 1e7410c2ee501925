// merge_quantize for ctypes, with every type that it takes.
#include "merge_quantize.cuh"

using namespace a2edit::kernels;

extern "C" std::uint64_t workspace_words(int out) { return Board::size(out); }

extern "C" int merge(const Merge* merge, std::uint32_t* workspace, void* stream) {
  return merge_quantize<__nv_bfloat16>(*merge, workspace, static_cast<cudaStream_t>(stream));
}

extern "C" int merge_half(const Merge* merge, std::uint32_t* workspace, void* stream) {
  return merge_quantize<__half>(*merge, workspace, static_cast<cudaStream_t>(stream));
}
