// JSON as Python's json module reads and writes it: hashes of manifests are taken over its bytes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace a2edit {

using Json = nlohmann::ordered_json;  // keys in the file's order, as in a dict

// The value of a text; throws std::invalid_argument for what is no JSON, with the reason. Of a key
// that comes twice the last value counts.
Json json_from(const std::string& text);

// json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False), of an object without
// the key `left_out`.
std::string canonical_json(const Json& value, const std::string& left_out);

// json.dumps(value, indent=1, ensure_ascii=False).
std::string indented_json(const Json& value);

// type(value).__name__
std::string type_name(const Json& value);

// repr(value)
std::string repr(const Json& value);

}  // namespace a2edit
