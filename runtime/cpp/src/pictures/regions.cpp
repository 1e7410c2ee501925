#include "src/pictures/regions.hpp"

#include <algorithm>
#include <numeric>

namespace a2edit {

Bools at_least_half(const Pixels& mask) {
  Bools region(mask.height, mask.width, 1);
  std::transform(mask.data.begin(), mask.data.end(), region.data.begin(),
                 [](std::uint8_t value) { return static_cast<std::uint8_t>(value >= 128); });
  return region;
}

Pixels as_mask(const Bools& region) {
  Pixels mask(region.height, region.width, 1);
  std::transform(region.data.begin(), region.data.end(), mask.data.begin(),
                 [](std::uint8_t on) { return static_cast<std::uint8_t>(on ? 255 : 0); });
  return mask;
}

std::int64_t count(const Bools& region) {
  return std::accumulate(region.data.begin(), region.data.end(), std::int64_t{0});
}

Bools border(int height, int width) {
  Bools edge(height, width, 1);
  for (int y = 0; y < height; ++y) {
    const bool whole = y == 0 || y == height - 1;
    std::fill_n(edge.at(y, 0), whole ? width : 1, std::uint8_t{1});
    *edge.at(y, width - 1) = 1;
  }
  return edge;
}

namespace {

// How far the last pixel that was on is, as far as it matters.
int counted(bool on, int since, int far) { return on ? 0 : std::min(since + 1, far); }

Bools dilate_rows(const Bools& mask, int radius) {
  const int far = radius + 1;
  Bools out(mask.height, mask.width, 1);
  for (int y = 0; y < mask.height; ++y) {
    const std::uint8_t* in = mask.at(y, 0);
    std::uint8_t* to = out.at(y, 0);
    int since = far;
    for (int x = 0; x < mask.width; ++x) {
      since = counted(in[x], since, far);
      to[x] = since <= radius;
    }
    since = far;
    for (int x = mask.width - 1; x >= 0; --x) {
      since = counted(in[x], since, far);
      to[x] |= since <= radius;
    }
  }
  return out;
}

Bools dilate_columns(const Bools& mask, int radius) {
  const int far = radius + 1;
  Bools out(mask.height, mask.width, 1);
  std::vector<int> since(static_cast<std::size_t>(mask.width), far);
  const auto reach = [&](int y) {
    const std::uint8_t* in = mask.at(y, 0);
    std::uint8_t* to = out.at(y, 0);
    for (int x = 0; x < mask.width; ++x) {
      since[x] = counted(in[x], since[x], far);
      to[x] |= since[x] <= radius;
    }
  };
  for (int y = 0; y < mask.height; ++y) reach(y);
  std::fill(since.begin(), since.end(), far);
  for (int y = mask.height - 1; y >= 0; --y) reach(y);
  return out;
}

// Pixels next to each other in one row.
struct Run {
  int row;
  int start;
  int stop;
};

class Joined {
 public:
  explicit Joined(std::size_t count) : parents_(count) {
    std::iota(parents_.begin(), parents_.end(), std::size_t{0});
  }

  std::size_t root(std::size_t run) {
    while (parents_[run] != run) run = parents_[run] = parents_[parents_[run]];
    return run;
  }

  void join(std::size_t one, std::size_t other) { parents_[root(one)] = root(other); }

 private:
  std::vector<std::size_t> parents_;
};

std::vector<Run> runs_of(const Bools& free) {
  std::vector<Run> runs;
  for (int y = 0; y < free.height; ++y) {
    const std::uint8_t* row = free.at(y, 0);
    for (int x = 0; x < free.width;) {
      if (!row[x]) {
        ++x;
        continue;
      }
      const int start = x;
      while (x < free.width && row[x]) ++x;
      runs.push_back({y, start, x});
    }
  }
  return runs;
}

}  // namespace

Bools dilate(const Bools& mask, int radius) {
  return dilate_columns(dilate_rows(mask, radius), radius);
}

// Runs of free pixels along the rows are joined by union-find, so that the cost grows with the
// number of runs and not of pixels.
Bools flood(const Bools& free, const Bools& seeds) {
  const std::vector<Run> runs = runs_of(free);
  Joined joined(runs.size());
  std::size_t above = 0, below = 0;
  while (below < runs.size() && runs[below].row == runs[0].row) ++below;
  while (below < runs.size()) {
    const Run& upper = runs[above];
    const Run& lower = runs[below];
    if (upper.row + 1 < lower.row) {
      ++above;
    } else if (upper.row == lower.row) {
      ++below;
    } else {
      if (upper.start < lower.stop && lower.start < upper.stop) joined.join(above, below);
      ++(upper.stop < lower.stop ? above : below);
    }
  }

  std::vector<std::uint8_t> wanted(runs.size());
  for (std::size_t run = 0; run < runs.size(); ++run) {
    const std::uint8_t* row = seeds.at(runs[run].row, 0);
    const auto seeded = [](std::uint8_t seed) { return seed != 0; };
    if (std::any_of(row + runs[run].start, row + runs[run].stop, seeded))
      wanted[joined.root(run)] = 1;
  }
  Bools reached(free.height, free.width, 1);
  for (std::size_t run = 0; run < runs.size(); ++run) {
    if (!wanted[joined.root(run)]) continue;
    std::fill_n(reached.at(runs[run].row, runs[run].start), runs[run].stop - runs[run].start,
                std::uint8_t{1});
  }
  return reached;
}

}  // namespace a2edit
