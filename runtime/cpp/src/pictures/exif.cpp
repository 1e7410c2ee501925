// EXIF's orientation: a TIFF directory, read as Pillow reads it.
#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "src/pictures/decode.hpp"

namespace a2edit {
namespace {

constexpr unsigned kOrientation = 0x0112;

// Bytes of one value, by TIFF's number of its type; 0 for what is no type.
constexpr std::array<unsigned, 17> kTypeSizes{0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};

class Numbers {
 public:
  Numbers(ByteView bytes, bool little) : bytes_(bytes), little_(little) {}

  std::uint64_t at(std::size_t start, unsigned length) const {
    std::uint64_t number = 0;
    for (unsigned index = 0; index < length; ++index)
      number = number << 8U | bytes_[start + (little_ ? length - 1 - index : index)];
    return number;
  }

 private:
  ByteView bytes_;
  bool little_;
};

template <class Float, class Bits>
double float_of(std::uint64_t bits) {
  const auto narrow = static_cast<Bits>(bits);
  Float number;
  std::memcpy(&number, &narrow, sizeof number);
  return number;
}

// The first value as a number; 0, which is no orientation, for texts and bytes.
double value_of(const Numbers& numbers, std::size_t start, unsigned type) {
  const std::uint64_t bits = numbers.at(start, std::min(kTypeSizes[type], 8U));
  const auto ratio = [&](auto one, auto other) {
    return other == 0 ? 0.0 : static_cast<double>(one) / static_cast<double>(other);
  };
  const auto first = static_cast<std::uint32_t>(numbers.at(start, 4));
  switch (type) {
    case 3:
    case 4:
    case 13:
    case 16:
      return static_cast<double>(bits);
    case 5:
      return ratio(first, static_cast<std::uint32_t>(numbers.at(start + 4, 4)));
    case 6:
      return static_cast<std::int8_t>(bits);
    case 8:
      return static_cast<std::int16_t>(bits);
    case 9:
      return static_cast<std::int32_t>(bits);
    case 10:
      return ratio(static_cast<std::int32_t>(first),
                   static_cast<std::int32_t>(numbers.at(start + 4, 4)));
    case 11:
      return float_of<float, std::uint32_t>(bits);
    case 12:
      return float_of<double, std::uint64_t>(bits);
    default:
      return 0;
  }
}

struct Directory {
  bool little = false;
  bool big = false;  // BigTIFF
  std::uint64_t start = 0;
};

Directory directory_of(ByteView bytes) {
  const ByteView head = bytes.slice(0, 8);
  const std::string magic = head.slice(0, 4).text();
  const std::array<std::string, 6> known{std::string("MM\0\x2a", 4), std::string("II\x2a\0", 4),
                                         std::string("MM\x2a\0", 4), std::string("II\0\x2a", 4),
                                         std::string("MM\0\x2b", 4), std::string("II\x2b\0", 4)};
  if (std::find(known.begin(), known.end(), magic) == known.end())
    throw BrokenFile("not a TIFF file (header " + bytes_repr(head) + " not valid)");
  Directory directory;
  directory.little = magic[0] == 'I';
  directory.big = magic[2] == 43;
  // Pillow looks for the start of a BigTIFF past the eight bytes that it has read
  if (directory.big) throw BrokenFile("unpack requires a buffer of 8 bytes");
  if (head.size < 8) throw BrokenFile("unpack requires a buffer of 4 bytes");
  directory.start = Numbers(bytes, directory.little).at(4, 4);
  return directory;
}

// The orientation in a directory, or none. What is cut off or out of reach ends the search, and
// what was found before it counts.
std::optional<double> found_in(ByteView bytes, const Directory& directory) {
  const Numbers numbers(bytes, directory.little);
  if (directory.start + 2 > bytes.size) return std::nullopt;
  const std::uint64_t entries = numbers.at(directory.start, 2);
  std::optional<double> found;
  std::set<unsigned> seen;
  std::uint64_t total = 0;
  for (std::uint64_t entry = 0; entry < entries; ++entry) {
    const std::uint64_t at = directory.start + 2 + 12 * entry;
    if (at + 12 > bytes.size) return found;
    const auto tag = static_cast<unsigned>(numbers.at(at, 2));
    const auto type = static_cast<unsigned>(numbers.at(at + 2, 2));
    if (seen.count(tag) || type >= kTypeSizes.size() || kTypeSizes[type] == 0) continue;
    const std::uint64_t size = numbers.at(at + 4, 4) * kTypeSizes[type];
    std::uint64_t data = at + 8;
    if (size > 4) {
      data = numbers.at(at + 8, 4);
      total += size;
      if (total > bytes.size) continue;
      if (data + size > bytes.size) return found;
    }
    if (size == 0) continue;
    seen.insert(tag);
    if (tag == kOrientation) found = value_of(numbers, data, type);
  }
  return found;
}

// The number after tiff:Orientation, as an attribute or an element of XMP.
std::optional<double> found_in_xmp(const std::string& xmp) {
  static const std::string key = "tiff:Orientation";
  for (std::size_t at = xmp.find(key); at != std::string::npos; at = xmp.find(key, at + 1)) {
    std::size_t digit = at + key.size();
    if (xmp.compare(digit, 2, "=\"") == 0)
      digit += 2;
    else if (xmp.compare(digit, 1, ">") == 0)
      digit += 1;
    else
      continue;
    if (digit < xmp.size() && xmp[digit] >= '0' && xmp[digit] <= '9') return xmp[digit] - '0';
  }
  return std::nullopt;
}

// The hexadecimal digits from the fourth line on, as bytes.fromhex reads them.
std::vector<std::uint8_t> from_hex_profile(const std::string& text) {
  std::string digits;
  std::size_t line = 0;
  for (const char letter : text) {
    if (letter == '\n')
      ++line;
    else if (line >= 3)
      digits += letter;
  }
  const auto value = [](char letter) {
    static const std::string known = "0123456789abcdef";
    const char lower = letter >= 'A' && letter <= 'F' ? static_cast<char>(letter + 32) : letter;
    return known.find(lower);
  };
  std::vector<std::uint8_t> bytes;
  for (std::size_t at = 0; at < digits.size(); ++at) {
    if (std::strchr(" \t\n\v\f\r", digits[at]) && digits[at]) continue;
    for (std::size_t place = at; place < at + 2; ++place)
      if (place >= digits.size() || value(digits[place]) == std::string::npos)
        throw BrokenFile("non-hexadecimal number found in fromhex() arg at position " +
                         std::to_string(place));
    bytes.push_back(static_cast<std::uint8_t>(value(digits[at]) << 4U | value(digits[at + 1])));
    ++at;
  }
  return bytes;
}

std::optional<double> found_in_exif(const Metadata& metadata) {
  std::vector<std::uint8_t> profile;
  ByteView bytes{metadata.exif.data(), metadata.exif.size()};
  if (bytes.size == 0 && !metadata.exif_profile.empty()) {
    profile = from_hex_profile(metadata.exif_profile);
    bytes = {profile.data(), profile.size()};
  }
  for (int times = 0; times < 2 && bytes.starts_with(kExifPrefix); ++times)
    bytes = bytes.slice(kExifPrefix.size(), bytes.size);
  if (bytes.size == 0) return std::nullopt;
  return found_in(bytes, directory_of(bytes));
}

}  // namespace

int orientation(const Metadata& metadata) {
  std::optional<double> value;
  try {
    value = found_in_exif(metadata);
  } catch (const BrokenFile&) {
    if (metadata.exif_is_optional) return 1;
    throw;
  }
  if (!value) value = found_in_xmp(metadata.xmp);
  for (int known = 2; known <= 8; ++known)
    if (value && *value == known) return known;
  return 1;
}

Pixels upright(Pixels pixels, int orientation) {
  if (orientation == 1) return pixels;
  const bool turned = orientation >= 5;  // rows become columns
  Pixels out(turned ? pixels.width : pixels.height, turned ? pixels.height : pixels.width,
             pixels.channels);
  const bool right_to_left =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool upwards = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      const int column = turned ? y : x, row = turned ? x : y;
      const std::uint8_t* from = pixels.at(upwards ? pixels.height - 1 - row : row,
                                           right_to_left ? pixels.width - 1 - column : column);
      std::copy_n(from, pixels.channels, out.at(y, x));
    }
  return out;
}

std::string bytes_repr(ByteView bytes) {
  const std::string text = bytes.text();
  const bool single = text.find('\'') != std::string::npos;
  const char quote = single && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out = std::string("b") + quote;
  static const char* digits = "0123456789abcdef";
  for (const char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == quote || letter == '\\')
      out += std::string("\\") + letter;
    else if (letter == '\t')
      out += "\\t";
    else if (letter == '\n')
      out += "\\n";
    else if (letter == '\r')
      out += "\\r";
    else if (code < ' ' || code >= 0x7F)
      out += std::string("\\x") + digits[code >> 4U] + digits[code & 15U];
    else
      out += letter;
  }
  return out + quote;
}

}  // namespace a2edit
