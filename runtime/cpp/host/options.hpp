// The command line of a2edit-host: a2edit-run's options for one edit, and its words where they are
// wrong.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace a2edit::host {

// Ends the program with exit code 2; what() is one sentence.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::optional<std::string> image, mask, reference, reference_mask, out;
  std::vector<std::array<std::int32_t, 4>> boxes;  // x0, y0, x1, y1 in pixels
  std::string prompt;
  std::optional<std::int32_t> steps, size;
  std::uint64_t seed = 0;
  bool resize_mask = false;
  std::string bundle;
  std::string device = "cpu", engine = "auto";
  std::optional<double> route_tolerance;  // relative error
  std::uint64_t memory_budget = 0;        // bytes; 0: no limit
  bool strict_route = false;
  bool help = false, version = false;
};

// Throws Refused, also for an output that could not be written at the end.
Options options_of(int count, char** words);

std::string help();

}  // namespace a2edit::host
