// A bundle on disk, checked before anything in it is used.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/core/manifest.hpp"
#include "src/core/weight_set.hpp"

namespace a2edit {

// A folder whose every file has been compared with its manifest.
struct Bundle {
  std::string folder;
  Manifest manifest;

  std::string path(const std::string& file) const;

  // A route's weights for a variant of the denoiser, mapped: processes share its pages. The arrays
  // can be written to, as engines take pointers; a write changes this process's copy.
  WeightSet weight_set(const std::string& route, const std::string& variant) const;

  // Parameters that graphs take as inputs, mapped from the files that all graphs share.
  Arrays parameters(const std::vector<TensorSpec>& wanted) const;
};

// Read the manifest and compare every file; throws a bundle Error, which names the file.
Bundle open_bundle(const std::string& folder);

}  // namespace a2edit
