// Values as Python's messages show them, so that errors carry the same text in every host.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace a2edit {

// repr() of a str. `text` is UTF-8; bytes that are not come out as Python's file names have them,
// \udc80 to \udcff.
std::string repr(const std::string& text);

// repr() of a float: the shortest digits that read back as the same number.
std::string repr(double number);

// str() of a list of numbers: "[1, 2]".
std::string list_text(const std::vector<std::int64_t>& numbers);

// The items between commas: "a, b".
std::string joined(const std::vector<std::string>& items, const std::string& between = ", ");

}  // namespace a2edit
