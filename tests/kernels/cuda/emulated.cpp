// The steps of a tile as a GPU would take them, on a CPU: threads of a block one after the other,
// blocks in threads of the system, of which as many run at once as a GPU would have room for.
#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "merge_tile.cuh"

using namespace a2edit::kernels;

namespace {

struct Loops {
  using Element = std::uint16_t;  // the bits of bfloat16
  struct Sum {
    float x[sum_side][sum_side];
  };
  static float value(Element x) { return float_of(static_cast<std::uint32_t>(x) << 16); }
  static void load(Sum& sum, const float* from, int stride) {
    for (int r = 0; r < sum_side; ++r) std::copy_n(from + r * stride, sum_side, sum.x[r]);
  }
  static void store(float* to, const Sum& sum, int stride) {
    for (int r = 0; r < sum_side; ++r) std::copy_n(sum.x[r], sum_side, to + r * stride);
  }
  static void zero(Sum& sum) { sum = {}; }
  static void multiply(Sum& sum, const Element* high, int high_stride, const Element* low,
                       int low_stride) {
    for (int r = 0; r < sum_side; ++r)
      for (int k = 0; k < sum_side; ++k)
        for (int c = 0; c < sum_side; ++c)
          sum.x[r][c] += value(high[r * high_stride + k]) * value(low[k * low_stride + c]);
  }
  static void add(Sum& sum, float factor, const Sum& part) {
    for (int r = 0; r < sum_side; ++r)
      for (int c = 0; c < sum_side; ++c) sum.x[r][c] += factor * part.x[r][c];
  }
};

struct HostMemory {
  static std::uint32_t next(std::uint32_t* ticket) {
    return __atomic_fetch_add(ticket, 1U, __ATOMIC_RELAXED);
  }
  static void raise(std::uint32_t* most, std::uint32_t value) {
    std::uint32_t seen = __atomic_load_n(most, __ATOMIC_RELAXED);
    while (seen < value && !__atomic_compare_exchange_n(most, &seen, value, false, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED)) {
    }
  }
  static void raise_local(std::uint32_t* most, std::uint32_t value) {
    *most = std::max(*most, value);
  }
  static std::uint32_t settled(const std::uint32_t* most) {
    return __atomic_load_n(most, __ATOMIC_RELAXED);
  }
  static void meet(std::uint32_t* count, std::uint32_t all) {
    __atomic_fetch_add(count, 1U, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < all) std::this_thread::yield();
  }
};

using Step = Tile<Loops, HostMemory>;

template <class Do>
void all(int count, Do step) {
  for (int i = 0; i < count; ++i) step(i);
}

void block(const Merge& merge, Board board) {
  const auto shared = std::make_unique<Shared<Loops::Element>>();
  std::vector<Sums<Loops>> sums(block_warps);
  Step::draw(board, *shared, 0);
  const Step tile(merge, board, *shared);
  std::vector<Factors<Loops::Element>> factors(block_threads);
  const auto fetch = [&](Turn turn) {
    all(block_threads, [&](int t) { tile.fetch(t, turn, factors[t]); });
  };
  Turn turn = tile.active({0, 0});
  if (tile.left(turn)) fetch(turn);
  all(block_threads, [&](int t) { tile.read_base(t); });
  all(block_warps, [&](int w) { tile.load(w, sums[w]); });
  while (tile.left(turn)) {
    all(block_threads, [&](int t) { tile.put(t, factors[t]); });
    const Turn next = tile.active(Step::after(turn));
    if (tile.left(next)) fetch(next);
    all(block_warps, [&](int w) { tile.multiply(w, turn, sums[w]); });
    turn = next;
  }
  all(block_warps, [&](int w) { tile.store(w, sums[w]); });
  all(block_threads, [&](int t) { tile.measure(t); });
  all(block_threads, [&](int t) { tile.tell(t); });
  HostMemory::meet(board.count(tile.band), static_cast<std::uint32_t>(tile.tiles));
  all(block_threads, [&](int t) { tile.decide(t); });
  all(block_threads, [&](int t) { tile.quantise(t); });
}

}  // namespace

extern "C" std::uint64_t workspace_words(int out) { return Board::size(out); }

// Levels of n values in every type, with a scale of 1, and the values' bfloat16.
extern "C" void encode(const float* values, int n, std::uint8_t* e4m3, std::uint8_t* int8,
                       std::uint16_t* bfloat16) {
  for (int i = 0; i < n; ++i) {
    e4m3[i] = level_bits(values[i], 1.0F, Levels::e4m3);
    int8[i] = level_bits(values[i], 1.0F, Levels::int8);
    bfloat16[i] = bfloat16_bits(values[i]);
  }
}

// The merge, with room for `resident` blocks at once.
extern "C" void merge(const Merge* merge, std::uint32_t* workspace, int resident) {
  const Board board{workspace, merge->out};
  std::fill_n(workspace, Board::size(merge->out), 0U);
  const int blocks = Step::across(merge->in) * ((merge->out + tile_rows - 1) / tile_rows);
  std::atomic<int> begun{0};
  std::vector<std::thread> room;
  for (int i = 0; i < resident; ++i) {
    room.emplace_back([&] {
      while (begun.fetch_add(1) < blocks) block(*merge, board);
    });
  }
  for (std::thread& one : room) one.join();
}
