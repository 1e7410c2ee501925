#include <doctest/doctest.h>

#include "src/text/config.hpp"
#include "src/text/model.hpp"
#include "src/text/normalizers.hpp"
#include "src/text/pretokenizers.hpp"
#include "src/text/unicode.hpp"

using namespace a2edit;

namespace {

std::vector<std::string> words(const char* config, const std::string& text) {
  std::vector<std::string> out;
  for (const Word& word : cut({text, true}, pretokenizers_of(Config::parse(config))))
    out.push_back(word.text);
  return out;
}

std::string normal(const char* config, const std::string& text) {
  return rewritten(text, normalizers_of(Config::parse(config)));
}

std::vector<std::int64_t> ids(const TokenModel& model, const std::string& word) {
  std::vector<std::int64_t> out;
  model.encode(word, out);
  return out;
}

using Words = std::vector<std::string>;
using Ids = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("bytes become letters, and spaces go with the word behind them") {
  const char* config = R"({"type": "ByteLevel", "add_prefix_space": true})";
  CHECK(words(config, "it's  a caf\u00e9") ==
        Words{"\u0120it", "'s", "\u0120", "\u0120a", "\u0120caf\u00c3\u00a9"});
  CHECK(words(config, "x2 !?\n") == Words{"\u0120x", "2", "\u0120!?", "\u010a"});
}

TEST_CASE("a mark stands for a space") {
  const char* config = R"({"type": "Metaspace", "replacement": "\u2581"})";
  CHECK(words(config, "a  red cup") == Words{"\u2581"
                                             "a",
                                             "\u2581", "\u2581red",
                                             "\u2581"
                                             "cup"});
}

TEST_CASE("texts are normalised in order") {
  const char* config =
      R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"},
    {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Strip"}]})";
  CHECK(normal(config, "  CAFE\u0301\t\n \u0130x ") == "caf\u00e9 i\u0307x");
}

TEST_CASE("pairs are merged by rank, from the left") {
  const auto model = bpe_of(Config::parse(R"({"vocab": {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4},
    "merges": [["b", "a"], ["a", "b"], ["ab", "a"]]})"));
  CHECK(ids(*model, "aba") == Ids{0, 3});
  CHECK(ids(*model, "ab") == Ids{2});
  CHECK(ids(*model, "axb") == Ids{2});  // what has no token, and no name for that, is nothing
}

TEST_CASE("the best sum of scores wins, and unknown neighbours are one") {
  const auto model =
      unigram_of(Config::parse(R"({"unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -2.0],
    ["b", -2.0], ["ab", -3.0], ["abb", -9.0]]})"));
  CHECK(ids(*model, "ab") == Ids{3});
  CHECK(ids(*model, "abb") == Ids{3, 2});
  CHECK(ids(*model, "axyb") == Ids{1, 0, 2});
}

TEST_CASE("graphemes are what a reader takes for one character") {
  CHECK(graphemes("ae\u0301\r\n").size() == 3);
  CHECK_FALSE(is_utf8("a\xc3"));
}
