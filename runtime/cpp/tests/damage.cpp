// a2edit_damage FOLDER COUNT SEED: reads COUNT damaged copies of every file of FOLDER, pictures and
// tokenizers (.json). Each is read, or refused by an error that is no bug of ours; anything else
// ends the process. Prints how many came of each.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "src/core/error.hpp"
#include "src/pictures/images.hpp"
#include "src/text/tokenizer.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;

class Damage {
 public:
  explicit Damage(unsigned seed) : random_(seed) {}

  Bytes operator()(Bytes bytes) {
    for (int times = 1 + below(4); times > 0 && !bytes.empty(); --times) once(bytes);
    return bytes;
  }

 private:
  int below(std::size_t end) { return static_cast<int>(random_() % end); }

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

// Of a PNG file: sums that fit the chunks again, so that what is inside them is read at all.
void mend(Bytes& bytes) {
  const auto number = [&](std::size_t at) {
    std::size_t value = 0;
    for (int index = 0; index < 4; ++index) value = value << 8U | bytes[at + index];
    return value;
  };
  const auto sum = [&](std::size_t start, std::size_t end) {
    std::uint32_t value = 0xFFFFFFFF;
    for (std::size_t at = start; at < end; ++at) {
      value ^= bytes[at];
      for (int bit = 0; bit < 8; ++bit) value = value >> 1U ^ (value & 1U ? 0xEDB88320U : 0U);
    }
    return ~value;
  };
  for (std::size_t at = 8; at + 12 <= bytes.size();) {
    const std::size_t end = at + 8 + number(at);
    if (end + 4 > bytes.size()) return;
    const std::uint32_t value = sum(at + 4, end);
    for (unsigned index = 0; index < 4; ++index)
      bytes[end + index] = static_cast<std::uint8_t>(value >> (24U - 8U * index));
    at = end + 4;
  }
}

// Tokenizers are read from files alone.
void read_tokenizer(const Bytes& bytes) {
  const auto path =
      std::filesystem::temp_directory_path() / ("a2edit_damage." + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  try {
    const a2edit::PromptTokenizer tokenizer(path.string(), 24, 0);
    tokenizer.encode(
        "A red-and-white caf\u00e9 cup, it's 12 cm <|endoftext|> <extra_id_0>\n \u4e2d\u6587");
  } catch (...) {
    std::filesystem::remove(path);
    throw;
  }
  std::filesystem::remove(path);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) return std::fprintf(stderr, "give a folder, a count and a seed\n"), 2;
  Damage damage(static_cast<unsigned>(std::atoi(words[3])));
  int read = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(words[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const Bytes whole((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const bool png = whole.size() > 1 && whole[1] == 'P';
    for (int copy = 0; copy < std::atoi(words[2]); ++copy) {
      Bytes bytes = damage(whole);
      if (png && copy % 2) mend(bytes);
      try {
        if (entry.path().extension() == ".json")
          read_tokenizer(bytes);
        else
          a2edit::decode_picture(bytes.data(), bytes.size(), "image");
        ++read;
      } catch (const a2edit::Error& error) {
        if (error.kind() == a2edit::ErrorKind::internal) throw;
        ++refused;
      }
    }
  }
  std::printf("%d %d\n", read, refused);
}
