// A route's linear, merged and quantised in one pass over its base, into the engine's own buffers.
//
//   W⁰ + Σ w_i · scale · B_i A_i, in fp32; times `smooth`; then 8 bits with a scale a row
//
// For C++ hosts: CUDA alone is needed, and only pointers are passed. A row's scale needs its
// largest value, and a row is too long for one block: a block merges a tile, keeps it, tells the
// rows' maxima, waits for the other tiles of these rows and quantises. W⁰ is read once
// (docs/decisions/0017). Sums are in another order than the reference's: what lies near a tie may
// be one level away from it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>

#include "merge_tile.cuh"

namespace a2edit::kernels {

// Products of __nv_bfloat16 or __half by tensor cores, exact, summed in fp32.
template <class Stored>
struct TensorCores {
  using Element = Stored;
  using Sum =
      nvcuda::wmma::fragment<nvcuda::wmma::accumulator, sum_side, sum_side, sum_side, float>;

  static __device__ float value(__nv_bfloat16 x) { return __bfloat162float(x); }
  static __device__ float value(__half x) { return __half2float(x); }
  static __device__ void load(Sum& sum, const float* from, int stride) {
    nvcuda::wmma::load_matrix_sync(sum, from, stride, nvcuda::wmma::mem_row_major);
  }
  static __device__ void store(float* to, const Sum& sum, int stride) {
    nvcuda::wmma::store_matrix_sync(to, sum, stride, nvcuda::wmma::mem_row_major);
  }
  static __device__ void zero(Sum& sum) { nvcuda::wmma::fill_fragment(sum, 0.0F); }
  static __device__ void multiply(Sum& sum, const Element* high, int high_stride,
                                  const Element* low, int low_stride) {
    using namespace nvcuda::wmma;
    fragment<matrix_a, sum_side, sum_side, sum_side, Element, row_major> left;
    fragment<matrix_b, sum_side, sum_side, sum_side, Element, row_major> right;
    load_matrix_sync(left, high, high_stride);
    load_matrix_sync(right, low, low_stride);
    mma_sync(sum, left, right, sum);
  }
  static __device__ void add(Sum& sum, float factor, const Sum& part) {
    for (int i = 0; i < sum.num_elements; ++i) sum.x[i] += factor * part.x[i];
  }
};

// Between blocks through L2, which is the same for all of them.
struct DeviceMemory {
  static __device__ std::uint32_t next(std::uint32_t* ticket) { return atomicAdd(ticket, 1U); }
  static __device__ void raise(std::uint32_t* most, std::uint32_t value) { atomicMax(most, value); }
  static __device__ void raise_local(std::uint32_t* most, std::uint32_t value) {
    value = __reduce_max_sync(0xFFFFFFFFU, value);  // a warp has one row
    if (threadIdx.x % warp_lanes == 0) atomicMax(most, value);
  }
  static __device__ std::uint32_t settled(const std::uint32_t* most) { return __ldcg(most); }
  // Called by one thread when its block has told; returns when all blocks of the band have.
  static __device__ void meet(std::uint32_t* count, std::uint32_t all) {
    __threadfence();
    atomicAdd(count, 1U);
    while (*static_cast<volatile std::uint32_t*>(count) < all) __nanosleep(100);
    __threadfence();
  }
};

// One pass, or without enough room for a row's tiles at once: maxima, then levels, W⁰ read by both.
enum class Phase { one_pass, maxima, levels };

template <class Element>
__global__ void __launch_bounds__(block_threads, 2)
    merge_quantize_kernel(Merge merge, Board board, Phase phase) {
  using Product = TensorCores<Element>;
  using Step = Tile<Product, DeviceMemory>;
  __shared__ Shared<Element> shared;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / warp_lanes;
  Step::draw(board, shared, thread);
  __syncthreads();
  const Step tile(merge, board, shared);
  Factors<Element> factors;
  Turn turn = tile.active({0, 0});
  if (tile.left(turn)) tile.fetch(thread, turn, factors);
  tile.read_base(thread);
  __syncthreads();
  Sums<Product> sums;
  tile.load(warp, sums);
  while (tile.left(turn)) {
    tile.put(thread, factors);
    const Turn next = tile.active(Step::after(turn));
    if (tile.left(next)) tile.fetch(thread, next, factors);
    __syncthreads();
    tile.multiply(warp, turn, sums);
    __syncthreads();
    turn = next;
  }
  tile.store(warp, sums);
  __syncthreads();
  tile.measure(thread);
  __syncthreads();
  if (phase != Phase::levels) tile.tell(thread);
  if (phase == Phase::maxima) return;
  if (phase == Phase::one_pass) {
    __syncthreads();
    if (thread == 0)
      DeviceMemory::meet(board.count(tile.band), static_cast<std::uint32_t>(tile.tiles));
  }
  __syncthreads();
  tile.decide(thread);
  __syncthreads();
  tile.quantise(thread);
}

// Enqueue on `stream` the merge of one linear whose matrices are of type Element: __nv_bfloat16 or
// __half. `workspace` is Board::size(out) words on the device, overwritten. May be captured into a
// graph; any thread may call it. Blocks wait for each other: a GPU must run one merge at a time
// (put them on one stream, which may share a workspace), since two could wait for each other's
// places for ever, and nothing else may hold its multiprocessors for good. Returns
// cudaErrorInvalidValue for sizes below 1 or missing pointers, else what CUDA says.
template <class Element>
cudaError_t merge_quantize(const Merge& merge, std::uint32_t* workspace, cudaStream_t stream) {
  if (merge.out < 1 || merge.in < 1 || merge.experts < 0 || merge.rank < 1)
    return cudaErrorInvalidValue;
  const bool factors = merge.experts == 0 || (merge.A && merge.B && merge.weights);
  if (!factors || !merge.base || !merge.levels || !merge.scales || !workspace)
    return cudaErrorInvalidValue;
  int device = 0, processors = 0, resident = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  const auto kernel = merge_quantize_kernel<Element>;
  if (error == cudaSuccess) {
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, block_threads, 0);
  }
  if (error != cudaSuccess) return error;

  const int tiles = (merge.in + tile_columns - 1) / tile_columns,
            bands = (merge.out + tile_rows - 1) / tile_rows;
  const auto blocks = static_cast<unsigned>(tiles) * static_cast<unsigned>(bands);
  const Board board{workspace, merge.out};
  error = cudaMemsetAsync(workspace, 0, Board::size(merge.out) * sizeof *workspace, stream);
  if (error != cudaSuccess) return error;
  if (tiles <= resident * processors) {
    kernel<<<blocks, block_threads, 0, stream>>>(merge, board, Phase::one_pass);
    return cudaGetLastError();
  }
  kernel<<<blocks, block_threads, 0, stream>>>(merge, board, Phase::maxima);
  error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaMemsetAsync(board.ticket(), 0, sizeof *workspace, stream);
  if (error != cudaSuccess) return error;
  kernel<<<blocks, block_threads, 0, stream>>>(merge, board, Phase::levels);
  return cudaGetLastError();
}

}  // namespace a2edit::kernels
