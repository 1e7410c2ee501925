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
constexpr int tile_depth = 32;  // ranks that lie in shared memory at once
constexpr int block_warps = 8, warp_lanes = 32, block_threads = block_warps * warp_lanes;
constexpr int sum_side = 16;  // rows, columns and ranks of one product
constexpr int warp_sums = tile_rows * tile_columns / (sum_side * sum_side * block_warps);
constexpr int lane_columns = tile_columns / warp_lanes;
constexpr int run_length = 8;  // of factors, in one load
constexpr int low_runs = tile_depth * tile_columns / run_length / block_threads;  // of a thread
static_assert(tile_rows * tile_depth / run_length == block_threads, "a run of B for each thread");

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

// Values that lie side by side; where they are aligned, and all there, they are moved as one.
template <class Value, int count>
struct alignas(count * sizeof(Value)) Run {
  Value values[count];

  A2EDIT_INLINE static bool whole(const Value* at, int there) {
    return there == count && reinterpret_cast<std::uintptr_t>(at) % sizeof(Run) == 0;
  }

  // The first `there`, and zeros for the others.
  A2EDIT_INLINE static Run read(const Value* at, int there) {
    if (whole(at, there)) return *reinterpret_cast<const Run*>(at);
    Run run{};
    for (int i = 0; i < count; ++i) {
      if (i < there) run.values[i] = at[i];
    }
    return run;
  }

  A2EDIT_INLINE void write(Value* at, int there) const {
    if (whole(at, there)) {
      *reinterpret_cast<Run*>(at) = *this;
    } else {
      for (int i = 0; i < there; ++i) at[i] = values[i];
    }
  }
};

// A warp's part of the tile: sums side by side.
template <class Product>
struct Sums {
  typename Product::Sum at[warp_sums];
};

// Ranks `first` and on of an expert; past the last expert there is nothing left to add.
struct Turn {
  int expert, first;
};

// What one thread has read of the factors of a turn, on its way to shared memory.
template <class Element>
struct Factors {
  Run<Element, run_length> low[low_runs], high;
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

  // How many of `most` columns from `c` exist in row r.
  A2EDIT_INLINE int there(int r, int c, int most) const {
    return row + r < merge.out ? limited(merge.in - column - c, most) : 0;
  }
  A2EDIT_INLINE static int limited(int left, int most) {
    return left < 0 ? 0 : left < most ? left : most;
  }

  // W⁰ into the tile, as fp32: it is read here, and nowhere else.
  A2EDIT_INLINE void read_base(int thread) const {
    const auto* base = static_cast<const Element*>(merge.base);
    const int c = thread % warp_lanes * lane_columns;
    for (int r = thread / warp_lanes; r < tile_rows; r += block_warps) {
      const int count = there(r, c, lane_columns);
      const auto run = Run<Element, lane_columns>::read(base + (count ? at(r, c) : 0), count);
      for (int i = 0; i < lane_columns; ++i) {
        shared.tile[r][c + i] = i < count ? Product::value(run.values[i]) : 0.0F;
      }
    }
    if (thread < tile_rows) shared.maxima[thread] = 0;
  }

  // The turn itself, or the next with an expert that takes part: 0 · ∞ would spoil the sum.
  A2EDIT_INLINE Turn active(Turn turn) const {
    if (turn.first >= merge.rank) turn = {turn.expert + 1, 0};
    while (turn.expert < merge.experts && merge.weights[turn.expert] == 0.0F) ++turn.expert;
    return turn;
  }

  A2EDIT_INLINE bool left(Turn turn) const { return turn.expert < merge.experts; }

  A2EDIT_INLINE static Turn after(Turn turn) { return {turn.expert, turn.first + tile_depth}; }

