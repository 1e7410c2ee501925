#include "src/pictures/boxes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <optional>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

constexpr const char* kSpaces = " \t\n\v\f\r";

// A whole number as Python's int() reads it: spaces around it, a sign, underscores between digits.
std::optional<int> whole_number(const std::string& part) {
  const std::size_t start = part.find_first_not_of(kSpaces);
  if (start == std::string::npos) return std::nullopt;
  const std::string word = part.substr(start, part.find_last_not_of(kSpaces) - start + 1);
  const std::size_t sign = word[0] == '+' || word[0] == '-' ? 1 : 0;
  std::string digits = word.substr(0, sign);
  for (std::size_t at = sign; at < word.size(); ++at) {
    const bool digit = word[at] >= '0' && word[at] <= '9';
    const bool between =
        word[at] == '_' && at > sign && at + 1 < word.size() && word[at - 1] != '_';
    if (!digit && !between) return std::nullopt;
    if (digit) digits += word[at];
  }
  if (digits.size() == sign) return std::nullopt;
  errno = 0;
  const long long number = std::strtoll(digits.c_str(), nullptr, 10);
  if (errno == ERANGE || number < std::numeric_limits<int>::min() ||
      number > std::numeric_limits<int>::max())
    return std::nullopt;
  return static_cast<int>(number);
}

}  // namespace

std::string to_text(const Box& box) {
  return std::to_string(box.x0) + "," + std::to_string(box.y0) + "," + std::to_string(box.x1) +
         "," + std::to_string(box.y1);
}

Box checked(const Box& box) {
  if (box.x1 <= box.x0 || box.y1 <= box.y0)
    fail_request("box " + to_text(box) +
                 " is empty: give x0,y0,x1,y1 in pixels with x1 > x0 and y1 > y0");
  return box;
}

Box parse_box(const std::string& text) {
  int numbers[4];
  std::size_t start = 0;
  for (int index = 0; index < 4; ++index) {
    const std::size_t comma = text.find(',', start);
    const bool ends = comma == std::string::npos;
    const auto number = whole_number(text.substr(start, ends ? std::string::npos : comma - start));
    if (!number || ends != (index == 3))
      fail_request("box " + repr(text) +
                   " is not x0,y0,x1,y1: give four whole numbers in pixels, such as 40,30,200,180");
    numbers[index] = *number;
    start = comma + 1;
  }
  return checked({numbers[0], numbers[1], numbers[2], numbers[3]});
}

bool inside(const Box& box, int width, int height) {
  return box.x0 >= 0 && box.y0 >= 0 && box.x1 <= width && box.y1 <= height;
}

Box clip(const Box& box, int width, int height) {
  return checked({std::max(box.x0, 0), std::max(box.y0, 0), std::min(box.x1, width),
                  std::min(box.y1, height)});
}

Box grown(const Box& box, int margin) {
  return {box.x0 - margin, box.y0 - margin, box.x1 + margin, box.y1 + margin};
}

Box tight_box(const Pixels& mask) {
  Box box{mask.width, mask.height, 0, 0};
  const auto on = [](std::uint8_t value) { return value >= 128; };
  for (int y = 0; y < mask.height; ++y) {
    const std::uint8_t* row = mask.at(y, 0);
    const std::uint8_t* end = row + mask.width;
    const std::uint8_t* first = std::find_if(row, end, on);
    if (first == end) continue;
    const std::uint8_t* last = end - 1;
    while (!on(*last)) --last;
    box.x0 = std::min(box.x0, static_cast<int>(first - row));
    box.x1 = std::max(box.x1, static_cast<int>(last - row) + 1);
    box.y0 = std::min(box.y0, y);
    box.y1 = y + 1;
  }
  if (box.y1 == 0)
    fail_request("the mask is empty: paint the region to replace white (>= 128 of 255)");
  return box;
}

}  // namespace a2edit
