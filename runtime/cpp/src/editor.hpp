// The editor: a bundle, opened; requests in, results out (runtime/editor.py).
#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "src/pictures/images.hpp"
#include "src/pipeline.hpp"
#include "src/text/tokenizer.hpp"

namespace a2edit {

// The edited picture and how it came about.
struct EditResult {
  Pixels image;                   // the size of the request's image; 4 channels if that had alpha
  std::vector<std::uint8_t> icc;  // colour profile of the image, or empty
  RoutePlan plan;
  std::uint64_t seed = 0;
  int steps = 0;
  Box window;  // the part of the image that the model saw, in its pixels
  std::string bundle_hash;
  std::vector<float> gate_weights;  // [L, N]
  std::vector<std::string> warnings;
  Clock::Seconds seconds;

  // What goes into a PNG's text chunks.
  TextChunks text() const;
};

// Runs edits on one bundle. Any number of threads may edit at a time: pictures are read, laid out and
// pasted back in parallel, and the engines work for one edit after the other, in no order.
class Editor {
 public:
  Editor(const std::string& bundle, const PipelineOptions& options);

  // `progress` is called after every step, in the calling thread; it must not use this editor.
  EditResult edit(const Request& request, const Progress& progress = {});

  // Open every engine now instead of at the first edit.
  void open_engines();

  // What does not change while it is open.
  const Manifest& manifest() const { return pipeline_.manifest(); }
  const std::string& target() const { return pipeline_.target(); }
  const std::string& backend() const { return pipeline_.backend(); }

 private:
  Pipeline pipeline_;
  PromptTokenizer text_;
  PromptTokenizer pooled_;
  std::mutex engines_;  // held while pipeline_ works
};

}  // namespace a2edit
