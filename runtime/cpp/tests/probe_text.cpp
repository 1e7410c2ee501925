// The tokenizer of src/text.
#include <algorithm>
#include <optional>

#include "src/text/tokenizer.hpp"
#include "tests/probe.hpp"

using a2edit::probe::answered;

namespace {

std::optional<a2edit::PromptTokenizer> tokenizer;

}  // namespace

PROBE int probe_open_tokenizer(const char* path, std::int64_t length, std::int64_t pad_id) {
  return answered([&] { tokenizer.emplace(path, static_cast<int>(length), pad_id); });
}

// As many ids as the tokenizer is long, and one more: whether the prompt was cut.
PROBE int probe_encode_prompt(const char* prompt, std::int64_t size, std::int64_t* out) {
  return answered([&] {
    const auto [ids, cut] = tokenizer->encode(std::string(prompt, static_cast<std::size_t>(size)));
    *std::copy(ids.begin(), ids.end(), out) = cut;
  });
}
