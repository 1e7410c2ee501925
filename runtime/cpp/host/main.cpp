// a2edit-host: one edit from the command line, over the public C++ interface.
#include <chrono>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>

#include "a2edit/a2edit.hpp"
#include "host/options.hpp"

namespace {

// One line, however many the message has.
int refuse(const std::string& message) {
  std::istringstream words(message);
  std::string line = "error:";
  for (std::string word; words >> word;) line += " " + word;
  std::fprintf(stderr, "%s\n", line.c_str());
  return 2;
}

void edit(const a2edit::host::Options& options) {
  a2edit::Request request;
  request.image(*options.image).reference(*options.reference).prompt(options.prompt);
  request.seed(options.seed).resize_mask(options.resize_mask);
  if (options.mask) request.mask(*options.mask);
  if (options.reference_mask) request.reference_mask(*options.reference_mask);
  for (const auto& box : options.boxes) request.box(box[0], box[1], box[2], box[3]);
  if (options.steps) request.steps(*options.steps);
  if (options.size) request.size(*options.size);

  const auto start = std::chrono::steady_clock::now();
  a2edit::Editor editor(options.bundle, {options.device, options.engine, options.route_tolerance,
                                         options.memory_budget, options.strict_route});
  const a2edit::Result result = editor.edit(request);
  result.save(*options.out);
  for (const std::string& warning : result.warnings())
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  const a2edit_outcome& outcome = result.outcome();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  std::printf("%s: route %s (%s), predicted error %.2f%%, seed %llu, %d steps, %.2f s\n",
              options.out->c_str(), outcome.route, outcome.supply, 100 * outcome.predicted_error,
              static_cast<unsigned long long>(outcome.seed), outcome.steps, spent.count());
}

}  // namespace

int main(int count, char** words) {
  try {
    const a2edit::host::Options options = a2edit::host::options_of(count, words);
    if (options.help)
      std::fputs(a2edit::host::help().c_str(), stdout);
    else if (options.version)
      std::printf("a2edit-host, version %s\n", a2edit::version().c_str());
    else
      edit(options);
    return 0;
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
}
