// From a word to ids: the "model" of a tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/text/config.hpp"

namespace a2edit {

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of a word that is not empty.
  virtual void encode(const std::string& word, std::vector<std::int64_t>& ids) const = 0;
};

// Each throws BadTokenizer.
std::unique_ptr<TokenModel> bpe_of(const Config& config);
std::unique_ptr<TokenModel> unigram_of(const Config& config);

// "<0x0A>", the token of a byte that no other token holds.
std::string byte_token(char byte);

}  // namespace a2edit
