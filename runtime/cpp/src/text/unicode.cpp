#include "src/text/unicode.hpp"

#include <unicode/normalizer2.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <memory>

#include "src/core/error.hpp"

namespace a2edit {
namespace {

void check(UErrorCode status) {
  if (U_FAILURE(status))
    throw Error(ErrorKind::internal, std::string("ICU failed: ") + u_errorName(status));
}

}  // namespace

bool is_utf8(std::string_view text) {
  const auto length = static_cast<std::int64_t>(text.size());
  for (std::int64_t at = 0; at < length;) {
    UChar32 code = 0;
    U8_NEXT(text.data(), at, length, code);
    if (code < 0) return false;
  }
  return true;
}

char32_t next(std::string_view text, std::size_t& at) {
  UChar32 code = 0;
  U8_NEXT(text.data(), at, text.size(), code);
  return static_cast<char32_t>(code);
}

std::size_t length_at(std::string_view text, std::size_t at) {
  std::size_t end = at;
  next(text, end);
  return end - at;
}

void append(std::string& text, char32_t code) {
  char bytes[U8_MAX_LENGTH];
  int length = 0;
  U8_APPEND_UNSAFE(bytes, length, static_cast<UChar32>(code));
  text.append(bytes, static_cast<std::size_t>(length));
}

bool is_letter(char32_t code) {
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_L_MASK) != 0;
}

bool is_number(char32_t code) {
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_N_MASK) != 0;
}

bool is_whitespace(char32_t code) { return u_isUWhiteSpace(static_cast<UChar32>(code)) != 0; }

Rewrite normalizer_to(Form form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer =
      form == Form::nfc    ? icu::Normalizer2::getNFCInstance(status)
      : form == Form::nfd  ? icu::Normalizer2::getNFDInstance(status)
      : form == Form::nfkc ? icu::Normalizer2::getNFKCInstance(status)
                           : icu::Normalizer2::getNFKDInstance(status);
  check(status);
  return [normalizer](const std::string& text) {
    UErrorCode failed = U_ZERO_ERROR;
    std::string out;
    icu::StringByteSink<std::string> sink(&out);
    normalizer->normalizeUTF8(0, text, sink, nullptr, failed);
    check(failed);
    return out;
  };
}

std::string lowercase(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next(text, at);
    append(out, static_cast<char32_t>(u_tolower(static_cast<UChar32>(code))));
    if (code == 0x130) append(out, 0x307);  // İ: the only one that becomes two
  }
  return out;
}

std::vector<std::string_view> graphemes(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<UText, decltype(&utext_close)> source(
      utext_openUTF8(nullptr, text.data(), static_cast<std::int64_t>(text.size()), &status),
      &utext_close);
  const std::unique_ptr<UBreakIterator, decltype(&ubrk_close)> breaks(
      ubrk_open(UBRK_CHARACTER, "", nullptr, 0, &status), &ubrk_close);
  ubrk_setUText(breaks.get(), source.get(), &status);
  check(status);
  std::vector<std::string_view> out;
  std::int32_t start = ubrk_first(breaks.get());
  for (std::int32_t end = ubrk_next(breaks.get()); end != UBRK_DONE;
       end = ubrk_next(breaks.get())) {
    out.push_back(
        text.substr(static_cast<std::size_t>(start), static_cast<std::size_t>(end - start)));
    start = end;
  }
  return out;
}

}  // namespace a2edit
