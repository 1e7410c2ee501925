#include "src/text/charsmap.hpp"

#include "src/text/config.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

std::string from_base64(const std::string& encoded) {
  static const std::string alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  std::size_t letters = 0;
  const std::size_t end = encoded.find('=');
  for (const char letter : encoded.substr(0, end)) {
    const std::size_t value = alphabet.find(letter);
    if (value == std::string::npos) throw BadTokenizer("\"precompiled_charsmap\" is not base64");
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    if (++letters % 4 != 1) out += static_cast<char>(bits >> (2 * (3 - (letters - 1) % 4)));
  }
  return out;
}

std::uint32_t little_endian(const std::string& bytes, std::size_t at) {
  std::uint32_t number = 0;
  for (std::size_t index = 4; index-- > 0;)
    number = number << 8U | static_cast<unsigned char>(bytes[at + index]);
  return number;
}

bool has_leaf(std::uint32_t unit) { return (unit >> 8U & 1U) != 0; }
std::uint32_t label(std::uint32_t unit) { return unit & (1U << 31U | 0xFFU); }
std::uint32_t value(std::uint32_t unit) { return unit & ~(1U << 31U); }
std::uint32_t offset(std::uint32_t unit) { return unit >> 10U << ((unit & 1U << 9U) >> 6U); }

}  // namespace

Charsmap::Charsmap(const std::string& encoded) {
  const std::string bytes = from_base64(encoded);
  const std::size_t size = bytes.size() < 4 ? 0 : little_endian(bytes, 0) / 4 * 4;
  if (bytes.size() < 4 || size == 0 || size > bytes.size() - 4)
    throw BadTokenizer("Cannot parse precompiled_charsmap");
  for (std::size_t at = 4; at < 4 + size; at += 4) units_.push_back(little_endian(bytes, at));
  texts_ = bytes.substr(4 + size);
  if (!is_utf8(texts_)) throw BadTokenizer("Cannot parse precompiled_charsmap");
}

const char* Charsmap::replacement(std::string_view part) const {
  std::size_t node = offset(units_[0]);
  for (const char letter : part) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) return nullptr;
    const std::uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size() || value(units_[node]) > texts_.size()) return nullptr;
    const char* found = texts_.c_str() + value(units_[node]);
    // amid a character: of a damaged table
    return (static_cast<unsigned char>(*found) & 0xC0U) == 0x80U ? nullptr : found;
  }
  return nullptr;
}

// A grapheme of less than six bytes is replaced as a whole, even where the table only knows its
// start: so the models were trained.
std::string Charsmap::operator()(std::string_view text) const {
  std::string out;
  for (const std::string_view grapheme : graphemes(text)) {
    const char* found = grapheme.size() < 6 ? replacement(grapheme) : nullptr;
    if (found) {
      out += found;
      continue;
    }
    for (std::size_t at = 0; at < grapheme.size();) {
      const std::string_view part = grapheme.substr(at, length_at(grapheme, at));
      const char* single = replacement(part);
      out += single ? std::string_view(single) : part;
      at += part.size();
    }
  }
  return out;
}

}  // namespace a2edit
