#include "src/text/pretokenizers.hpp"

#include <array>

#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

enum class Kind { letter, number, space, other };

Kind kind_of(char32_t code) {
  if (is_letter(code)) return Kind::letter;
  if (is_number(code)) return Kind::number;
  return is_whitespace(code) ? Kind::space : Kind::other;
}

// The end of the run of characters of one kind that starts at a byte.
std::size_t run_end(std::string_view text, std::size_t at, Kind kind) {
  std::size_t end = at;
  while (at < text.size() && kind_of(next(text, at)) == kind) end = at;
  return end;
}

// Bytes of the English contraction at a byte, or 0.
std::size_t contraction(std::string_view text, std::size_t at) {
  for (const std::string_view known : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.substr(at, known.size()) == known) return known.size();
  return 0;
}

Kind kind_at(std::string_view text, std::size_t at) { return kind_of(next(text, at)); }

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t gpt2_end(std::string_view text, std::size_t at) {
  if (const std::size_t length = contraction(text, at)) return at + length;
  const std::size_t start = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  const Kind kind = kind_at(text, start);
  if (kind != Kind::space) return run_end(text, start, kind);
  const std::size_t end = run_end(text, at, Kind::space);
  if (end == text.size()) return end;
  std::size_t last = at;  // the space that goes with the word behind it
  for (std::size_t here = at; here < end; next(text, here)) last = here;
  return last > at ? last : end;
}

// 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
std::size_t clip_end(std::string_view text, std::size_t at) {
  if (const std::size_t length = contraction(text, at)) return at + length;
  const Kind kind = kind_at(text, at);
  if (kind == Kind::number) return at + length_at(text, at);
  return run_end(text, at, kind);
}

constexpr const char* kClipPattern = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
constexpr const char* kClipPatternWithTokens =
    R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";

// GPT-2's alphabet: a printable character for every byte.
std::array<char32_t, 256> byte_letters() {
  std::array<char32_t, 256> letters{};
  char32_t next_letter = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    letters[byte] = printable ? byte : next_letter++;
  }
  return letters;
}

Cut byte_level(const Config& config) {
  const bool space = flag_of(config, "add_prefix_space", true);
  const bool split = flag_of(config, "use_regex", true);
  return [space, split, letters = byte_letters()](const Word& word) {
    const std::string text = (space && word.text[0] != ' ' ? " " : "") + word.text;
    std::vector<Word> out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = split ? gpt2_end(text, at) : text.size();
      Word part{"", word.first && at == 0};
      for (; at < end; ++at) append(part.text, letters[static_cast<unsigned char>(text[at])]);
      out.push_back(std::move(part));
    }
    return out;
  };
}

Cut metaspace(const Config& config) {
  const std::string mark = text_of(config, "replacement");
  if (mark.empty() || !is_utf8(mark) || length_at(mark, 0) != mark.size())
    throw BadTokenizer("the \"replacement\" of \"Metaspace\" is not one character");
  std::string scheme =
      given(config, "prepend_scheme") ? text_of(config, "prepend_scheme") : "always";
  if (scheme != "always" && scheme != "first" && scheme != "never")
    unknown("the \"prepend_scheme\" of \"Metaspace\",", scheme);
  if (!flag_of(config, "add_prefix_space", true)) scheme = "never";
  const bool split = flag_of(config, "split", true);
  return [mark, scheme, split](const Word& word) {
    std::string text;
    for (const char letter : word.text) text += letter == ' ' ? mark : std::string(1, letter);
    const bool marked = text.compare(0, mark.size(), mark) == 0;
    if (!marked && (scheme == "always" || (scheme == "first" && word.first))) text.insert(0, mark);
    std::vector<Word> out;
    for (std::size_t start = 0; start < text.size();) {
      // a mark goes with what follows it; of several in a row, each stands alone but the last
      const std::size_t end = split ? text.find(mark, start + 1) : std::string::npos;
      const std::size_t length = std::min(end, text.size()) - start;
      out.push_back({text.substr(start, length), word.first && start == 0});
      start += length;
    }
    return out;
  };
}

// Words between whitespace, cut by `end_of`.
template <class EndOf>
Cut between_spaces(EndOf end_of) {
  return [end_of](const Word& word) {
    const std::string_view text = word.text;
    std::vector<Word> out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = end_of(text, at);
      if (kind_at(text, at) != Kind::space)
        out.push_back({std::string(text.substr(at, end - at)), word.first && at == 0});
      at = end;
    }
    return out;
  };
}

std::size_t word_end(std::string_view text, std::size_t at) {
  const bool space = kind_at(text, at) == Kind::space;
  std::size_t end = at;
  while (at < text.size() && (kind_of(next(text, at)) == Kind::space) == space) end = at;
  return end;
}

std::size_t clip_end_with_tokens(std::string_view text, std::size_t at) {
  for (const std::string_view token : {"<|startoftext|>", "<|endoftext|>"})
    if (text.substr(at, token.size()) == token) return at + token.size();
  return clip_end(text, at);
}

Cut split_of(const Config& config) {
  const Config& pattern = item(config, "pattern");
  const std::string expression =
      given(pattern, "Regex") ? text_of(pattern, "Regex") : text_of(pattern, "String");
  const bool kept = text_of(config, "behavior") == "Removed" && flag_of(config, "invert", false);
  if (kept && expression == kClipPattern) return between_spaces(clip_end);
  if (kept && expression == kClipPatternWithTokens) return between_spaces(clip_end_with_tokens);
  unknown("the pattern of the pre-tokenizer \"Split\",", expression);
}

Cut pretokenizer_of(const std::string& type, const Config& config) {
  if (type == "ByteLevel") return byte_level(config);
  if (type == "Metaspace") return metaspace(config);
  if (type == "WhitespaceSplit") return between_spaces(word_end);
  if (type == "Split") return split_of(config);
  unknown("the pre-tokenizer", type);
}

void collect(const Config& config, int depth, std::vector<Cut>& out) {
  if (config.is_null()) return;
  const std::string type = text_of(config, "type");
  if (type != "Sequence") {
    out.push_back(pretokenizer_of(type, config));
    return;
  }
  if (depth == kMostNested) throw BadTokenizer("its pre-tokenizers are nested too deep");
  for (const Config& each : list_of(config, "pretokenizers")) collect(each, depth + 1, out);
}

}  // namespace

std::vector<Cut> pretokenizers_of(const Config& config) {
  std::vector<Cut> out;
  collect(config, 0, out);
  return out;
}

std::vector<Word> cut(const Word& word, const std::vector<Cut>& cuts) {
  std::vector<Word> words{word};
  for (const Cut& once : cuts) {
    std::vector<Word> parts;
    for (const Word& each : words)
      if (!each.text.empty())
        for (Word& part : once(each)) parts.push_back(std::move(part));
    words = std::move(parts);
  }
  return words;
}

}  // namespace a2edit
