#include "src/core/fields.hpp"

#include <limits>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

[[noreturn]] void refuse(const Json& value, const std::string& where, const std::string& kind) {
  fail_bundle(where + " is " + repr(value) + ": it must be " + kind);
}

std::string keys_text(std::vector<std::string> keys) {
  std::sort(keys.begin(), keys.end());
  return joined(keys);
}

}  // namespace

void check_object(const Json& value, const std::string& where) {
  if (!value.is_object()) fail_bundle(where + " must be an object, got " + type_name(value));
}

void read_fields(const Json& value, const std::string& where, const std::vector<Field>& fields) {
  check_object(value, where);
  const std::string what = where.empty() ? "the manifest" : where;
  const auto field_of = [&fields](const std::string& key) {
    return std::find_if(fields.begin(), fields.end(),
                        [&key](const Field& field) { return field.name == key; });
  };
  std::vector<std::string> unknown, missing;
  for (const auto& item : value.items())
    if (field_of(item.key()) == fields.end()) unknown.push_back(item.key());
  if (!unknown.empty()) fail_bundle(what + " has unknown keys: " + keys_text(unknown));
  for (const Field& field : fields)
    if (field.needed && !value.contains(field.name)) missing.push_back(field.name);
  if (!missing.empty()) fail_bundle(what + " lacks " + keys_text(missing));
  for (const auto& item : value.items())
    field_of(item.key())->read(item.value(),
                               where.empty() ? item.key() : where + "." + item.key());
}

std::string text_of(const Json& value, const std::string& where) {
  if (!value.is_string()) refuse(value, where, "text");
  return value.get<std::string>();
}

std::int64_t whole_of(const Json& value, const std::string& where) {
  if (!value.is_number_integer()) refuse(value, where, "a whole number");
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > most)
    refuse(value, where, "below 2^63");
  return value.get<std::int64_t>();
}

double number_of(const Json& value, const std::string& where) {
  if (!value.is_number()) refuse(value, where, "a number");
  return value.get<double>();
}

const Json& list_of(const Json& value, const std::string& where) {
  if (!value.is_array()) refuse(value, where, "a list");
  return value;
}

Field text_field(const std::string& name, std::string& into, bool needed) {
  return {name,
          [&into](const Json& value, const std::string& where) { into = text_of(value, where); },
          needed};
}

Field whole_field(const std::string& name, std::int64_t& into) {
  return {name,
          [&into](const Json& value, const std::string& where) { into = whole_of(value, where); }};
}

Field whole_field(const std::string& name, int& into) {
  return {name, [&into](const Json& value, const std::string& where) {
            const std::int64_t wide = whole_of(value, where);
            using Limits = std::numeric_limits<int>;
            if (wide < Limits::min() || wide > Limits::max()) refuse(value, where, "below 2^31");
            into = static_cast<int>(wide);
          }};
}

Field truth_field(const std::string& name, bool& into) {
  return {name, [&into](const Json& value, const std::string& where) {
            if (!value.is_boolean()) refuse(value, where, "true or false");
            into = value.get<bool>();
          }};
}

Field number_field(const std::string& name, double& into, bool needed) {
  return {name,
          [&into](const Json& value, const std::string& where) { into = number_of(value, where); },
          needed};
}

}  // namespace a2edit
