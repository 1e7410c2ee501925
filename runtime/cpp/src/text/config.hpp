// The parts of a tokenizer.json, read with care: what is missing, of another type or unknown is
// refused by name, since a tokenizer that is nearly right gives wrong pictures silently.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace a2edit {

using Config = nlohmann::json;

// What is wrong with the file; the reader says which file.
struct BadTokenizer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void unknown(const std::string& what, const std::string& name) {
  throw BadTokenizer(what + " \"" + name + "\" is not known here");
}

inline const Config& item(const Config& config, const char* key) {
  const auto found = config.find(key);
  if (!config.is_object() || found == config.end())
    throw BadTokenizer(std::string("\"") + key + "\" is missing");
  return *found;
}

inline bool given(const Config& config, const char* key) {
  return config.is_object() && config.contains(key) && !config.at(key).is_null();
}

inline std::string text_of(const Config& config, const char* key) {
  const Config& value = item(config, key);
  if (!value.is_string()) throw BadTokenizer(std::string("\"") + key + "\" is no text");
  return value.get<std::string>();
}

inline bool flag_of(const Config& config, const char* key, bool missing) {
  if (!given(config, key)) return missing;
  const Config& value = config.at(key);
  if (!value.is_boolean())
    throw BadTokenizer(std::string("\"") + key + "\" is neither true nor false");
  return value.get<bool>();
}

inline std::uint32_t id_of(const Config& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0x7FFFFFFF)
    throw BadTokenizer("an id is no whole number from 0 on");
  return value.get<std::uint32_t>();
}

// The list behind `key`.
inline const Config& list_of(const Config& config, const char* key) {
  const Config& value = item(config, key);
  if (!value.is_array()) throw BadTokenizer(std::string("\"") + key + "\" is no list");
  return value;
}

// Sequences may stand in sequences, but not without end.
constexpr int kMostNested = 8;

}  // namespace a2edit
