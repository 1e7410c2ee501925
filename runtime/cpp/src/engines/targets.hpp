// What engines are built for: processors by name, and what each can compute (runtime/targets.py).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/engines/engine.hpp"

namespace a2edit {

// A kind of processor.
struct Target {
  const char* name;                      // "cpu", or "sm89" of an NVIDIA GPU's compute capability
  std::optional<Capability> capability;  // of a GPU
  std::vector<std::string> precisions;   // that its matrix products run in

  // What an editor is opened on: "cpu" or "cuda".
  const char* device() const { return capability ? "cuda" : "cpu"; }
};

// The target of a name; none of an unknown one.
const Target* target_named(const std::string& name);

// The target of a GPU; throws a target Error for one that no engine can be built for.
const Target& target_of(const Capability& capability);

}  // namespace a2edit
