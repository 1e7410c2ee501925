#include "src/core/repr.hpp"
#include "tests/probe.hpp"

namespace a2edit::probe {

std::string& message() {
  thread_local std::string text;
  return text;
}

}  // namespace a2edit::probe

PROBE const char* probe_message() { return a2edit::probe::message().c_str(); }

// These answer by a text, in probe_message().
PROBE int probe_repr_float(double number) {
  a2edit::probe::message() = a2edit::repr(number);
  return 0;
}

PROBE int probe_repr_text(const char* text, std::size_t length) {
  a2edit::probe::message() = a2edit::repr(std::string(text, length));
  return 0;
}
