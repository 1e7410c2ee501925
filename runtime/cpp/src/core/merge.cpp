#include "src/core/merge.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include "src/core/error.hpp"
#include "src/core/floats.hpp"
#include "src/core/parallel.hpp"
#include "src/core/product.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

float largest_level(Type type) { return type == Type::int8 ? 127.0F : 448.0F; }
bool has_levels(Type type) { return type == Type::int8 || type == Type::float8_e4m3fn; }

std::size_t side(const Array& array, std::size_t axis) {
  return static_cast<std::size_t>(array.shape()[axis]);
}

// Row by row of [out, in] float32: q = round(w / s), s = max|w_row| / (127 or 448), rounded to its
// type first. A row of zeros gets scale 1.
void quantise_row(std::vector<float>& row, const float* smooth, std::size_t place, Array& levels,
                  Array& scales) {
  if (smooth)
    for (std::size_t i = 0; i < row.size(); ++i) row[i] *= smooth[i];
  const auto [least, most] = std::minmax_element(row.begin(), row.end());
  const float largest = largest_level(levels.type());
  const float step = std::max(*most, -*least) / largest;
  narrow(&step, 1, scales, place);
  float scale = 0;
  widen(scales, place, 1, &scale);
  if (!(scale > 0)) {
    scale = 1;
    narrow(&scale, 1, scales, place);
  }
  for (float& value : row) value /= scale;
  if (levels.type() != Type::int8) return narrow(row.data(), row.size(), levels, place * row.size());
  auto* into = levels.writable<std::int8_t>() + place * row.size();
  for (std::size_t i = 0; i < row.size(); ++i)
    into[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(row[i]), -largest, largest));
}

Array stored(const Arrays& tensors, const std::string& name, bool levels = false) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail_bundle("it has no " + name);
  const Type type = found->second.type();
  const bool floats =
      type == Type::float32 || type == Type::float16 || type == Type::bfloat16;
  if (!floats && !(levels && type == Type::int8))
    fail_bundle(name + " is " + type_name(type) + "; it may be float32, float16, bfloat16" +
                (levels ? ", int8" : ""));
  return found->second;
}

// Of rows or columns, where there are any.
Array factors_of(const Arrays& tensors, const std::string& name, std::int64_t size) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) return {};
  const Array& factors = found->second;
  if (factors.type() != Type::float32 || factors.shape() != Shape{size})
    fail_bundle(name + " is " + type_name(factors.type()) + " " + list_text(factors.shape()) +
                "; it must be float32 [" + std::to_string(size) + "]");
  return factors;
}

// "<name>.base_scale" of a base in int8.
Array base_scale_of(const Arrays& tensors, const std::string& name, std::int64_t out) {
  Array scale = factors_of(tensors, name + ".base_scale", out);
  if (scale.empty()) fail_bundle(name + ".weight is int8, and it has no " + name + ".base_scale");
  return scale;
}

// The graph's weights that no linear has claimed yet, in the graph's order.
class Wanted {
 public:
  explicit Wanted(const std::vector<TensorSpec>& weights) : left_(weights) {}

  std::optional<TensorSpec> take(const std::string& name) {
    const auto found = std::find_if(left_.begin(), left_.end(),
                                    [&name](const TensorSpec& spec) { return spec.name == name; });
    if (found == left_.end()) return std::nullopt;
    TensorSpec spec = *found;
    left_.erase(found);
    return spec;
  }

  const std::vector<TensorSpec>& left() const { return left_; }

 private:
  std::vector<TensorSpec> left_;
};

Type scale_type_of(Wanted& wanted, const TensorSpec& weight, const std::string& name) {
  const std::optional<TensorSpec> scale = wanted.take(name + ".scale");
  if (!scale) fail_bundle("the graph takes no " + name + ".scale beside " + weight.text());
  if ((scale->type != Type::float32 && scale->type != Type::bfloat16) ||
      scale->shape != Shape{weight.shape.at(0)})
    fail_bundle("the graph takes " + scale->text() + "; beside " + weight.text() +
                " it must be float32 or bfloat16");
  return scale->type;
}

Linear linear_from(const Arrays& tensors, Wanted& wanted, const std::string& name, int block) {
  const std::optional<TensorSpec> spec = wanted.take(name + ".weight");
  if (!spec) fail_bundle("the graph takes no " + name + ".weight");
  Linear linear;
  linear.name = name;
  linear.block = block;
  linear.type = spec->type;
  if (has_levels(spec->type) && !spec->shape.empty())
    linear.scale_type = scale_type_of(wanted, *spec, name);
  linear.base = stored(tensors, name + ".weight", true);
  linear.A = stored(tensors, name + ".A");
  linear.B = stored(tensors, name + ".B");
  const Shape& low = linear.A.shape();
  const Shape& shape = spec->shape;
  const bool three = low.size() == 3 && low[0] > 0 && shape.size() == 2;
  if (!three || linear.base.shape() != shape || low[2] != shape[1] ||
      linear.B.shape() != Shape{low[0], shape[0], low[1]})
    fail_bundle(name + " has " + list_text(linear.base.shape()) + ", " + list_text(low) + ", " +
                list_text(linear.B.shape()) + " as weight, A and B; the graph takes " +
                spec->text());
  if (linear.base.type() == Type::int8)
    linear.base_scale = base_scale_of(tensors, name, shape[0]);
  if (spec->type == Type::int8) linear.smooth = factors_of(tensors, name + ".smooth", shape[1]);
  return linear;
}

