#include "src/core/paths.hpp"

#include <sstream>
#include <vector>

#include "src/core/repr.hpp"

namespace a2edit {

std::string path_text(const std::string& path) {
  // POSIX lets exactly two slashes at the start mean something else
  std::string root;
  if (path.rfind("//", 0) == 0 && path.rfind("///", 0) != 0) {
    root = "//";
  } else if (path.rfind('/', 0) == 0) {
    root = "/";
  }
  std::vector<std::string> parts;
  std::istringstream stream(path);
  for (std::string part; std::getline(stream, part, '/');)
    if (!part.empty() && part != ".") parts.push_back(part);
  const std::string text = root + joined(parts, "/");
  return text.empty() ? "." : text;
}

std::string path_join(const std::string& folder, const std::string& file) {
  return path_text(file.rfind('/', 0) == 0 ? file : folder + "/" + file);
}

}  // namespace a2edit
