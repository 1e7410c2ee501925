// Paths as Python's pathlib writes them, since messages show them.
#pragma once

#include <string>

namespace a2edit {

// str(Path(path)): without doubled slashes, "." parts and a slash at the end.
std::string path_text(const std::string& path);

// str(Path(folder) / file)
std::string path_join(const std::string& folder, const std::string& file);

}  // namespace a2edit
