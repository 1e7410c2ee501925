// What tokenizers ask of Unicode. Texts are valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace a2edit {

// What is done to a text before it is cut.
using Rewrite = std::function<std::string(const std::string&)>;

bool is_utf8(std::string_view text);

// The code point at a byte, which moves on behind it.
char32_t next(std::string_view text, std::size_t& at);

// Bytes of the code point that starts with this one.
std::size_t length_at(std::string_view text, std::size_t at);

void append(std::string& text, char32_t code);

bool is_letter(char32_t code);      // \p{L}
bool is_number(char32_t code);      // \p{N}
bool is_whitespace(char32_t code);  // \s

enum class Form { nfc, nfd, nfkc, nfkd };
// What brings texts to a form. ICU makes its tables when this is called, and not while texts are
// rewritten, so that threads which share the result find them made.
Rewrite normalizer_to(Form form);

// Each character for itself, whatever stands around it.
std::string lowercase(std::string_view text);

// Extended grapheme clusters: what a reader takes for one character.
std::vector<std::string_view> graphemes(std::string_view text);

}  // namespace a2edit
