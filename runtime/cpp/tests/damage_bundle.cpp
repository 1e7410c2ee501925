// a2edit_damage_bundle BUNDLE COUNT SEED: reads COUNT damaged copies of a bundle's manifest, COUNT of
// its merge file and COUNT of a weight set. The files of weights are cut to their smallest tensors
// first, so that thousands take minutes. Each copy is read and used, or refused by an error that is
// no bug of ours; anything else ends the process. Prints how many came of each, and seconds.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "src/core/bundle.hpp"
#include "src/core/error.hpp"
#include "src/core/merge.hpp"
#include "src/core/paths.hpp"
#include "src/core/routing.hpp"
#include "tests/damage.hpp"

using namespace a2edit;
using namespace a2edit::damage;

namespace {

// A folder of this process, gone at the end.
struct Scratch {
  std::string path;

  Scratch()
      : path((std::filesystem::temp_directory_path() /
              ("a2edit_damage_bundle." + std::to_string(getpid())))
                 .string()) {
    std::filesystem::create_directories(path);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

Bytes bytes_from(const std::string& text) { return {text.begin(), text.end()}; }

// One value somewhere in a document: removed, doubled, or another one.
void change_value(Json& content, Damage& random) {
  Json* place = &content;
  while (true) {
    auto item = place->begin();
    std::advance(item, random.below(place->size()));
    if (!item->is_structured() || item->empty() || random.below(6) == 0) {
      switch (random.below(4)) {
        case 0:
          place->erase(item);
          return;
        case 1:
          if (place->is_array())
            place->push_back(Json(*item));
          else
            (*place)[item.key() + "'"] = Json(*item);
          return;
        default: {
          static const Json others = Json::parse(
              R"([null, true, 0, -1, 1, 7, 2147483648, -9223372036854775808, 18446744073709551615,
                  0.5, -0.0, 1e308, 5e-324, "", "x", "../x", "/", "fp32", "dit", "\u0000é", [], {},
                  [1], [[1]], {"": 0}, [-1, 3], [4611686018427387904, 4]])");
          *item = others[static_cast<std::size_t>(random.below(others.size()))];
          return;
        }
      }
    }
    place = &*item;
  }
}

// With the hash that fits, as it was written by one who knows how; or as it is where it is no JSON.
Bytes sealed(const Bytes& bytes) {
  try {
    Json content = json_from(std::string(bytes.begin(), bytes.end()));
    if (!content.is_object()) return bytes;
    content["bundle_hash"] = canonical_hash(content);
    return bytes_from(file_bytes(content));
  } catch (const std::invalid_argument&) {
    return bytes;
  }
}

// A third with bytes changed, a third of these with a hash that fits again, a third with other values.
Bytes damaged_manifest(const Bytes& whole, int copy, Damage& random) {
  if (copy % 3 == 0) return random(whole);
  if (copy % 3 == 1) return sealed(random(whole));
  Json content = json_from(std::string(whole.begin(), whole.end()));
  for (int times = 1 + random.below(2); times > 0; --times) change_value(content, random);
  return sealed(bytes_from(content.dump()));
}

// Every byte of every tensor, which is how one out of bounds is noticed.
void read_all(const Arrays& tensors) {
  volatile unsigned seen = 0;
  for (const auto& [name, array] : tensors) {
    const auto* bytes = static_cast<const unsigned char*>(array.data());
    for (std::size_t at = 0; at < array.nbytes(); ++at) seen = seen ^ bytes[at];
  }
}

// What an edit asks of a manifest before an engine runs: a plan for the gate's table.
void plan_with(const Manifest& manifest) {
  const WeightSource source = {[](const RoutePlan& plan) { return WeightSet{plan.route, {}, {}}; }, 1};
  RouteStore store(manifest, source, source, {});
  const auto size = static_cast<std::size_t>(manifest.model.blocks) *
                    static_cast<std::size_t>(manifest.model.experts);
  std::vector<float> table(size, 0.25F);
  store.supply(store.plan(table));
  store.ranked(table);
}

// The tensors of a safetensors file whose names `keep` takes, as a file of their own.
template <class Keep>
Bytes excerpt(const std::string& path, Keep keep) {
  const Bytes whole = bytes_of(path);
  std::size_t length = 0;
  for (std::size_t byte = 8; byte-- > 0;) length = length << 8U | whole.at(byte);
  const auto start = whole.begin() + 8;
  const auto data = start + static_cast<std::ptrdiff_t>(length);
  Json header = Json::object();
  Bytes tensors;
  const Json whole_header = json_from(std::string(start, data));
  for (const auto& [name, entry] : whole_header.items()) {
    if (name == "__metadata__" || !keep(name)) continue;
    const std::size_t first = tensors.size();
    tensors.insert(tensors.end(), data + entry["data_offsets"][0].template get<std::ptrdiff_t>(),
                   data + entry["data_offsets"][1].template get<std::ptrdiff_t>());
    header[name] = entry;
    header[name]["data_offsets"] = {first, tensors.size()};
  }
  Bytes text = bytes_from(header.dump());
  text.resize((text.size() + 7) / 8 * 8, ' ');
  Bytes file(8);
  for (std::size_t byte = 0; byte < 8; ++byte)
    file[byte] = static_cast<std::uint8_t>(text.size() >> 8U * byte);
  file.insert(file.end(), text.begin(), text.end());
  file.insert(file.end(), tensors.begin(), tensors.end());
  return file;
}

// The two smallest of the linears that are merged, and what the denoiser takes of them.
struct Merging {
  MergeEntry entry;
  std::vector<TensorSpec> weights;

