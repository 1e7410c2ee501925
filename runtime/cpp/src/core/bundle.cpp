#include "src/core/bundle.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "src/core/error.hpp"
#include "src/core/parallel.hpp"
#include "src/core/paths.hpp"
#include "src/core/repr.hpp"
#include "src/core/sha256.hpp"

namespace a2edit {
namespace {

namespace fs = std::filesystem;

// Every file below `root`, as the manifest names it. Folders behind links are not entered.
std::set<std::string> files_in(const std::string& root) {
  std::set<std::string> found;
  std::error_code failed;
  fs::recursive_directory_iterator place(root, fs::directory_options::skip_permission_denied,
                                         failed);
  for (; !failed && place != fs::recursive_directory_iterator(); place.increment(failed)) {
    std::error_code gone;
    if (!place->is_directory(gone))
      found.insert(place->path().lexically_relative(root).generic_string());
  }
  return found;
}

// What is wrong with a file; "" is nothing.
std::string problem_of(const std::string& path, const FileEntry& entry) {
  try {
    const auto size = fs::file_size(path);
    if (size != static_cast<std::uintmax_t>(entry.bytes))
      return repr(path) + " has " + std::to_string(size) + " bytes instead of " +
             std::to_string(entry.bytes) + ": " + rebuild;
    if (sha256_of_file(path) != entry.sha256)
      return repr(path) + " does not match its hash: " + rebuild;
  } catch (const std::system_error& error) {
    return repr(path) + " cannot be read (" + error.code().message() + "): " + rebuild;
  }
  return "";
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Compares all files, several at a time; throws the first problem in the order of `entries`.
void check_files(const std::string& root, const std::vector<Table<FileEntry>::Item>& entries) {
  std::vector<std::string> problems(entries.size());
  in_parallel(entries.size(), [&](std::size_t place) {
    problems[place] = problem_of(path_join(root, entries[place].first), entries[place].second);
  });
  for (const std::string& problem : problems)
    if (!problem.empty()) fail_bundle(problem);
}

}  // namespace

std::string Bundle::path(const std::string& file) const { return path_join(folder, file); }

WeightSet Bundle::weight_set(const std::string& route, const std::string& variant) const {
  const Table<std::string>* sets = manifest.weight_sets.find(variant);
  const std::string* file = sets ? sets->find(route) : nullptr;
  if (!file) {
    const std::string names = sets ? joined(sets->sorted_names()) : "";
    fail_bundle(repr(folder) + " has no weight set " + repr(route) + " for " + variant +
                "; it has " + (names.empty() ? "none" : names));
  }
  MappedTensors mapped = map_tensors(path(*file), true);
  return {route, std::move(mapped.tensors), std::move(mapped.memory)};
}

Arrays Bundle::parameters(const std::vector<TensorSpec>& wanted) const {
  Arrays found;
  for (const auto& [file, entry] : manifest.files) {
    if (file.rfind("graphs/", 0) != 0 || !ends_with(file, ".safetensors")) continue;
    const MappedTensors mapped = map_tensors(path(file), true);
    for (const TensorSpec& spec : wanted) {
      const auto tensor = mapped.tensors.find(spec.name);
      if (tensor != mapped.tensors.end()) found[spec.name] = tensor->second;
    }
  }
  return found;
}

Bundle open_bundle(const std::string& folder) {
  const std::string root = path_text(folder);
  Manifest manifest = read_manifest(root);
  std::set<std::string> present = files_in(root);
  present.erase(manifest_name);
  for (const std::string& file : manifest.files.sorted_names())
    if (!present.count(file))
      fail_bundle(repr(path_join(root, file)) + " is missing: " + rebuild);
  for (const std::string& file : present)
    if (!manifest.files.find(file))
      fail_bundle(repr(path_join(root, file)) + " does not belong to the bundle: move it elsewhere");
  // the largest go first, so that no thread is left with one at the end
  std::vector<Table<FileEntry>::Item> entries(manifest.files.begin(), manifest.files.end());
  std::stable_sort(entries.begin(), entries.end(), [](const auto& one, const auto& other) {
    return one.second.bytes > other.second.bytes;
  });
  check_files(root, entries);
  return {root, std::move(manifest)};
}

}  // namespace a2edit
