// Files damaged at random, the same way for a seed on every machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace a2edit::damage {

using Bytes = std::vector<std::uint8_t>;

// Of a file.
Bytes bytes_of(const std::string& path);
void write_bytes(const std::string& path, const Bytes& bytes);

// Changes, removes and adds bytes in up to four places.
class Damage {
 public:
  explicit Damage(unsigned seed) : random_(seed) {}

  Bytes operator()(Bytes bytes) {
    for (int times = 1 + below(4); times > 0 && !bytes.empty(); --times) once(bytes);
    return bytes;
  }

  int below(std::size_t end) { return static_cast<int>(random_() % end); }

 private:
  // Half of the time near the start, where headers are.
  std::ptrdiff_t place(const Bytes& bytes) {
    return below(below(2) ? bytes.size() : std::min<std::size_t>(bytes.size(), 400));
  }

  void once(Bytes& bytes) {
    const auto at = bytes.begin() + place(bytes);
    const std::ptrdiff_t rest = bytes.end() - at;
    switch (below(6)) {
      case 0:
        *at = static_cast<std::uint8_t>(below(256));
        break;
      case 1:
        *at ^= 1 << below(8);
        break;
      case 2:
        bytes.erase(at, at + std::min<std::ptrdiff_t>(1 + below(20), rest));
        break;
      case 3:
        bytes.insert(at, 1 + below(8), static_cast<std::uint8_t>(below(256)));
        break;
      case 4:
        bytes.erase(at, bytes.end());
        break;
      default:  // a length, or part of one
        std::fill_n(at, std::min<std::ptrdiff_t>(4, rest), below(2) ? 0xFF : 0);
    }
  }

  std::mt19937 random_;
};

// How many damaged files were read, and how many refused.
struct Outcome {
  int read = 0, refused = 0;

  // Does `work`, which may throw an Error that is no bug of ours. What takes longer than half a minute
  // ends the process, as anything else that it throws.
  void count(const std::function<void()>& work);
};

}  // namespace a2edit::damage