  // Begin to read: values are on their way while the last turn's are multiplied.
  A2EDIT_INLINE void fetch(int thread, Turn turn, Factors<Element>& factors) const {
    using Part = Run<Element, run_length>;
    const auto* A = static_cast<const Element*>(merge.A);
    const auto* B = static_cast<const Element*>(merge.B);
    const auto expert = static_cast<std::size_t>(turn.expert);
    for (int i = 0; i < low_runs; ++i) {
      const int k = low_rank(thread, i), c = low_column(thread);
      const int count =
          turn.first + k < merge.rank ? limited(merge.in - column - c, run_length) : 0;
      const auto line = expert * merge.rank + turn.first + k;
      factors.low[i] = Part::read(A + (count ? line * merge.in + column + c : 0), count);
    }
    const int r = high_row(thread), k = high_rank(thread);
    const int count = row + r < merge.out ? limited(merge.rank - turn.first - k, run_length) : 0;
    const auto line = expert * merge.out + row + r;
    factors.high = Part::read(B + (count ? line * merge.rank + turn.first + k : 0), count);
  }

  A2EDIT_INLINE void put(int thread, const Factors<Element>& factors) const {
    for (int i = 0; i < low_runs; ++i) {
      factors.low[i].write(&shared.low[low_rank(thread, i)][low_column(thread)], run_length);
    }
    factors.high.write(&shared.high[high_row(thread)][high_rank(thread)], run_length);
  }

  A2EDIT_INLINE static int low_rank(int thread, int i) {
    return (thread + i * block_threads) / (tile_columns / run_length);
  }
  A2EDIT_INLINE static int low_column(int thread) {
    return thread % (tile_columns / run_length) * run_length;
  }
  A2EDIT_INLINE static int high_row(int thread) { return thread / (tile_depth / run_length); }
  A2EDIT_INLINE static int high_rank(int thread) {
    return thread % (tile_depth / run_length) * run_length;
  }

  A2EDIT_INLINE static int sums_row(int warp) { return warp % (tile_rows / sum_side) * sum_side; }
  A2EDIT_INLINE static int sums_column(int warp, int i) {
    return (warp / (tile_rows / sum_side) * warp_sums + i) * sum_side;
  }

  A2EDIT_INLINE void load(int warp, Sums<Product>& sums) const {
    for (int i = 0; i < warp_sums; ++i) {
      Product::load(sums.at[i], &shared.tile[sums_row(warp)][sums_column(warp, i)],
                    tile_columns + 4);
    }
  }

  // Products of bfloat16 or half are exact in fp32, and so is the weight of their sum.
  A2EDIT_INLINE void multiply(int warp, Turn turn, Sums<Product>& sums) const {
    const float factor = merge.weights[turn.expert] * merge.scale;
    for (int i = 0; i < warp_sums; ++i) {
      typename Product::Sum part;
      Product::zero(part);
      for (int k = 0; k < tile_depth && turn.first + k < merge.rank; k += sum_side) {
        Product::multiply(part, &shared.high[sums_row(warp)][k], tile_depth + 8,
                          &shared.low[k][sums_column(warp, i)], tile_columns + 8);
      }
      Product::add(sums.at[i], factor, part);
    }
  }

  A2EDIT_INLINE void store(int warp, const Sums<Product>& sums) const {
    for (int i = 0; i < warp_sums; ++i) {
      Product::store(&shared.tile[sums_row(warp)][sums_column(warp, i)], sums.at[i],
                     tile_columns + 4);
    }
  }

  // The rows' largest magnitudes; of numbers that are not negative, larger bits are larger numbers.
  A2EDIT_INLINE void measure(int thread) const {
    const int c = thread % warp_lanes * lane_columns;
    for (int r = thread / warp_lanes; r < tile_rows; r += block_warps) {
      std::uint32_t largest = 0;
      for (int i = 0; i < there(r, c, lane_columns); ++i) {
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
    const int c = thread % warp_lanes * lane_columns;
    for (int r = thread / warp_lanes; r < tile_rows; r += block_warps) {
      const int count = there(r, c, lane_columns);
      Run<std::uint8_t, lane_columns> run{};
      for (int i = 0; i < count; ++i) {
        run.values[i] = level_bits(shared.tile[r][c + i], shared.steps[r], merge.level_type);
      }
      if (count) run.write(merge.levels + at(r, c), count);
    }
  }
};

}  // namespace a2edit::kernels
