// src/engines by ctypes: tests/cpp/test_tensorrt.py.
#include "src/core/json.hpp"
#include "src/engines/targets.hpp"
#include "tests/probe.hpp"

using namespace a2edit;
using probe::answered;

// [name, device, precisions] of a GPU's target.
PROBE int probe_target_of(std::int64_t major, std::int64_t minor) {
  return answered([&] {
    const Target& target = target_of({static_cast<int>(major), static_cast<int>(minor)});
    probe::message() = Json({target.name, target.device(), target.precisions}).dump();
  });
}

// [name, device, precisions] of the target of a name, or null.
PROBE int probe_target_named(const char* name) {
  return answered([&] {
    const Target* target = target_named(name);
    const Json found = target ? Json({target->name, target->device(), target->precisions}) : Json();
    probe::message() = found.dump();
  });
}
