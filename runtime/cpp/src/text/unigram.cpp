// Unigram: of all ways to cut a word into tokens, the one with the greatest sum of scores.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <unordered_map>

#include "src/text/model.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

// What an unknown character costs beside the rarest token.
constexpr double kUnknownPenalty = 10.0;

// A score as Python's tokenizers reads it: its digits as a whole number, over or times a power of
// ten. That is a last bit off at times, and decides between ways to cut a word that are worth the
// same.
double score_of(double number) {
  char text[32];
  const auto end =
      std::to_chars(text, text + sizeof text, std::fabs(number), std::chars_format::scientific).ptr;
  const std::string written(text, end);
  const std::size_t mark = written.find('e');
  std::string digits = written.substr(0, mark);
  int exponent = std::atoi(written.c_str() + mark + 1);
  if (digits.size() > 1) {
    exponent -= static_cast<int>(digits.size()) - 2;
    digits.erase(1, 1);  // the point
  }
  if (std::abs(exponent) > 300) return number;
  const double whole = static_cast<double>(std::strtoull(digits.c_str(), nullptr, 10));
  const double power = std::strtod(("1e" + std::to_string(std::abs(exponent))).c_str(), nullptr);
  return std::copysign(exponent < 0 ? whole / power : whole * power, number);
}

class Unigram : public TokenModel {
 public:
  explicit Unigram(const Config& config) {
    byte_fallback_ = flag_of(config, "byte_fallback", false);
    const Config& vocabulary = list_of(config, "vocab");
    double least = std::numeric_limits<double>::infinity();
    for (const Config& entry : vocabulary) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
        throw BadTokenizer("an entry of \"vocab\" is no token with its score");
      const std::string token = entry[0].get<std::string>();
      longest_ = std::max(longest_, token.size());
      ids_[token] = static_cast<std::uint32_t>(scores_.size());
      scores_.push_back(score_of(entry[1].get<double>()));
      least = std::min(least, scores_.back());
    }
    unknown_score_ = least - kUnknownPenalty;
    if (given(config, "unk_id")) {
      unknown_ = id_of(config.at("unk_id"));
      if (*unknown_ >= scores_.size())
        throw BadTokenizer("The `unk_id` is larger than vocabulary size");
    }
  }

  void encode(const std::string& word, std::vector<std::int64_t>& ids) const override {
    const std::vector<Step> best = best_path(word);
    std::vector<std::pair<std::size_t, std::size_t>> parts;  // from the end to the start
    bool after_unknown = false;
    for (std::size_t end = word.size(); end > 0; end = best[end].start) {
      const bool is_unknown = best[end].id == unknown_;
      if (is_unknown && after_unknown)
        parts.back().first = best[end].start;  // neighbours are one
      else
        parts.emplace_back(best[end].start, end);
      after_unknown = is_unknown;
    }
    for (auto part = parts.rbegin(); part != parts.rend(); ++part)
      append_ids(word.substr(part->first, part->second - part->first), ids);
  }

 private:
  struct Step {
    double score = 0;
    std::size_t start = 0;
    std::uint32_t id = 0;
    bool reached = false;
  };

  // By where a token ends, in bytes: the last step of the best path there.
  std::vector<Step> best_path(const std::string& word) const {
    std::vector<Step> best(word.size() + 1);
    const auto offer = [&](std::size_t start, std::size_t end, double score, std::uint32_t id) {
      Step& step = best[end];
      const double sum = score + best[start].score;
      if (!step.reached || sum > step.score) step = {sum, start, id, true};
    };
    for (std::size_t start = 0; start < word.size();) {
      const std::size_t letter = length_at(word, start);
      bool single = false;
      const std::size_t most = std::min(longest_, word.size() - start);
      for (std::size_t length = 1; length <= most; ++length) {
        const auto found = ids_.find(word.substr(start, length));
        if (found == ids_.end()) continue;
        offer(start, start + length, scores_[found->second], found->second);
        single |= length == letter;
      }
      if (!single) offer(start, start + letter, unknown_score_, known_unknown());
      start += letter;
    }
    return best;
  }

  std::uint32_t known_unknown() const {
    if (!unknown_) throw BadTokenizer("Encountered an unknown token but `unk_id` is missing");
    return *unknown_;
  }

  void append_ids(const std::string& part, std::vector<std::int64_t>& ids) const {
    const auto found = ids_.find(part);
    if (found != ids_.end()) return ids.push_back(found->second);
    std::vector<std::int64_t> bytes;
    for (const char byte : part) {
      const auto token = byte_fallback_ ? ids_.find(byte_token(byte)) : ids_.end();
      if (token == ids_.end()) return ids.push_back(known_unknown());
      bytes.push_back(token->second);
    }
    ids.insert(ids.end(), bytes.begin(), bytes.end());
  }

  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<double> scores_;
  std::size_t longest_ = 0;  // bytes of the longest token
  std::optional<std::uint32_t> unknown_;
  double unknown_score_ = 0;
  bool byte_fallback_ = false;
};

}  // namespace

std::unique_ptr<TokenModel> unigram_of(const Config& config) {
  return std::make_unique<Unigram>(config);
}

}  // namespace a2edit
