#include "host/options.hpp"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/pictures/boxes.hpp"
#include "src/pictures/images.hpp"

namespace a2edit::host {
namespace {

constexpr const char* kSeeHelp = " (see a2edit-host --help)";

struct Option {
  const char* name;
  const char* value;  // how the help calls it; null for a flag
  const char* meaning;
  std::function<void(Options&, const std::string&)> take;
  bool late = false;  // taken when nothing is missing: what its value means is judged last
};

// Of any size.
void check_whole(const std::string& name, const std::string& text) {
  const std::size_t sign = text[0] == '-' || text[0] == '+' ? 1 : 0;
  if (text.size() == sign || text.find_first_not_of("0123456789", sign) != std::string::npos)
    throw Refused("Invalid value for '" + name + "': " + repr(text) + " is not a valid integer." +
                  kSeeHelp);
}

std::int32_t small_whole(const std::string& name, const std::string& text) {
  check_whole(name, text);
  errno = 0;
  const long long number = std::strtoll(text.c_str(), nullptr, 10);
  if (errno == ERANGE || number < std::numeric_limits<std::int32_t>::min() ||
      number > std::numeric_limits<std::int32_t>::max())
    throw Refused("Invalid value for '" + name + "': " + repr(text) + " is not a valid integer." +
                  kSeeHelp);
  return static_cast<std::int32_t>(number);
}

// 0 means "the bundle's" at the C edge, and is no number of steps here.
std::int32_t steps_of(const std::string& text) {
  const std::int32_t steps = small_whole("--steps", text);
  if (steps == 0) throw Refused("steps must be between 1 and 1000, got 0");
  return steps;
}

std::uint64_t seed_of(const std::string& text) {
  errno = 0;
  const unsigned long long seed = std::strtoull(text.c_str(), nullptr, 10);
  if (errno == ERANGE || text[0] == '-')
    throw Refused("seed must be between 0 and 2^64 - 1, got " + text);
  return seed;
}

double real(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0')
    throw Refused("Invalid value for '" + name + "': " + repr(text) + " is not a valid float." +
                  kSeeHelp);
  return number;
}

// "500MB", "8GiB", "1.5 GB" or "4096": powers of 1000, with an i of 1024.
std::uint64_t amount_of(const std::string& text) {
  static const std::map<std::string, double> units{{"", 1},
                                                   {"b", 1},
                                                   {"kb", 1e3},
                                                   {"mb", 1e6},
                                                   {"gb", 1e9},
                                                   {"tb", 1e12},
                                                   {"kib", 1024.0},
                                                   {"mib", 1048576.0},
                                                   {"gib", 1073741824.0},
                                                   {"tib", 1099511627776.0}};
  const char* start = text.c_str();
  char* end = nullptr;
  const bool digit =
      text.find_first_not_of(' ') != std::string::npos &&
      std::string("0123456789").find(text[text.find_first_not_of(' ')]) != std::string::npos;
  const double number = digit ? std::strtod(start, &end) : 0;
  std::string unit;
  for (const char* at = digit ? end : start + text.size(); *at; ++at)
    if (*at != ' ') unit += static_cast<char>(*at >= 'A' && *at <= 'Z' ? *at + 32 : *at);
  const auto found = units.find(unit);
  const double bytes = found == units.end() ? 0 : std::nearbyint(number * found->second);
  if (!(bytes >= 1 && bytes < 1e19))
    throw Refused(repr(text) + " is no size: give bytes, or a number with MB, MiB, GB or GiB");
  return static_cast<std::uint64_t>(bytes);
}

template <class Field>
std::function<void(Options&, const std::string&)> text_into(Field field) {
  return [field](Options& options, const std::string& text) { options.*field = text; };
}

std::function<void(Options&, const std::string&)> flag_into(bool Options::*field) {
  return [field](Options& options, const std::string&) { options.*field = true; };
}

const std::vector<Option>& known() {
  static const std::vector<Option> options{
      {"--image", "PATH", "The picture to edit, PNG or JPEG, of any size.",
       text_into(&Options::image)},
      {"--mask", "PATH", "White (or transparent) where to repaint; rough is fine.",
       text_into(&Options::mask)},
      {"--reference", "PATH", "A picture of the object to paint in.",
       text_into(&Options::reference)},
      {"--reference-mask", "PATH",
       "White where the object is [default: its alpha, or all off a plain ground].",
       text_into(&Options::reference_mask)},
      {"--box", "TEXT", "x0,y0,x1,y1 in pixels, besides or for --mask; may be given often.",
       [](Options& options, const std::string& text) {
         const Box box = parse_box(text);
         options.boxes.push_back({box.x0, box.y0, box.x1, box.y1});
       },
       true},
      {"--prompt", "TEXT", "What it should be, in words.", text_into(&Options::prompt)},
      {"--steps", "INTEGER", "Denoising steps [default: the bundle's].",
       [](Options& options, const std::string& text) { options.steps = steps_of(text); }, true},
      {"--seed", "INTEGER", "The same seed, same picture [default: 0].",
       [](Options& options, const std::string& text) { options.seed = seed_of(text); }, true},
      {"--size", "S", "Side at which the region is repainted [the bundle's].",
       [](Options& options, const std::string& text) {
         options.size = small_whole("--size", text);
       }},
      {"--resize-mask", nullptr, "Scale masks whose size is not the picture's.",
       flag_into(&Options::resize_mask)},
      {"--out", "PATH", "Where to write the edit (PNG or JPEG).", text_into(&Options::out)},
      {"--bundle", "PATH",
       "The folder that `a2edit-build engines` wrote [env var: A2EDIT_BUNDLE; default: "
       "build/a2edit-mini].",
       text_into(&Options::bundle)},
      {"--device", "TEXT", "What the engines run on, cpu or cuda [default: cpu].", text_into(&Options::device)},
      {"--engine", "TEXT", "openvino, tensorrt_rtx, tensorrt, or auto: what the bundle was compiled by [default: auto].",
       text_into(&Options::engine)},
      {"--route-tolerance", "ERROR",
       "Run a route that was built ahead where its predicted relative error is at most this (0.01: "
       "1 %); past it, merge the exact weights [default: the bundle's].",
       [](Options& options, const std::string& text) {
         options.route_tolerance = real("--route-tolerance", text);
       }},
      {"--memory-budget", "SIZE",
       "What weight sets may take in memory together, such as 500MB or 8GiB [default: no limit].",
       [](Options& options, const std::string& text) { options.memory_budget = amount_of(text); },
       true},
      {"--strict-route", nullptr,
       "Refuse a request that no route serves within the tolerance, where a bundle cannot merge.",
       flag_into(&Options::strict_route)},
      {"--version", nullptr, "Show the version and exit.", flag_into(&Options::version)},
      {"--help", nullptr, "Show this message and exit.", flag_into(&Options::help)}};
  return options;
}

const Option& option_of(const std::string& name) {
  for (const Option& option : known())
    if (name == option.name) return option;
  throw Refused("No such option '" + name + "'." + kSeeHelp);
}

// What is missing, or could not be written, said before any work is done.
void check(const Options& options) {
  const std::pair<const char*, const std::optional<std::string>*> needed[] = {
      {"--image", &options.image}, {"--reference", &options.reference}, {"--out", &options.out}};
  for (const auto& [name, value] : needed)
    if (!*value) throw Refused(std::string("Missing option '") + name + "'." + kSeeHelp);
  check_output(*options.out, "--out");
}

}  // namespace

Options options_of(int count, char** words) {
  Options options;
  std::vector<std::pair<const Option*, std::string>> late;
  const char* bundle = std::getenv("A2EDIT_BUNDLE");
  options.bundle = bundle ? bundle : "build/a2edit-mini";
  try {
    for (int index = 1; index < count; ++index) {
      const std::string word = words[index];
      if (word.compare(0, 2, "--") != 0)
        throw Refused("Got unexpected extra argument (" + word + ")" + kSeeHelp);
      const std::size_t equals = word.find('=');
      const Option& option = option_of(word.substr(0, equals));
      if (!option.value && equals != std::string::npos)
        throw Refused(std::string("Option '") + option.name + "' does not take a value.");
      if (option.value && equals == std::string::npos && ++index == count)
        throw Refused(std::string("Option '") + option.name + "' requires an argument.");
      const std::string value = !option.value                 ? ""
                                : equals == std::string::npos ? words[index]
                                                              : word.substr(equals + 1);
      if (option.name == std::string("--steps") || option.name == std::string("--seed"))
        check_whole(option.name, value);
      if (option.late)
        late.emplace_back(&option, value);
      else
        option.take(options, value);
    }
    if (options.help || options.version) return options;
    check(options);
    for (const auto& [option, value] : late) option->take(options, value);
    if (!options.mask && options.boxes.empty())
      throw Refused(
          "nothing to edit: give a mask or at least one box (a picture whose own transparency "
          "marks "
          "the region can be its mask too)");
  } catch (const Error& error) {
    throw Refused(error.what());
  }
  return options;
}

std::string help() {
  std::string text =
      "Usage: a2edit-host [OPTIONS]\n\n"
      "  Paint the object of a reference picture into the masked region of a picture.\n\n"
      "Options:\n";
  for (const Option& option : known()) {
    std::string name = std::string("  ") + option.name + (option.value ? " " : "") +
                       (option.value ? option.value : "");
    name.resize(std::max<std::size_t>(name.size() + 2, 27), ' ');
    text += name + option.meaning + "\n";
  }
  return text;
}

}  // namespace a2edit::host
