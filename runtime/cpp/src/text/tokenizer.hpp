// Prompts to ids, by the tokenizer files that the checkpoint came with, as in runtime/tokenizer.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace a2edit {

// One tokenizer.json at a fixed length: longer prompts are cut, shorter ones padded. What CLIP's,
// T5's and the embedded model's files hold is known; a file that holds something else is refused by
// name. Immutable: any number of threads may encode at once.
class PromptTokenizer {
 public:
  // A bundle error where the file cannot be read. `length` counts tokens.
  PromptTokenizer(const std::string& path, int length, std::int64_t pad_id);
  PromptTokenizer(PromptTokenizer&&) noexcept;
  PromptTokenizer& operator=(PromptTokenizer&&) noexcept;
  ~PromptTokenizer();

  // `length` ids, and whether the prompt had to be cut to fit. A request error where it is no
  // UTF-8.
  std::pair<std::vector<std::int64_t>, bool> encode(const std::string& prompt) const;

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
  std::string path_;
  int length_ = 0;
  std::int64_t pad_id_ = 0;
};

}  // namespace a2edit
