// What is done to a text before it is cut: the "normalizer" of a tokenizer.json.
#pragma once

#include <string>
#include <vector>

#include "src/text/config.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {

// In their order; none where `config` is null. Throws BadTokenizer.
std::vector<Rewrite> normalizers_of(const Config& config);

// What one after the other makes of a text.
std::string rewritten(std::string text, const std::vector<Rewrite>& rewrites);

}  // namespace a2edit
