// A route's weights from the base and its experts, on demand (SPEC §3, runtime/merge.py).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/core/manifest.hpp"
#include "src/core/weight_set.hpp"

namespace a2edit {

// One routed linear: what it is merged from, and what the graph takes.
struct Linear {
  std::string name;
  int block = 0;
  Array base;                      // [out, in]
  Array base_scale;                // float32 [out], if the base has 8 bits; or empty
  Array A;                         // [N, r, in]
  Array B;                         // [N, out, r]
  Type type = Type::float32;       // of the graph's weight
  std::optional<Type> scale_type;  // of its scales, if it has 8 bits
  Array smooth;                    // float32 [in], if it has 8 bits and factors; or empty

  // "<name>.weight", and "<name>.scale" of 8 bits, for w [N], one row of a gate table, times α/r.
  Arrays merged(const float* row, float scale) const;
};

// Merges weight sets for one graph from weights/merge.safetensors, whose bytes never change.
//
// W⁰ + Σ_i w_i · scale · B_i A_i, accumulated in fp32, cast once, quantised last; only active experts
// are read. A base in int8 is widened first, level · scale of its row. Every merge starts from the
// pristine base, so a table always gives the same bytes,
// whatever was merged before and however many threads there are.
class RouteMerger {
 public:
  // Map `source` and compare it with `weights`, the routed weights of the dit graph. Throws a bundle
  // Error where the file is damaged or does not fit the graph.
  RouteMerger(const std::string& source, const MergeEntry& entry,
              const std::vector<TensorSpec>& weights);

  // The weight set `name` for a table R[L, N] in C order.
  WeightSet merge(const std::vector<float>& table, const std::string& name) const;

  // Leave the mapped source to the system's file cache, whence its pages come back when read.
  void rest() const { memory_->rest(); }

  // Throws a std::logic_error where a table has too few rows, or rows of another size.
  void check(const std::vector<float>& table) const;

  const std::vector<Linear>& linears() const { return linears_; }
  std::size_t blocks() const { return blocks_; }    // rows of a table that are read
  std::size_t experts() const { return experts_; }  // and their length
  float scale() const { return scale_; }
  std::size_t nbytes() const { return nbytes_; }

 private:
  std::shared_ptr<const Mapping> memory_;
  std::vector<Linear> linears_;
  float scale_;
  std::size_t blocks_ = 0;
  std::size_t experts_ = 0;
  std::size_t nbytes_ = 0;
};

}  // namespace a2edit