std::vector<Linear> linears_from(const Arrays& tensors, const MergeEntry& entry,
                                 const std::vector<TensorSpec>& weights) {
  Wanted wanted(weights);
  std::vector<Linear> linears;
  std::set<std::int64_t> experts;
  for (const auto& [name, block] : entry.blocks) {
    linears.push_back(linear_from(tensors, wanted, name, block));
    experts.insert(linears.back().A.shape()[0]);
  }
  if (!wanted.left().empty())
    fail_bundle("the graph takes " + wanted.left().front().name + ", of which nothing is known");
  if (experts.size() != 1)
    fail_bundle("its linears have different numbers of experts, or there are none");
  return linears;
}

// The active experts' A times w · scale, one below the other: [k, in]; and their B beside each
// other, for the rows of one band: [out, k].
struct Factors {
  std::vector<std::size_t> active;
  std::size_t depth = 0;
  std::vector<float> low;

  Factors(const Linear& linear, const float* row, float scale) {
    const std::size_t experts = side(linear.A, 0), rank = side(linear.A, 1);
    const std::size_t inner = side(linear.A, 2);
    for (std::size_t expert = 0; expert < experts; ++expert)
      if (row[expert] != 0) active.push_back(expert);
    depth = active.size() * rank;
    low.resize(depth * inner);
    for (std::size_t place = 0; place < active.size(); ++place) {
      const std::size_t size = rank * inner;
      float* const part = low.data() + place * size;
      widen(linear.A, active[place] * size, size, part);
      const float factor = row[active[place]] * scale;
      for (std::size_t i = 0; i < size; ++i) part[i] *= factor;
    }
  }

  void high(const Linear& linear, std::size_t out_row, float* into) const {
    const std::size_t rank = side(linear.B, 2), rows = side(linear.B, 1);
    for (std::size_t place = 0; place < active.size(); ++place)
      widen(linear.B, (active[place] * rows + out_row) * rank, rank, into + place * rank);
  }
};

// A row of the base in fp32; of one in int8, level · scale.
void widen_base(const Linear& linear, std::size_t row, std::vector<float>& values) {
  widen(linear.base, row * values.size(), values.size(), values.data());
  if (linear.base_scale.empty()) return;
  float scale = 0;
  widen(linear.base_scale, row, 1, &scale);
  for (float& value : values) value *= scale;
}

// Rows that are merged at once: enough to use every register, little enough to stay in the cache.
constexpr std::size_t band = 16;

}  // namespace

Arrays Linear::merged(const float* row, float scale) const {
  const std::size_t out = side(base, 0), inner = side(base, 1);
  const Factors factors(*this, row, scale);
  Array weight(type, base.shape()), scales(scale_type.value_or(Type::float32), {base.shape()[0]});
  std::vector<float> high(band * factors.depth), sums(band * inner), values(inner);
  std::vector<float> smoothing(smooth.empty() ? 0 : inner);
  if (!smooth.empty()) widen(smooth, 0, inner, smoothing.data());
  for (std::size_t first = 0; first < out; first += band) {
    const std::size_t rows = std::min(band, out - first);
    for (std::size_t i = 0; i < rows; ++i)
      factors.high(*this, first + i, high.data() + i * factors.depth);
    if (factors.depth) fused_product(high.data(), factors.low.data(), sums.data(), rows, inner,
                                     factors.depth);
    for (std::size_t i = 0; i < rows; ++i) {
      widen_base(*this, first + i, values);
      if (factors.depth)  // adding zeros would turn −0 into +0
        for (std::size_t j = 0; j < inner; ++j) values[j] = sums[i * inner + j] + values[j];
      if (scale_type) {
        quantise_row(values, smooth.empty() ? nullptr : smoothing.data(), first + i, weight,
                     scales);
      } else {
        narrow(values.data(), inner, weight, (first + i) * inner);
      }
    }
  }
  Arrays tensors{{name + ".weight", std::move(weight)}};
  if (scale_type) tensors[name + ".scale"] = std::move(scales);
  return tensors;
}

RouteMerger::RouteMerger(const std::string& source, const MergeEntry& entry,
                         const std::vector<TensorSpec>& weights)
    : scale_(static_cast<float>(entry.scale)) {
  MappedTensors mapped = map_tensors(source);
  memory_ = mapped.memory;
  try {
    linears_ = linears_from(mapped.tensors, entry, weights);
  } catch (const Error& error) {
    fail_bundle(repr(source) + " cannot be merged from (" + error.what() + "): " + rebuild);
  }
  experts_ = side(linears_.front().A, 0);
  for (const Linear& linear : linears_)
    blocks_ = std::max(blocks_, static_cast<std::size_t>(linear.block) + 1);
  for (const TensorSpec& spec : weights) nbytes_ += spec.nbytes();
}

void RouteMerger::check(const std::vector<float>& table) const {
  if (table.size() < blocks_ * experts_ || table.size() % experts_ != 0)
    throw std::logic_error("a table is [" + std::to_string(blocks_) + ", " +
                           std::to_string(experts_) + "], got " + std::to_string(table.size()) +
                           " weights");
}

WeightSet RouteMerger::merge(const std::vector<float>& table, const std::string& name) const {
  check(table);
  std::vector<Arrays> merged(linears_.size());
  in_parallel(linears_.size(), [&](std::size_t place) {
    const Linear& linear = linears_[place];
    const float* row = table.data() + static_cast<std::size_t>(linear.block) * experts_;
    merged[place] = linear.merged(row, scale_);
  });
  WeightSet weights{name, {}, nullptr};
  for (Arrays& tensors : merged) weights.tensors.merge(tensors);
  return weights;
}

}  // namespace a2edit
