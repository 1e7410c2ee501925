#include "src/text/normalizers.hpp"

#include <map>
#include <memory>

#include "src/text/charsmap.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

std::string stripped(const std::string& text, bool left, bool right) {
  std::size_t start = text.size(), end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t here = at;
    if (is_whitespace(next(text, at))) continue;
    start = std::min(start, here);
    end = at;
  }
  if (end == 0) return left || right ? std::string() : text;
  if (!left) start = 0;
  if (!right) end = text.size();
  return text.substr(start, end - start);
}

std::string replaced(const std::string& text, const std::string& old, const std::string& by) {
  std::string out;
  std::size_t start = 0;
  for (std::size_t at = text.find(old); at != std::string::npos; at = text.find(old, start)) {
    out.append(text, start, at - start).append(by);
    start = at + old.size();
  }
  return out.append(text, start);
}

// Runs of at least `least` characters that `belongs` takes.
template <class Belongs>
std::string replaced_runs(const std::string& text, std::size_t least, const std::string& by,
                          Belongs belongs) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    std::size_t run = 0, end = at;
    while (at < text.size() && belongs(next(text, at))) {
      ++run;
      end = at;
    }
    if (run >= least) {
      out += by;
      at = end;
    } else {
      at = run > 0 ? end : start + length_at(text, start);
      out.append(text, start, at - start);
    }
  }
  return out;
}

// A regular expression is taken by what it says: these are CLIP's and T5's.
Rewrite replacement_of(const Config& config) {
  const Config& pattern = item(config, "pattern");
  const std::string by = text_of(config, "content");
  if (given(pattern, "String")) {
    const std::string old = text_of(pattern, "String");
    if (old.empty()) throw BadTokenizer("the normalizer \"Replace\" has an empty pattern");
    return [old, by](const std::string& text) { return replaced(text, old, by); };
  }
  const std::string expression = text_of(pattern, "Regex");
  if (expression == "\\s+")
    return [by](const std::string& text) { return replaced_runs(text, 1, by, is_whitespace); };
  if (expression == " {2,}")
    return [by](const std::string& text) {
      return replaced_runs(text, 2, by, [](char32_t code) { return code == ' '; });
    };
  unknown("the regular expression of the normalizer \"Replace\",", expression);
}

Rewrite normalizer_of(const std::string& type, const Config& config) {
  static const std::map<std::string, Form> forms{
      {"NFC", Form::nfc}, {"NFD", Form::nfd}, {"NFKC", Form::nfkc}, {"NFKD", Form::nfkd}};
  const auto form = forms.find(type);
  if (form != forms.end()) return normalizer_to(form->second);
  if (type == "Lowercase") return [](const std::string& text) { return lowercase(text); };
  if (type == "Strip")
    return [left = flag_of(config, "strip_left", true),
            right = flag_of(config, "strip_right", true)](const std::string& text) {
      return stripped(text, left, right);
    };
  if (type == "Prepend")
    return [start = text_of(config, "prepend")](const std::string& text) {
      return text.empty() ? text : start + text;
    };
  if (type == "Replace") return replacement_of(config);
  if (type == "Precompiled") {
    const auto table = std::make_shared<Charsmap>(text_of(config, "precompiled_charsmap"));
    return [table](const std::string& text) { return (*table)(text); };
  }
  unknown("the normalizer", type);
}

void collect(const Config& config, int depth, std::vector<Rewrite>& out) {
  if (config.is_null()) return;
  const std::string type = text_of(config, "type");
  if (type != "Sequence") {
    out.push_back(normalizer_of(type, config));
    return;
  }
  if (depth == kMostNested) throw BadTokenizer("its normalizers are nested too deep");
  for (const Config& each : list_of(config, "normalizers")) collect(each, depth + 1, out);
}

}  // namespace

std::vector<Rewrite> normalizers_of(const Config& config) {
  std::vector<Rewrite> out;
  collect(config, 0, out);
  return out;
}

std::string rewritten(std::string text, const std::vector<Rewrite>& rewrites) {
  for (const Rewrite& rewrite : rewrites) text = rewrite(text);
  return text;
}

}  // namespace a2edit
