// How a text is cut into words before the model sees them: the "pre_tokenizer" of a tokenizer.json.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/text/config.hpp"

namespace a2edit {

struct Word {
  std::string text;
  bool first = false;  // it starts where the whole text does
};

using Cut = std::function<std::vector<Word>(const Word&)>;

// In their order; none where `config` is null. Throws BadTokenizer.
std::vector<Cut> pretokenizers_of(const Config& config);

// What one after the other makes of a word; none of them empty.
std::vector<Word> cut(const Word& word, const std::vector<Cut>& cuts);

}  // namespace a2edit
