// edits BUNDLE IMAGE MASK REFERENCE OUT THREADS EDITS: edits of one request by several threads on one
// editor, seeds counting up over all of them; OUT<seed>.png are what they make. The request has the
// image as a path, and the others as a file's bytes.
#include <a2edit/a2edit.hpp>
#include <fstream>
#include <iostream>
#include <iterator>
#include <thread>

namespace {

std::string bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

a2edit::EncodedView view_of(const std::string& bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

}  // namespace

int main(int count, char** words) try {
  if (count != 8) return 2;
  const int threads = std::stoi(words[6]), edits = std::stoi(words[7]);
  a2edit::Editor editor(words[1]);
  std::vector<std::string> failures(static_cast<std::size_t>(threads));
  const auto work = [&](int thread) {
    try {
      for (int edit = 0; edit < edits; ++edit) {
        const int seed = thread * edits + edit;
        a2edit::Request request;
        const std::string mask = bytes_of(words[3]), reference = bytes_of(words[4]);
        request.image(words[2]).mask(view_of(mask)).reference(view_of(reference));
        request.seed(seed).steps(2);
        request.prompt("a red");
        int told = 0;
        const a2edit::Result result =
            editor.edit(request, [&told](int done, int) { return done == ++told; });
        result.save(words[5] + std::to_string(seed) + ".png");
      }
    } catch (const std::exception& error) {
      failures[static_cast<std::size_t>(thread)] = error.what();
    }
  };
  std::vector<std::thread> running;
  for (int thread = 0; thread < threads; ++thread) running.emplace_back(work, thread);
  for (std::thread& thread : running) thread.join();
  for (const std::string& failure : failures)
    if (!failure.empty()) throw std::runtime_error(failure);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
