// Byte-pair encoding: characters first, then the neighbours that were merged first in training.
#include <cstdio>
#include <optional>
#include <queue>
#include <unordered_map>

#include "src/text/model.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

using Vocabulary = std::unordered_map<std::string, std::uint32_t>;

struct Merge {
  std::uint32_t rank;  // the lowest goes first
  std::uint32_t id;    // of what the two become
};

// A token of the word while it is being merged; `next` and `previous` are places, -1 is none.
struct Symbol {
  std::uint32_t id;
  int previous;
  int next;
  bool gone = false;
};

struct Candidate {
  std::uint32_t rank;
  int place;
  std::uint32_t id;
  bool operator<(const Candidate& other) const {  // the queue's top is the greatest
    return rank != other.rank ? rank > other.rank : place > other.place;
  }
};

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
  return std::uint64_t{left} << 32U | right;
}

class Bpe : public TokenModel {
 public:
  explicit Bpe(const Config& config) {
    if (given(config, "dropout")) throw BadTokenizer("\"dropout\" is not known here");
    if (given(config, "continuing_subword_prefix") &&
        !text_of(config, "continuing_subword_prefix").empty())
      throw BadTokenizer("\"continuing_subword_prefix\" is not known here");
    if (given(config, "end_of_word_suffix")) suffix_ = text_of(config, "end_of_word_suffix");
    fuse_unknown_ = flag_of(config, "fuse_unk", false);
    byte_fallback_ = flag_of(config, "byte_fallback", false);
    ignore_merges_ = flag_of(config, "ignore_merges", false);
    const Config& vocabulary = item(config, "vocab");
    if (!vocabulary.is_object()) throw BadTokenizer("\"vocab\" is no table");
    for (const auto& [token, id] : vocabulary.items()) vocabulary_[token] = id_of(id);
    if (given(config, "unk_token")) {
      unknown_ = id_or_none(text_of(config, "unk_token"));
      if (!unknown_) throw BadTokenizer("\"unk_token\" is not in the vocabulary");
    }
    std::uint32_t rank = 0;
    for (const Config& merge : list_of(config, "merges")) add(merge, rank++);
  }

  void encode(const std::string& word, std::vector<std::int64_t>& ids) const override {
    if (ignore_merges_)
      if (const auto whole = id_or_none(word)) return ids.push_back(*whole);
    std::vector<Symbol> symbols = symbols_of(word);
    merge(symbols);
    for (const Symbol& symbol : symbols)
      if (!symbol.gone) ids.push_back(symbol.id);
  }

 private:
  std::optional<std::uint32_t> id_or_none(const std::string& token) const {
    const auto found = vocabulary_.find(token);
    return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
  }

  std::uint32_t id(const std::string& token) const {
    const auto found = id_or_none(token);
    if (!found) throw BadTokenizer("token \"" + token + "\" of a merge is not in the vocabulary");
    return *found;
  }

  // ["a", "b"], or "a b" in older files.
  void add(const Config& merge, std::uint32_t rank) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const std::string both = merge.get<std::string>();
      const std::size_t space = both.find(' ');
      if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos)
        throw BadTokenizer("merge " + std::to_string(rank + 1) + " is no pair of tokens");
      left = both.substr(0, space);
      right = both.substr(space + 1);
    } else {
      throw BadTokenizer("merge " + std::to_string(rank + 1) + " is no pair of tokens");
    }
    merges_[pair_key(id(left), id(right))] = {rank, id(left + right)};
  }

  // Characters; those without a token are "unknown", a token for each byte, or nothing.
  std::vector<Symbol> symbols_of(const std::string& word) const {
    std::vector<Symbol> symbols;
    const auto add = [&](std::uint32_t id) {
      const int place = static_cast<int>(symbols.size());
      if (place > 0) symbols.back().next = place;
      symbols.push_back({id, place - 1, -1});
    };
    bool after_unknown = false;
    for (std::size_t at = 0; at < word.size();) {
      std::string letter = word.substr(at, length_at(word, at));
      at += letter.size();
      if (at == word.size()) letter += suffix_;
      if (const auto known = id_or_none(letter)) {
        add(*known);
        after_unknown = false;
      } else if (const auto bytes = byte_ids(letter); !bytes.empty()) {
        for (const std::uint32_t byte : bytes) add(byte);
        after_unknown = false;
      } else if (unknown_) {
        if (!after_unknown || !fuse_unknown_) add(*unknown_);
        after_unknown = true;
      }
    }
    return symbols;
  }

  std::vector<std::uint32_t> byte_ids(const std::string& letter) const {
    std::vector<std::uint32_t> ids;
    if (!byte_fallback_) return ids;
    for (const char byte : letter) {
      const auto known = id_or_none(byte_token(byte));
      if (!known) return {};
      ids.push_back(*known);
    }
    return ids;
  }

  void merge(std::vector<Symbol>& symbols) const {
    std::priority_queue<Candidate> queue;
    const auto consider = [&](int place) {
      if (place < 0 || symbols[place].next < 0) return;
      const auto found = merges_.find(pair_key(symbols[place].id, symbols[symbols[place].next].id));
      if (found != merges_.end()) queue.push({found->second.rank, place, found->second.id});
    };
    for (int place = 0; place + 1 < static_cast<int>(symbols.size()); ++place) consider(place);
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Symbol& left = symbols[top.place];
      if (left.gone || left.next < 0) continue;
      Symbol& right = symbols[left.next];
      const auto found = merges_.find(pair_key(left.id, right.id));
      if (found == merges_.end() || found->second.id != top.id) continue;  // merged otherwise since
      left.id = top.id;
      right.gone = true;
      left.next = right.next;
      if (left.next >= 0) symbols[left.next].previous = top.place;
      consider(left.previous);
      consider(top.place);
    }
  }

  Vocabulary vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::string suffix_;
  std::optional<std::uint32_t> unknown_;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace

std::string byte_token(char byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>",
                static_cast<unsigned>(static_cast<unsigned char>(byte)));
  return text;
}

std::unique_ptr<TokenModel> bpe_of(const Config& config) { return std::make_unique<Bpe>(config); }

}  // namespace a2edit
