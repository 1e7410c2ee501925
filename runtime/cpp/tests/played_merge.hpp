// A bundle's file to merge from and its kernels, whose work is done at the addresses of their
// arguments by the processor's own merge.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "src/core/floats.hpp"
#include "src/core/json.hpp"
#include "src/core/merge.hpp"
#include "tests/host_cuda.hpp"

namespace a2edit::fake {

// A folder of its own, gone with the object.
struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "a2edit-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file(const std::string& name) const { return path + "/" + name; }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(file(name), std::ios::binary) << bytes;
  }

  std::string path;
};

constexpr std::int64_t experts = 3, rank = 5;

struct Side {
  const char* name;
  int block;
  std::int64_t out, inner;
};
constexpr Side sides[] = {{"a", 0, 70, 48}, {"b", 1, 33, 300}};

// Small whole numbers, whose sums are exact in any order; or powers of two.
inline std::vector<float> whole(std::uint32_t seed, const Shape& shape, bool powers = false) {
  std::vector<float> values(item_count(shape));
  for (float& value : values) {
    seed = seed * 1664525U + 1013904223U;
    const int number = static_cast<int>((seed >> 16) % 9) - 4;
    value = powers ? std::ldexp(1.0F, number) : static_cast<float>(number);
  }
  return values;
}

inline Array array_of(Type type, const Shape& shape, const std::vector<float>& values) {
  Array array(type, shape);
  if (type != Type::int8) {
    narrow(values.data(), values.size(), array, 0);
    return array;
  }
  auto* levels = array.writable<std::int8_t>();
  for (const float value : values) *levels++ = static_cast<std::int8_t>(value);
  return array;
}

// Writes "merge.safetensors", of bases and factors in `stored`; of int8, factors in bfloat16. `high`
// is another type for B.
inline MergeEntry write_source(const Folder& folder, Type stored, bool smooth,
                               std::optional<Type> high = std::nullopt) {
  MergeEntry entry{"merge.safetensors", 0.5, {}};
  const Type factors = stored == Type::int8 ? Type::bfloat16 : stored;
  const std::map<Type, const char*> names = {
      {Type::float32, "F32"}, {Type::float16, "F16"}, {Type::bfloat16, "BF16"}, {Type::int8, "I8"}};
  Json header = Json::object();
  std::string data;
  std::uint32_t seed = 0;
  const auto add = [&](const std::string& name, Type type, const Shape& shape, bool powers) {
    const Array array = array_of(type, shape, whole(++seed, shape, powers));
    header[name] = {{"dtype", names.at(type)},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + array.nbytes()}}};
    data.append(array.as<char>(), array.nbytes());
  };
  for (const auto& [name, block, out, inner] : sides) {
    const std::string own = name;
    entry.blocks.add(own, block);
    add(own + ".weight", stored, {out, inner}, false);
    if (stored == Type::int8) add(own + ".base_scale", Type::float32, {out}, true);
    add(own + ".A", factors, {experts, rank, inner}, false);
    add(own + ".B", high.value_or(factors), {experts, out, rank}, false);
    if (smooth) add(own + ".smooth", Type::float32, {inner}, true);
  }
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  std::string prefix(sizeof size, '\0');
  std::memcpy(prefix.data(), &size, sizeof size);
  folder.write(entry.file, prefix + text + data);
  return entry;
}

inline bool eight_bits(Type type) { return type == Type::int8 || type == Type::float8_e4m3fn; }

inline std::vector<TensorSpec> weights_of(Type type, Type scale = Type::bfloat16) {
  std::vector<TensorSpec> weights;
  for (const auto& [name, block, out, inner] : sides) {
    weights.push_back({std::string(name) + ".weight", type, {out, inner}});
    if (eight_bits(type)) weights.push_back({std::string(name) + ".scale", scale, {out}});
  }
  return weights;
}

// Entries, and files that stand for their cubins.
inline std::vector<MergeKernelEntry> kernels_of(const Folder& folder, Type base, Type weight,
                                                bool smooth, Type scale = Type::bfloat16) {
  std::vector<MergeKernelEntry> kernels;
  std::vector<std::string> phases = {"one_pass", "maxima", "levels"};
  if (!eight_bits(weight)) phases = {"cast"};
  for (const std::string& phase : phases) {
    MergeKernelEntry& entry = kernels.emplace_back();
    entry.file = phase + ".cubin";
    entry.symbol = "merge_" + phase;
    entry.phase = phase;
    entry.base = type_name(base);
    entry.factors = type_name(base == Type::int8 ? Type::bfloat16 : base);
    entry.weight = type_name(weight);
    entry.scale = eight_bits(weight) ? type_name(scale) : "";
    entry.smooth = smooth;
    entry.threads = 128;
    entry.rows = 64;
    entry.columns = 128;
    entry.scratch = 2;
    folder.write(entry.file, entry.symbol);
  }
  return kernels;
}

