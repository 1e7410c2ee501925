// One JSON object read field by field: unknown and missing keys are refused, and values of other types.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/core/json.hpp"
#include "src/core/table.hpp"

namespace a2edit {

struct Field {
  std::string name;
  // Given the value, and where it stands: "sampler.steps".
  std::function<void(const Json&, const std::string&)> read;
  bool needed = true;
};

// Throws a bundle Error where `value` is no object or its keys are not those of `fields`; calls
// their `read` in the order of the keys. `where` names the object in messages; "" is the manifest.
void read_fields(const Json& value, const std::string& where, const std::vector<Field>& fields);

// Refuses what is no object.
void check_object(const Json& value, const std::string& where);

// Fields of one value, stored where they belong.
Field text_field(const std::string& name, std::string& into, bool needed = true);
Field whole_field(const std::string& name, int& into);
Field whole_field(const std::string& name, std::int64_t& into);
Field truth_field(const std::string& name, bool& into);
Field number_field(const std::string& name, double& into, bool needed = true);

// The value, or a bundle Error that says what it must be.
std::string text_of(const Json& value, const std::string& where);
std::int64_t whole_of(const Json& value, const std::string& where);
double number_of(const Json& value, const std::string& where);
const Json& list_of(const Json& value, const std::string& where);

// An object of entries that are alike, each read by `read(value, where)`.
template <class T, class Read>
Table<T> table_of(const Json& value, const std::string& where, Read read) {
  check_object(value, where);
  Table<T> table;
  for (const auto& item : value.items())
    table.add(item.key(), read(item.value(), where + "." + item.key()));
  return table;
}

}  // namespace a2edit