  explicit Merging(const Manifest& manifest) {
    const std::vector<TensorSpec>& all = manifest.graphs.find("dit")->begin()->second.weights;
    const auto nbytes = [&all](const std::string& linear) {
      for (const TensorSpec& spec : all)
        if (spec.name == linear + ".weight") return spec.nbytes();
      return std::size_t{0};
    };
    std::vector<Table<int>::Item> linears(manifest.merge->blocks.begin(),
                                          manifest.merge->blocks.end());
    std::stable_sort(linears.begin(), linears.end(), [&](const auto& one, const auto& other) {
      return nbytes(one.first) < nbytes(other.first);
    });
    linears.resize(std::min<std::size_t>(linears.size(), 2));
    entry.scale = manifest.merge->scale;
    for (const auto& [name, block] : linears) entry.blocks.add(name, block);
    for (const TensorSpec& spec : all)
      if (keeps(spec.name)) weights.push_back(spec);
  }

  bool keeps(const std::string& tensor) const {
    return entry.blocks.find(tensor.substr(0, tensor.rfind('.'))) != nullptr;
  }
};

void report(const char* what, const Outcome& outcome, std::chrono::steady_clock::time_point since) {
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - since;
  std::printf("%s: %d read, %d refused, in %.1f s\n", what, outcome.read, outcome.refused,
              took.count());
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) return std::fprintf(stderr, "give a bundle, a count and a seed\n"), 2;
  const std::string folder = words[1];
  const int copies = std::atoi(words[2]);
  Damage random(static_cast<unsigned>(std::atoi(words[3])));
  const Bundle bundle = open_bundle(folder);
  const Manifest& manifest = bundle.manifest;
  const Scratch scratch;
  const auto now = [] { return std::chrono::steady_clock::now(); };

  auto since = now();
  const Bytes whole = bytes_of(path_join(folder, manifest_name));
  const std::string changed = path_join(scratch.path, manifest_name);
  Outcome manifests;
  for (int copy = 0; copy < copies; ++copy) {
    write_bytes(changed, damaged_manifest(whole, copy, random));
    manifests.count([&] { plan_with(read_manifest(scratch.path)); });
  }
  report("manifests", manifests, since);
  if (!manifest.merge) return std::fprintf(stderr, "the bundle has nothing to merge\n"), 2;

  const Merging merging(manifest);
  const auto keeps = [&merging](const std::string& name) { return merging.keeps(name); };
  const std::vector<float> table(static_cast<std::size_t>(manifest.model.blocks) *
                                     static_cast<std::size_t>(manifest.model.experts),
                                 0.25F);
  const std::string file = path_join(scratch.path, "weights.safetensors");
  since = now();
  const Bytes merge = excerpt(bundle.path(manifest.merge->file), keeps);
  Outcome merges;
  for (int copy = 0; copy < copies; ++copy) {
    write_bytes(file, copy ? random(merge) : merge);
    merges.count([&] {
      const RouteMerger merger(file, merging.entry, merging.weights);
      read_all(merger.merge(table, "damaged").tensors);
    });
    if (copy == 0 && merges.read != 1) throw std::logic_error("the undamaged file was refused");
  }
  report("merge files", merges, since);

  since = now();
  const auto& [variant, sets] = *manifest.weight_sets.begin();
  const auto& [route, set_file] = *sets.begin();
  const Bytes set = excerpt(bundle.path(set_file), keeps);
  Bundle small{scratch.path, {}};
  Table<std::string> only;
  only.add(route, "weights.safetensors");
  small.manifest.weight_sets.add(variant, std::move(only));
  Outcome weight_sets;
  for (int copy = 0; copy < copies; ++copy) {
    write_bytes(file, copy ? random(set) : set);
    weight_sets.count([&] { read_all(small.weight_set(route, variant).tensors); });
    if (copy == 0 && weight_sets.read != 1)
      throw std::logic_error("the undamaged file was refused");
  }
  report("weight sets", weight_sets, since);
  return 0;
}
