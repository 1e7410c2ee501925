// SentencePiece's table of what replaces what before a text is cut into pieces: a double array over
// the bytes of what is replaced, whose leaves point into a list of texts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace a2edit {

class Charsmap {
 public:
  // From base64, as tokenizer.json has it.
  explicit Charsmap(const std::string& encoded);

  std::string operator()(std::string_view text) const;

 private:
  // What replaces the start of `part`, or null: the shortest entry counts.
  const char* replacement(std::string_view part) const;

  std::vector<std::uint32_t> units_;
  std::string texts_;  // each ends with a zero byte
};

}  // namespace a2edit
