// Pictures out: check_output and save_picture of images.hpp.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>
#include <system_error>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/pictures/images.hpp"

namespace a2edit {
namespace {

// A path as Python's pathlib has it: without empty and "." parts.
struct Path {
  std::string folder;  // "." where none is named
  std::string name;
  std::string text;

  explicit Path(const std::string& given) {
    const std::size_t slashes = std::min(given.find_first_not_of('/'), given.size());
    const std::string root = slashes == 0 ? "" : slashes == 2 ? "//" : "/";
    std::string parts;
    for (std::size_t start = 0; start <= given.size();) {
      const std::size_t end = std::min(given.find('/', start), given.size());
      const std::string part = given.substr(start, end - start);
      start = end + 1;
      if (part.empty() || part == ".") continue;
      if (!name.empty()) parts += (parts.empty() ? "" : "/") + name;
      name = part;
    }
    folder = root + parts;
    text = folder + (parts.empty() ? "" : "/") + name;
    if (folder.empty()) folder = ".";
    if (text.empty()) text = ".";
  }

  std::string suffix() const {
    const std::size_t dot = name.rfind('.');
    const bool none = dot == std::string::npos || dot == 0 || dot + 1 == name.size();
    return none ? "" : name.substr(dot);
  }
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::string random_name() {
  std::random_device source;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(source()));
  return text;
}

bool is_folder(const Path& path, const std::string& role) {
  struct stat found {};
  if (::stat(path.text.c_str(), &found) == 0) return S_ISDIR(found.st_mode);
  if (errno != ENOENT && errno != ENOTDIR && errno != EBADF && errno != ELOOP)
    fail_request(role + " " + repr(path.text) +
                 " cannot be written: " + std::generic_category().message(errno));
  return false;
}

}  // namespace

void check_output(const std::string& given, const std::string& role) {
  const Path path(given);
  const std::string suffix = lower(path.suffix());
  const std::string named = role + " " + repr(path.text);
  if (suffix != ".png" && suffix != ".jpg" && suffix != ".jpeg")
    fail_request(named + " has the suffix " + repr(path.suffix()) + ": use one of .png .jpg .jpeg");
  if (is_folder(path, role)) fail_request(named + " is a folder: give a file name");
  if (!is_folder(Path(path.folder), role))
    fail_request(named + ": the folder " + repr(path.folder) +
                 " does not exist: create it first, or write elsewhere");
  if (::access(path.folder.c_str(), W_OK) != 0)
    fail_request(named + ": the folder " + repr(path.folder) + " is not writable");
}

void save_picture(const Pixels& picture, const std::vector<std::uint8_t>& icc,
                  const std::string& given, const TextChunks& text) {
  check_output(given);
  const Path path(given);
  const std::string suffix = path.suffix();
  const std::vector<std::uint8_t> bytes =
      lower(suffix) == ".png" ? encode_png(picture, icc, text) : encode_jpeg(picture, icc);
  const std::string stem = path.name.substr(0, path.name.size() - suffix.size());
  const std::string temporary = path.folder + "/." + stem + "." + random_name() + suffix;
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  bool whole = file && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  int problem = errno;
  if (file && std::fclose(file) != 0 && whole) {
    whole = false;
    problem = errno;
  }
  if (whole && std::rename(temporary.c_str(), path.text.c_str()) == 0) return;
  if (whole) problem = errno;
  std::remove(temporary.c_str());
  fail_request("cannot write " + repr(path.text) + ": " + std::generic_category().message(problem));
}

}  // namespace a2edit
