// a2edit_threads BUNDLE THREADS EDITS: edits of pixels by several threads on one editor. Every thread
// makes the same edits, each of another seed and size of picture, and all must give the same bytes.
// Prints how many there were.
#include <a2edit/a2edit.hpp>
#include <cstdio>
#include <stdexcept>
#include <thread>

namespace {

using Pixels = std::vector<std::uint8_t>;

// Slopes and stripes, so that neither rows nor columns are equal.
Pixels pattern(int width, int height) {
  Pixels pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (const int value : {x * 2, y * 2, x * y})
        pixels.push_back(static_cast<std::uint8_t>(value));
  return pixels;
}

Pixels edited(a2edit::Editor& editor, int number) {
  const int width = 96 + 8 * number, height = 80;
  const Pixels scene = pattern(width, height), object = pattern(40, 48);
  a2edit::Request request;
  request.image({scene.data(), width, height, 3, 0});
  request.reference({object.data(), 40, 48, 3, 0}).box(20, 16, 70, 64);
  request.prompt("caf\u00e9 number " + std::to_string(number)).seed(number).steps(2);
  int told = 0;
  const a2edit::Result result =
      editor.edit(request, [&told](int done, int) { return done == ++told; });
  const a2edit::PixelsView view = result.pixels();
  return Pixels(view.data, view.data + std::size_t(view.width) * view.height * view.channels);
}

}  // namespace

int main(int count, char** words) try {
  if (count != 4) return std::fprintf(stderr, "give a bundle, threads and edits\n"), 2;
  const int edits = std::stoi(words[3]);
  const auto threads = static_cast<std::size_t>(std::stoi(words[2]));
  a2edit::Editor editor(words[1]);
  std::vector<std::vector<Pixels>> made(threads);
  std::vector<std::string> failures(threads);
  std::vector<std::thread> running;
  for (std::size_t thread = 0; thread < threads; ++thread)
    running.emplace_back([&, thread] {
      try {
        for (int edit = 0; edit < edits; ++edit) made[thread].push_back(edited(editor, edit));
      } catch (const std::exception& error) {
        failures[thread] = error.what();
      }
    });
  for (std::thread& thread : running) thread.join();
  for (const std::string& failure : failures)
    if (!failure.empty()) throw std::runtime_error(failure);
  for (const std::vector<Pixels>& each : made)
    if (each != made.front()) throw std::runtime_error("threads made different pictures");
  std::printf("%zu threads, %d edits each, the same pictures of all\n", threads, edits);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
