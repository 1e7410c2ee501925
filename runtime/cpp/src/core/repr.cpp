#include "src/core/repr.hpp"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <charconv>
#include <cmath>
#include <cstdio>

namespace a2edit {
namespace {

std::string escape(const char* form, unsigned code) {
  char text[16];
  std::snprintf(text, sizeof text, form, code);
  return text;
}

// Python's str.isprintable for one code point.
bool printable(UChar32 code) {
  switch (u_charType(code)) {
    case U_UNASSIGNED:
    case U_CONTROL_CHAR:
    case U_FORMAT_CHAR:
    case U_SURROGATE:
    case U_PRIVATE_USE_CHAR:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
      return false;
    case U_SPACE_SEPARATOR:
      return code == ' ';
    default:
      return true;
  }
}

std::string shown(UChar32 code, char quote) {
  const auto value = static_cast<unsigned>(code);
  if (code == quote || code == '\\') return std::string("\\") + static_cast<char>(code);
  if (code == '\t') return "\\t";
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (!printable(code)) {
    if (value <= 0xFF) return escape("\\x%02x", value);
    return value <= 0xFFFF ? escape("\\u%04x", value) : escape("\\U%08x", value);
  }
  char bytes[U8_MAX_LENGTH];
  int length = 0;
  U8_APPEND_UNSAFE(bytes, length, code);
  return std::string(bytes, static_cast<std::size_t>(length));
}

}  // namespace

std::string repr(const std::string& text) {
  const bool single = text.find('\'') != std::string::npos;
  const char quote = single && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  const auto length = static_cast<std::int64_t>(text.size());
  for (std::int64_t at = 0; at < length;) {
    const std::int64_t start = at;
    UChar32 code = 0;
    U8_NEXT(text.data(), at, length, code);
    if (code >= 0) {
      out += shown(code, quote);
      continue;
    }
    at = start + 1;
    while (at < length && U8_IS_TRAIL(text[at])) ++at;
    for (std::int64_t bad = start; bad < at; ++bad)
      out += escape("\\udc%02x", static_cast<unsigned char>(text[bad]));
  }
  return out + quote;
}

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, number, std::chars_format::scientific);
  std::string text(digits, end.ptr);
  const std::size_t mark = text.find('e');
  const int exponent = std::stoi(text.substr(mark + 1));
  if (exponent < -4 || exponent >= 16) return text;  // "1e-05" and "1.5e+16" are Python's too
  const auto fixed = std::to_chars(digits, digits + sizeof digits, number, std::chars_format::fixed);
  text.assign(digits, fixed.ptr);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

std::string list_text(const std::vector<std::int64_t>& numbers) {
  std::vector<std::string> items;
  items.reserve(numbers.size());
  for (const std::int64_t number : numbers) items.push_back(std::to_string(number));
  return "[" + joined(items) + "]";
}

std::string joined(const std::vector<std::string>& items, const std::string& between) {
  std::string text;
  for (const std::string& item : items) text += (&item == items.data() ? "" : between) + item;
  return text;
}

}  // namespace a2edit
