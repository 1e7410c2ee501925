#include "src/core/spec.hpp"

#include <algorithm>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"

namespace a2edit {

int ModelSpec::chosen(const std::optional<int>& asked) const {
  if (!asked) return size;
  if (std::find(sizes.begin(), sizes.end(), *asked) != sizes.end()) return *asked;
  std::vector<std::string> known;
  known.reserve(sizes.size());
  for (const int side : sizes) known.push_back(std::to_string(side));
  fail_request("size " + std::to_string(*asked) +
               " is none that this bundle was built for; it has " + joined(known) +
               ": take one of them, or build with --sizes");
}

}  // namespace a2edit
