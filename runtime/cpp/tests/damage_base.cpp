#include <unistd.h>

#include <fstream>
#include <iterator>

#include "src/core/error.hpp"
#include "tests/damage.hpp"

namespace a2edit::damage {

Bytes bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_bytes(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void Outcome::count(const std::function<void()>& work) {
  alarm(30);
  try {
    work();
    ++read;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) throw;
    ++refused;
  }
  alarm(0);
}

}  // namespace a2edit::damage
