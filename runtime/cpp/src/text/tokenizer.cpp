#include "src/text/tokenizer.hpp"

#include <cerrno>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/text/added_tokens.hpp"
#include "src/text/model.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {
namespace {

using Ids = std::vector<std::int64_t>;

// What stands around the tokens of a prompt: the "post_processor".
struct Frame {
  Ids before;
  Ids after;
};

// ["</s>", 1]
std::int64_t frame_token(const Config& config, const char* key) {
  const Config& pair = list_of(config, key);
  if (pair.size() != 2) throw BadTokenizer(std::string("\"") + key + "\" is no token with its id");
  return id_of(pair[1]);
}

// The pieces for one text: special tokens around the "A" that stands for it.
void add_template(const Config& config, Frame& frame) {
  std::map<std::string, Ids> special;
  for (const auto& [name, token] : item(config, "special_tokens").items())
    for (const Config& id : list_of(token, "ids")) special[name].push_back(id_of(id));
  Frame around;
  bool seen = false;
  for (const Config& piece : list_of(config, "single")) {
    if (given(piece, "Sequence")) {
      const std::string name = text_of(item(piece, "Sequence"), "id");
      if (seen || name != "A") unknown("a template with the sequence", name);
      seen = true;
      continue;
    }
    const Ids& ids = special[text_of(item(piece, "SpecialToken"), "id")];
    Ids& side = seen ? around.after : around.before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!seen) throw BadTokenizer("its template has no place for the text");
  frame.before.insert(frame.before.begin(), around.before.begin(), around.before.end());
  frame.after.insert(frame.after.end(), around.after.begin(), around.after.end());
}

void collect(const Config& config, int depth, Frame& frame) {
  if (config.is_null()) return;
  const std::string type = text_of(config, "type");
  if (type == "Sequence") {
    if (depth == kMostNested) throw BadTokenizer("its post-processors are nested too deep");
    for (const Config& each : list_of(config, "processors")) collect(each, depth + 1, frame);
  } else if (type == "TemplateProcessing") {
    add_template(config, frame);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    frame.before.insert(frame.before.begin(), frame_token(config, "cls"));
    frame.after.push_back(frame_token(config, "sep"));
  } else if (type != "ByteLevel") {  // which moves offsets, and no ids
    unknown("the post-processor", type);
  }
}

std::unique_ptr<TokenModel> model_of(const Config& config) {
  // older files do not name it, and have merges where it is BPE
  const bool named = given(config, "type");
  const std::string type = named ? text_of(config, "type") : given(config, "merges") ? "BPE" : "";
  if (type == "BPE") return bpe_of(config);
  if (type == "Unigram") return unigram_of(config);
  unknown("the model", type);
}

std::string contents(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || !text)
    throw BadTokenizer(errno ? std::generic_category().message(errno) : "it is empty");
  return text.str();
}

}  // namespace

struct PromptTokenizer::Parts {
  AddedTokens added;
  std::vector<Cut> cuts;
  std::unique_ptr<TokenModel> model;
  Frame frame;

  explicit Parts(const Config& config) {
    const auto part = [&](const char* key) {
      return given(config, key) ? config.at(key) : Config();
    };
    added = AddedTokens(part("added_tokens"), normalizers_of(part("normalizer")));
    cuts = pretokenizers_of(part("pre_tokenizer"));
    model = model_of(item(config, "model"));
    collect(part("post_processor"), 0, frame);
  }
};

PromptTokenizer::PromptTokenizer(const std::string& path, int length, std::int64_t pad_id)
    : path_(path), length_(length), pad_id_(pad_id) {
  try {
    parts_ = std::make_unique<const Parts>(Config::parse(contents(path)));
    const std::size_t framed = parts_->frame.before.size() + parts_->frame.after.size();
    if (length < 0 || framed > static_cast<std::size_t>(length))
      throw BadTokenizer("its special tokens alone exceed the length of " + std::to_string(length));
  } catch (const Config::parse_error& error) {  // whose own words show bytes that may be no text
    fail_bundle("tokenizer " + repr(path) + " cannot be read: it is no JSON from byte " +
                std::to_string(error.byte) + " on");
  } catch (const Config::exception& error) {
    fail_bundle("tokenizer " + repr(path) + " cannot be read: " + error.what());
  } catch (const BadTokenizer& error) {
    fail_bundle("tokenizer " + repr(path) + " cannot be read: " + error.what());
  }
}

PromptTokenizer::PromptTokenizer(PromptTokenizer&&) noexcept = default;
PromptTokenizer& PromptTokenizer::operator=(PromptTokenizer&&) noexcept = default;
PromptTokenizer::~PromptTokenizer() = default;

std::pair<Ids, bool> PromptTokenizer::encode(const std::string& prompt) const {
  if (!is_utf8(prompt))
    fail_request("prompt is not valid Unicode: " + repr(prompt) + "; give it as UTF-8");
  Ids ids;
  try {
    for (const Part& part : parts_->added.split(prompt)) {
      if (part.id) ids.push_back(*part.id);
      for (const Word& word : cut(part.word, parts_->cuts))
        if (!word.text.empty()) parts_->model->encode(word.text, ids);
    }
  } catch (const BadTokenizer& error) {
    fail_bundle("tokenizer " + repr(path_) + " cannot encode a prompt: " + error.what());
  }
  const Frame& frame = parts_->frame;
  const std::size_t room =
      static_cast<std::size_t>(length_) - frame.before.size() - frame.after.size();
  const bool cut_off = ids.size() > room;
  if (cut_off) ids.resize(room);
  ids.insert(ids.begin(), frame.before.begin(), frame.before.end());
  ids.insert(ids.end(), frame.after.begin(), frame.after.end());
  ids.resize(static_cast<std::size_t>(length_), pad_id_);
  return {std::move(ids), cut_off};
}

}  // namespace a2edit
