#pragma once

#include <map>
#include <memory>
#include <string>

#include "src/core/safetensors.hpp"

namespace a2edit {

// A tensor of C order in a GPU's memory, which engines read where it lies.
struct DeviceTensor {
  std::shared_ptr<void> address;  // on the GPU; it keeps what has the memory
  Type type = Type::float32;
  Shape shape;
};

using DeviceTensors = std::map<std::string, DeviceTensor>;

// Routed weights by input name. Nobody changes the arrays while they are bound to an engine. A set
// that was merged on a GPU is `placed` there, and has no arrays.
struct WeightSet {
  std::string name;
  Arrays tensors;
  std::shared_ptr<const Mapping> memory;  // that the tensors lie in, if they are a mapped file
  DeviceTensors placed = {};

  // Leave a mapped set to the system's file cache, whence its pages come back when read. Eight
  // routes then take no more of a process than one. A set that was merged stays: its bytes are
  // nowhere else.
  void rest() const {
    if (memory) memory->rest();
  }
};

using SharedWeights = std::shared_ptr<const WeightSet>;

}  // namespace a2edit
