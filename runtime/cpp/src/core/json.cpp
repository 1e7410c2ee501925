#include "src/core/json.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "src/core/repr.hpp"

namespace a2edit {
namespace {

// Python gives up a little below its recursion limit of 1000; the writers below recurse, too.
constexpr int deepest = 900;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char raw : text) {
    const auto byte = static_cast<unsigned char>(raw);
    switch (raw) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (byte < 0x20) {
          char escape[8];
          std::snprintf(escape, sizeof escape, "\\u%04x", byte);
          out += escape;
        } else {
          out += raw;
        }
    }
  }
  return out + '"';
}

std::string scalar(const Json& value) {
  if (value.is_string()) return quoted(value.get_ref<const std::string&>());
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number_unsigned()) return std::to_string(value.get<std::uint64_t>());
  if (value.is_number_integer()) return std::to_string(value.get<std::int64_t>());
  return value.is_null() ? "null" : repr(value.get<double>());
}

struct Style {
  bool sorted;    // keys in order
  bool indented;  // one space a level
};

// Appends what `json.dumps` writes of `value`, which stands `level` levels deep.
void write(const Json& value, Style style, int level, const std::string* left_out,
           std::string& out) {
  if (!value.is_structured()) {
    out += scalar(value);
    return;
  }
  std::vector<Json::const_iterator> items;
  for (auto item = value.begin(); item != value.end(); ++item)
    if (!left_out || item.key() != *left_out) items.push_back(item);
  if (style.sorted && value.is_object())
    std::sort(items.begin(), items.end(),
              [](const auto& one, const auto& other) { return one.key() < other.key(); });
  const auto line = [&](int depth) {
    if (style.indented) out += "\n" + std::string(static_cast<std::size_t>(depth), ' ');
  };
  out += value.is_object() ? '{' : '[';
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += ',';
    first = false;
    line(level + 1);
    if (value.is_object()) out += quoted(item.key()) + (style.indented ? ": " : ":");
    write(*item, style, level + 1, nullptr, out);
  }
  if (!items.empty()) line(level);
  out += value.is_object() ? '}' : ']';
}

// Refuses what Python's json could read though it is no JSON, where byte `read`, from 1, begins one.
void refuse_constant(const std::string& text, std::size_t read) {
  if (read == 0) return;
  std::size_t start = read - 1;
  // the sign was read before the letter that cannot follow it
  if (start > 0 && start < text.size() && text[start] == 'I' && text[start - 1] == '-') --start;
  for (const char* constant : {"NaN", "Infinity", "-Infinity"})
    if (text.compare(std::min(start, text.size()), std::strlen(constant), constant) == 0)
      throw std::invalid_argument(std::string(constant) + ", which is no number in JSON");
}

}  // namespace

Json json_from(const std::string& text) {
  const auto guard = [](int depth, Json::parse_event_t event, const Json&) {
    if (depth > deepest)
      throw std::invalid_argument(
          std::string("maximum recursion depth exceeded while decoding a JSON ") +
          (event == Json::parse_event_t::array_start ? "array" : "object") +
          " from a unicode string");
    return true;
  };
  try {
    return Json::parse(text, guard);
  } catch (const Json::parse_error& error) {  // its own text holds bytes that may be no UTF-8
    refuse_constant(text, error.byte);
    throw std::invalid_argument("no JSON at byte " + std::to_string(error.byte));
  } catch (const Json::exception&) {
    throw std::invalid_argument("a number that is too large");
  }
}

std::string canonical_json(const Json& value, const std::string& left_out) {
  std::string out;
  write(value, {true, false}, 0, &left_out, out);
  return out;
}

std::string indented_json(const Json& value) {
  std::string out;
  write(value, {false, true}, 0, nullptr, out);
  return out;
}

std::string type_name(const Json& value) {
  if (value.is_object()) return "dict";
  if (value.is_array()) return "list";
  if (value.is_string()) return "str";
  if (value.is_boolean()) return "bool";
  if (value.is_null()) return "NoneType";
  return value.is_number_float() ? "float" : "int";
}

std::string repr(const Json& value) {
  if (value.is_string()) return repr(value.get_ref<const std::string&>());
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_null()) return "None";
  if (!value.is_structured()) return scalar(value);
  std::vector<std::string> items;
  for (auto item = value.begin(); item != value.end(); ++item)
    items.push_back((value.is_object() ? repr(item.key()) + ": " : "") + repr(*item));
  return (value.is_object() ? "{" : "[") + joined(items) + (value.is_object() ? "}" : "]");
}

}  // namespace a2edit
