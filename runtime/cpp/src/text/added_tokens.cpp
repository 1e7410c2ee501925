#include "src/text/added_tokens.hpp"

#include <algorithm>

#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

// Where the whitespace at the end of a text starts.
std::size_t trailing_space(std::string_view text) {
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();)
    if (!is_whitespace(next(text, at))) start = at;
  return start;
}

std::size_t leading_space(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size() && is_whitespace(next(text, at));) end = at;
  return end;
}

}  // namespace

AddedTokens::AddedTokens(const Config& config, std::vector<Rewrite> rewrites)
    : rewrites_(std::move(rewrites)) {
  for (const Config& entry : config) {
    Token token{text_of(entry, "content"), id_of(item(entry, "id")),
                flag_of(entry, "lstrip", false), flag_of(entry, "rstrip", false)};
    if (token.text.empty()) continue;
    if (flag_of(entry, "single_word", false))
      unknown("the added token of a single word,", token.text);
    const bool rewrites_it = flag_of(entry, "normalized", false);
    if (rewrites_it) token.text = rewritten(token.text, rewrites_);
    if (!token.text.empty()) (rewrites_it ? normalised_ : raw_).push_back(token);
  }
  const auto longer = [](const Token& one, const Token& other) {
    return one.text.size() > other.text.size();
  };
  std::stable_sort(raw_.begin(), raw_.end(), longer);
  std::stable_sort(normalised_.begin(), normalised_.end(), longer);
}

void AddedTokens::split_by(const std::vector<Token>& tokens, const Word& word,
                           std::vector<Part>& out) {
  const std::string_view text = word.text;
  std::size_t done = 0;
  const auto keep = [&](std::size_t end) {
    if (end > done)
      out.push_back({{std::string(text.substr(done, end - done)), word.first && done == 0}, {}});
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto found = std::find_if(tokens.begin(), tokens.end(), [&](const Token& token) {
      return text.compare(at, token.text.size(), token.text) == 0;
    });
    if (found == tokens.end()) {
      at += length_at(text, at);
      continue;
    }
    std::size_t end = at + found->text.size();
    const std::size_t start =
        found->takes_left ? std::max(trailing_space(text.substr(0, at)), done) : at;
    keep(start);
    at = end;
    if (found->takes_right) end += leading_space(text.substr(end));
    out.push_back({{}, found->id});
    done = end;
  }
  keep(text.size());
}

std::vector<Part> AddedTokens::split(const std::string& text) const {
  std::vector<Part> raw, out;
  split_by(raw_, {text, true}, raw);
  for (const Part& part : raw) {
    if (part.id)
      out.push_back(part);
    else
      split_by(normalised_, {rewritten(part.word.text, rewrites_), part.word.first}, out);
  }
  return out;
}

}  // namespace a2edit
