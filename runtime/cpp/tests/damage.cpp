// a2edit_damage FOLDER COUNT SEED: reads COUNT damaged copies of every file of FOLDER, pictures and
// tokenizers (.json). Each is read, or refused by an error that is no bug of ours; anything else
// ends the process. Prints how many came of each.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "src/pictures/images.hpp"
#include "src/text/tokenizer.hpp"
#include "tests/damage.hpp"

using namespace a2edit::damage;

namespace {

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
  write_bytes(path.string(), bytes);
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
  Outcome outcome;
  for (const auto& entry : std::filesystem::directory_iterator(words[1])) {
    const Bytes whole = bytes_of(entry.path().string());
    const bool png = whole.size() > 1 && whole[1] == 'P';
    for (int copy = 0; copy < std::atoi(words[2]); ++copy) {
      Bytes bytes = damage(whole);
      if (png && copy % 2) mend(bytes);
      outcome.count([&] {
        if (entry.path().extension() == ".json")
          read_tokenizer(bytes);
        else
          a2edit::decode_picture(bytes.data(), bytes.size(), "image");
      });
    }
  }
  std::printf("%d %d\n", outcome.read, outcome.refused);
}
