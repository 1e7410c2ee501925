// One tile of a merge, in steps between which all threads of a block meet.
//
// merge_quantize.cuh runs the steps on a GPU. Any C++17 compiler takes this file: what differs
// between processors is in two policies, so that CI runs the same steps on a CPU.
//
//   Product  Element, the stored type; value(Element) → float; Sum, a 16 × 16 sum in fp32 that one
//            warp shares, with load, store, zero, multiply (Sum += high · low) and add
//            (Sum += w · Sum)
//   Memory   what blocks tell each other: next (a ticket), raise (a maximum), settled (its value),
//            and raise_local within a block
#pragma once

#include <cstddef>
#include <cstdint>

#include "encoding.cuh"

namespace a2edit::kernels {

constexpr int tile_rows = 64, tile_columns = 128;
constexpr int tile_depth = 16;  // ranks that are multiplied at once
constexpr int block_warps = 8, warp_lanes = 32, block_threads = block_warps * warp_lanes;
constexpr int sum_side = 16;
constexpr int warp_sums = tile_rows * tile_columns / (sum_side * sum_side * block_warps);
constexpr int lane_columns = tile_columns / warp_lanes;

// What to merge. Pointers are the device's; matrices are contiguous, rows first. Nothing is owned.
struct Merge {
  const void* base;      // W⁰ [out, in], never written
  const void* A;         // [experts, rank, in], of the base's type
  const void* B;         // [experts, out, rank], of the base's type
  const float* weights;  // w [experts]; 0 leaves an expert out
  const float* smooth;   // [in], factors of the columns; or null
  std::uint8_t* levels;  // [out, in], written: int8, or the bits of float8_e4m3fn
  void* scales;          // [out], written: float, or the bits of bfloat16
  int out, in, experts, rank;
  float scale;  // α / r
  Levels level_type;
  Scales scale_type;
};

// Words that blocks share, all zero at first: a ticket, a count a band of rows, a maximum a row.
struct Board {
  std::uint32_t* words;
  int out;

  A2EDIT_INLINE std::uint32_t* ticket() const { return words; }
  A2EDIT_INLINE std::uint32_t* count(int band) const { return words + 1 + band; }
  A2EDIT_INLINE std::uint32_t* maximum(int row) const {
    return words + 1 + (out + tile_rows - 1) / tile_rows + row;
  }
  // In words of 32 bits.
  static constexpr std::size_t size(int out) {
    return 1 + static_cast<std::size_t>((out + tile_rows - 1) / tile_rows) +
           static_cast<std::size_t>(out);
  }
};

// What the threads of a block share. Rows are padded, so that warps read other banks.
template <class Element>
struct Shared {
  alignas(32) float tile[tile_rows][tile_columns + 4];
  alignas(32) Element low[tile_depth][tile_columns + 8];
  alignas(32) Element high[tile_rows][tile_depth + 8];
  std::uint32_t maxima[tile_rows];
  float steps[tile_rows];
  int ticket;
};

template <class Product>
struct Sums {
  typename Product::Sum total[warp_sums], part[warp_sums];
};

template <class Product, class Memory>
struct Tile {
  using Element = typename Product::Element;
  const Merge& merge;
  Board board;
  Shared<Element>& shared;
  int tiles, band, row, column;  // tiles of a row; the first row and column of this one

  A2EDIT_INLINE static int across(int in) { return (in + tile_columns - 1) / tile_columns; }

  // Tiles are dealt in order, not by block: who waits, waits for tiles that have begun or are next.
  A2EDIT_INLINE static void draw(Board board, Shared<Element>& shared, int thread) {
    if (thread == 0) shared.ticket = static_cast<int>(Memory::next(board.ticket()));
  }

  A2EDIT_INLINE Tile(const Merge& m, Board b, Shared<Element>& s)
      : merge(m),
        board(b),
        shared(s),
        tiles(across(m.in)),
        band(s.ticket / tiles),
        row(band * tile_rows),
        column(s.ticket % tiles * tile_columns) {}

  A2EDIT_INLINE std::size_t at(int r, int c) const {
    return static_cast<std::size_t>(row + r) * static_cast<std::size_t>(merge.in) +
           static_cast<std::size_t>(column + c);
  }

  // How many of the lane_columns columns from `c` exist.
  A2EDIT_INLINE int run(int r, int c) const {
    if (row + r >= merge.out) return 0;
    const int left = merge.in - column - c;
    return left < 0 ? 0 : left < lane_columns ? left : lane_columns;
  }

  // Whether a run may be moved as one: rows begin where the first one does, and that is aligned.
  A2EDIT_INLINE bool whole(int count, const void* pointer, std::size_t bytes) const {
    return count == lane_columns && merge.in % lane_columns == 0 &&
           reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
  }

  // W⁰ into the tile, as fp32: it is read here, and nowhere else.
  A2EDIT_INLINE void read_base(int thread) const {
    struct alignas(lane_columns * sizeof(Element)) Run {
      Element values[lane_columns];
    };
    const auto* base = static_cast<const Element*>(merge.base);
    const int c = thread % warp_lanes * lane_columns;
    for (int r = thread / warp_lanes; r < tile_rows; r += block_warps) {
      const int count = run(r, c);
      if (whole(count, base, sizeof(Run))) {
        const Run values = *reinterpret_cast<const Run*>(base + at(r, c));
        for (int i = 0; i < lane_columns; ++i)
          shared.tile[r][c + i] = Product::value(values.values[i]);
      } else {
        for (int i = 0; i < lane_columns; ++i) {
          shared.tile[r][c + i] = i < count ? Product::value(base[at(r, c + i)]) : 0.0F;
        }
      }
    }
    if (thread < tile_rows) shared.maxima[thread] = 0;
  }