using Bytes = std::map<std::string, std::string>;

// Of every tensor, wherever it lies.
inline Bytes bytes_of(const WeightSet& weights) {
  Bytes found;
  for (const auto& [name, tensor] : weights.placed)
    found[name].assign(static_cast<const char*>(tensor.address.get()),
                       byte_count(tensor.type, tensor.shape));
  for (const auto& [name, array] : weights.tensors)
    found[name].assign(array.as<char>(), array.nbytes());
  return found;
}

// Does the work of those kernels on a CUDA of host memory.
class PlayedMerge {
 public:
  PlayedMerge(HostCuda& cuda, const std::vector<MergeKernelEntry>& kernels) : cuda_(cuda) {
    for (const MergeKernelEntry& entry : kernels) entries_[entry.symbol] = entry;
    cuda.play = [this](const std::string& symbol, unsigned blocks,
                       const std::vector<void*>& arguments) {
      work(entries_.at(symbol), blocks, arguments);
    };
  }

 private:
  static Type type(const std::string& name) {
    Type found = Type::float32;
    REQUIRE(type_from(name, found));
    return found;
  }

  void work(const MergeKernelEntry& entry, unsigned blocks, const std::vector<void*>& arguments) {
    constexpr std::size_t pointers = 9, known = 12;
    REQUIRE(arguments.size() == known + static_cast<std::size_t>(entry.scratch));
    for (std::size_t place = known; place < arguments.size(); ++place)
      CHECK(*static_cast<void**>(arguments[place]) == nullptr);
    void* at[pointers];
    for (std::size_t place = 0; place < pointers; ++place) {
      at[place] = *static_cast<void**>(arguments[place]);
      CHECK(reinterpret_cast<std::uintptr_t>(at[place]) % 16 == 0);
      CHECK(cuda_.there(at[place]) > 0);
    }
    const std::int64_t out = *static_cast<std::int32_t*>(arguments[9]);
    const std::int64_t inner = *static_cast<std::int32_t*>(arguments[10]);
    const float scale = *static_cast<float*>(arguments[11]);
    const auto array = [&](std::size_t place, Type kind, Shape shape) {
      CHECK(cuda_.there(at[place]) >= byte_count(kind, shape));
      return Array(kind, std::move(shape), at[place], nullptr);
    };
    Linear linear;
    linear.base = array(0, type(entry.base), {out, inner});
    if (entry.base == "int8") linear.base_scale = array(1, Type::float32, {out});
    linear.A = array(2, type(entry.factors), {experts, rank, inner});
    linear.B = array(3, type(entry.factors), {experts, out, rank});
    if (entry.smooth) linear.smooth = array(5, Type::float32, {inner});
    linear.type = type(entry.weight);
    if (!entry.scale.empty()) linear.scale_type = type(entry.scale);
    const auto* row = static_cast<const float*>(at[4]);

    const std::int64_t bands = (out + entry.rows - 1) / entry.rows;
    CHECK(blocks == bands * ((inner + entry.columns - 1) / entry.columns));
    CHECK(cuda_.there(at[8]) >= 4 * static_cast<std::size_t>(1 + bands + out));
    auto* words = static_cast<std::int32_t*>(at[8]);
    const std::int64_t clean = entry.phase == "levels" ? 1 : 1 + bands + out;
    CHECK(std::all_of(words, words + clean, [](std::int32_t one) { return one == 0; }));
    words[0] = static_cast<std::int32_t>(blocks);
    const std::vector<float> largest = maxima(linear, row, scale);
    const std::size_t bytes = largest.size() * sizeof(float);
    if (entry.phase == "maxima") {
      std::memcpy(words + 1 + bands, largest.data(), bytes);
      return;
    }
    if (entry.phase == "levels") CHECK(std::memcmp(words + 1 + bands, largest.data(), bytes) == 0);
    for (const auto& [name, merged] : linear.merged(row, scale)) {
      void* const to = at[name == ".weight" ? 6 : 7];
      CHECK(cuda_.there(to) >= merged.nbytes());
      std::memcpy(to, merged.data(), merged.nbytes());
    }
  }

  static std::vector<float> maxima(Linear linear, const float* row, float scale) {
    linear.type = Type::float32;
    linear.scale_type = std::nullopt;
    const Array merged = linear.merged(row, scale).at(".weight");
    const std::size_t inner = static_cast<std::size_t>(merged.shape()[1]);
    std::vector<float> largest(static_cast<std::size_t>(merged.shape()[0]));
    for (std::size_t place = 0; place < largest.size() * inner; ++place) {
      float value = std::fabs(merged.as<float>()[place]);
      if (!linear.smooth.empty()) value *= linear.smooth.as<float>()[place % inner];
      largest[place / inner] = std::max(largest[place / inner], value);
    }
    return largest;
  }

  HostCuda& cuda_;
  std::map<std::string, MergeKernelEntry> entries_;
};

}  // namespace a2edit::fake
