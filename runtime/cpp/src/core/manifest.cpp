#include "src/core/manifest.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

#include "src/core/error.hpp"
#include "src/core/paths.hpp"
#include "src/core/repr.hpp"
#include "src/core/sha256.hpp"

namespace a2edit {
namespace {

// What an edit cannot do without.
const std::vector<std::string> needed_graphs = {
    "vae_encoder", "text_encoder", "pooled_encoder", "image_encoder", "gate",
    "modulation",  "dit",          "vae_decoder",
};
const std::vector<std::string> needed_tokenizers = {"text", "pooled"};

std::string sorted_text(const std::set<std::string>& names) {
  return joined({names.begin(), names.end()});
}

template <class T>
void check_complete(const std::string& what, const Table<T>& found,
                    const std::vector<std::string>& needed) {
  std::set<std::string> missing;
  for (const std::string& name : needed)
    if (!found.find(name)) missing.insert(name);
  if (!missing.empty()) fail_bundle(what + " lacks " + sorted_text(missing));
}

bool has_shape(const GateTable& table, int rows, int columns) {
  if (table.size() != static_cast<std::size_t>(rows)) return false;
  return std::all_of(table.begin(), table.end(), [columns](const auto& row) {
    return row.size() == static_cast<std::size_t>(columns);
  });
}

void check_files(const Manifest& manifest) {
  std::set<std::string> named, unlisted;
  for (const auto& [name, entry] : manifest.tokenizers) named.insert(entry.file);
  if (manifest.merge) named.insert(manifest.merge->file);
  if (manifest.calibration) named.insert(*manifest.calibration);
  for (const auto& [target, kernels] : manifest.merge_kernels)
    for (const MergeKernelEntry& kernel : kernels) named.insert(kernel.file);
  for (const auto& [graph, variants] : manifest.graphs)
    for (const auto& [variant, entry] : variants) named.insert(entry.file);
  for (const auto& [variant, sets] : manifest.weight_sets)
    for (const auto& [route, file] : sets) named.insert(file);
  for (const auto& [target, engines] : manifest.engines)
    for (const auto& [name, entry] : engines) named.insert(entry.file);
  for (const std::string& file : named)
    if (!manifest.files.find(file)) unlisted.insert(file);
  if (!unlisted.empty())
    fail_bundle("files are named but not listed: " + sorted_text(unlisted));
}

void check_step_cache(const Manifest& manifest) {
  if (!manifest.step_cache) return;
  check_complete("graphs", manifest.graphs, {std::begin(cache_graphs), std::end(cache_graphs)});
  for (const std::string name : cache_graphs)
    check_complete("graphs." + name, *manifest.graphs.find(name),
                   manifest.graphs.find("dit")->names());
  check_complete("step_cache.slopes", manifest.step_cache->slopes, manifest.routes.names());
}

void check_tables(const Manifest& manifest) {
  const int blocks = manifest.model.blocks, experts = manifest.model.experts;
  for (const auto& [name, route] : manifest.routes)
    if (!has_shape(route.table, blocks, experts))
      fail_bundle("routes." + name + ".table is not " + std::to_string(blocks) + " rows of " +
                  std::to_string(experts) + " weights");
  const std::vector<GateTable>& gram = manifest.route_metric.gram;
  const bool square = std::all_of(gram.begin(), gram.end(), [experts](const GateTable& block) {
    return has_shape(block, experts, experts);
  });
  if (gram.size() != static_cast<std::size_t>(blocks) || !square)
    fail_bundle("route_metric is not for " + std::to_string(blocks) + " blocks of " +
                std::to_string(experts) + " experts");
  if (manifest.merge)
    for (const auto& [linear, row] : manifest.merge->blocks)
      if (row < 0 || row >= blocks)
        fail_bundle("merge.blocks names rows outside of " + std::to_string(blocks) + " blocks");
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (!file || !(bytes << file.rdbuf()))
    throw std::invalid_argument("[Errno " + std::to_string(errno) + "] " + std::strerror(errno) +
                                ": " + repr(path));
  return bytes.str();
}

}  // namespace

// What an edit needs is there, files that entries name are listed, tables have shapes.
void check_references(const Manifest& manifest) {
  check_files(manifest);
  if (manifest.routes.empty()) fail_bundle("there are no routes");
  check_complete("graphs", manifest.graphs, needed_graphs);
  check_complete("tokenizers", manifest.tokenizers, needed_tokenizers);
  check_complete("weight_sets", manifest.weight_sets, manifest.graphs.find("dit")->names());
  for (const auto& [variant, sets] : manifest.weight_sets)
    check_complete("weight_sets." + variant, sets, manifest.routes.names());
  check_step_cache(manifest);
  for (const auto& [target, engines] : manifest.engines)
    for (const auto& [name, entry] : engines) {
      const std::string graph = name.substr(0, name.find('.'));
      const Table<GraphEntry>* variants = manifest.graphs.find(graph);
      if (!variants || !variants->find(entry.variant))
        fail_bundle("engines." + target + "." + name + " is of " + graph + " " +
                    repr(entry.variant) + ", which is not there");
    }
  for (const auto& [target, kernels] : manifest.merge_kernels)
    if (!manifest.engines.find(target))
      fail_bundle("merge_kernels." + target + " is of a target that has no engines");
  check_tables(manifest);
}

std::string canonical_hash(const Json& content) {
  const std::string canonical = canonical_json(content, "bundle_hash");
  return sha256_hex(canonical.data(), canonical.size());
}

std::string file_bytes(const Json& content) { return indented_json(content) + "\n"; }

Manifest read_manifest(const std::string& folder) {
  const std::string root = path_text(folder), path = path_join(root, manifest_name);
  std::error_code ignored;
  if (!std::filesystem::is_directory(root, ignored))
    fail_bundle("bundle " + repr(root) +
                " does not exist: build one with `a2edit-build engines --out " + root + "`");
  if (!std::filesystem::is_regular_file(path, ignored))
    fail_bundle(repr(root) + " is not a bundle: it has no " + manifest_name +
                "; give the folder that `a2edit-build engines --out` wrote");
  std::string data;
  Json content;
  try {
    data = bytes_of(path);
    content = json_from(data);
  } catch (const std::invalid_argument& error) {
    fail_bundle(repr(path) + " is damaged (" + error.what() + "): " + rebuild);
  }
  if (!content.is_object())
    fail_bundle(repr(path) + " is damaged (not a JSON object): " + rebuild);
  const Json version = content.value("schema_version", Json());
  if (version != schema_version)
    fail_bundle(repr(path) + " has schema version " + repr(version) + ", and this a2edit reads " +
                std::to_string(schema_version) + ": build the bundle again with this version");
  // the bytes too: some changed bytes, such as another space, leave the content as it was
  if (content.value("bundle_hash", Json()) != canonical_hash(content) ||
      data != file_bytes(content))
    fail_bundle(repr(path) + " does not match its own hash: " + rebuild);
  try {
    return manifest_from_json(content);
  } catch (const Error& error) {
    fail_bundle(repr(path) + ": " + error.what() + "; " + rebuild);
  }
}

}  // namespace a2edit