  // tile_depth ranks of one expert's factors; zeros past the edges.
  A2EDIT_INLINE void read_factors(int thread, int expert, int first) const {
    const auto* A = static_cast<const Element*>(merge.A);
    const auto* B = static_cast<const Element*>(merge.B);
    for (int i = thread; i < tile_depth * tile_columns; i += block_threads) {
      const int k = i / tile_columns, c = i % tile_columns;
      const bool inside = first + k < merge.rank && column + c < merge.in;
      const auto line = static_cast<std::size_t>(expert) * merge.rank + first + k;
      shared.low[k][c] = inside ? A[line * merge.in + column + c] : Element{};
    }
    for (int i = thread; i < tile_rows * tile_depth; i += block_threads) {
      const int r = i / tile_depth, k = i % tile_depth;
      const bool inside = row + r < merge.out && first + k < merge.rank;
      const auto line = static_cast<std::size_t>(expert) * merge.out + row + r;
      shared.high[r][k] = inside ? B[line * merge.rank + first + k] : Element{};
    }
  }

  A2EDIT_INLINE static int sums_row(int warp) { return warp % (tile_rows / sum_side) * sum_side; }
  A2EDIT_INLINE static int sums_column(int warp, int i) {
    return (warp / (tile_rows / sum_side) * warp_sums + i) * sum_side;
  }

  A2EDIT_INLINE void load(int warp, Sums<Product>& sums) const {
    for (int i = 0; i < warp_sums; ++i) {
      Product::load(sums.total[i], &shared.tile[sums_row(warp)][sums_column(warp, i)],
                    tile_columns + 4);
    }
  }

  A2EDIT_INLINE static void zero(Sums<Product>& sums) {
    for (int i = 0; i < warp_sums; ++i) Product::zero(sums.part[i]);
  }

  A2EDIT_INLINE void multiply(int warp, Sums<Product>& sums) const {
    for (int i = 0; i < warp_sums; ++i) {
      Product::multiply(sums.part[i], &shared.high[sums_row(warp)][0], tile_depth + 8,
                        &shared.low[0][sums_column(warp, i)], tile_columns + 8);
    }
  }

  A2EDIT_INLINE static void add(Sums<Product>& sums, float factor) {
    for (int i = 0; i < warp_sums; ++i) Product::add(sums.total[i], factor, sums.part[i]);
  }

  A2EDIT_INLINE void store(int warp, const Sums<Product>& sums) const {
    for (int i = 0; i < warp_sums; ++i) {
      Product::store(&shared.tile[sums_row(warp)][sums_column(warp, i)], sums.total[i],
                     tile_columns + 4);
    }
  }

  // The rows' largest magnitudes; of numbers that are not negative, larger bits are larger numbers.
  A2EDIT_INLINE void measure(int thread) const {
    const int c = thread % warp_lanes * lane_columns;
    for (int r = thread / warp_lanes; r < tile_rows; r += block_warps) {
      std::uint32_t largest = 0;
      for (int i = 0; i < run(r, c); ++i) {
        if (merge.smooth != nullptr) shared.tile[r][c + i] *= merge.smooth[column + c + i];
        const std::uint32_t size = bits_of(shared.tile[r][c + i]) & 0x7FFFFFFF;
        largest = largest < size ? size : largest;
      }
      Memory::raise_local(&shared.maxima[r], largest);
    }
  }

  A2EDIT_INLINE void tell(int thread) const {
    if (thread < tile_rows && row + thread < merge.out) {
      Memory::raise(board.maximum(row + thread), shared.maxima[thread]);
    }
  }

  // The rows' scales, when all of their tiles have told; the first tile of a row stores them.
  A2EDIT_INLINE void decide(int thread) const {
    if (thread >= tile_rows || row + thread >= merge.out) return;
    const float amax = float_of(Memory::settled(board.maximum(row + thread)));
    const float step = scale_of(amax, merge.level_type, merge.scale_type);
    shared.steps[thread] = step;
    if (column != 0) return;
    if (merge.scale_type == Scales::bfloat16) {
      static_cast<std::uint16_t*>(merge.scales)[row + thread] = bfloat16_bits(step);
    } else {
      static_cast<float*>(merge.scales)[row + thread] = step;
    }
  }

  A2EDIT_INLINE void quantise(int thread) const {
    struct alignas(lane_columns) Run {
      std::uint8_t values[lane_columns];
    };
    const int c = thread % warp_lanes * lane_columns;
    for (int r = thread / warp_lanes; r < tile_rows; r += block_warps) {
      const int count = run(r, c);
      Run found{};
      for (int i = 0; i < count; ++i) {
        found.values[i] = level_bits(shared.tile[r][c + i], shared.steps[r], merge.level_type);
      }
      if (whole(count, merge.levels, sizeof(Run))) {
        *reinterpret_cast<Run*>(merge.levels + at(r, c)) = found;
      } else {
        for (int i = 0; i < count; ++i) merge.levels[at(r, c + i)] = found.values[i];
      }
    }
  }
};

}  // namespace a2edit::kernels
