// Tokens that are looked for in the text itself, before any model sees it: the "added_tokens" of a
// tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/text/normalizers.hpp"
#include "src/text/pretokenizers.hpp"

namespace a2edit {

// A part of a text: an added token, or words for the model.
struct Part {
  Word word;
  std::optional<std::int64_t> id;
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // `rewrites` are done to the text, and so to the tokens that are looked for in what they leave.
  AddedTokens(const Config& config, std::vector<Rewrite> rewrites);

  // The parts of a text, normalised where they are no added tokens.
  std::vector<Part> split(const std::string& text) const;

 private:
  struct Token {
    std::string text;
    std::int64_t id;
    bool takes_left;  // whitespace beside it belongs to it
    bool takes_right;
  };

  static void split_by(const std::vector<Token>& tokens, const Word& word, std::vector<Part>& out);

  std::vector<Token> raw_;         // looked for in the text as given, the longest first
  std::vector<Token> normalised_;  // looked for in what the normalizers leave of it
  std::vector<Rewrite> rewrites_;
};

}  // namespace a2edit
