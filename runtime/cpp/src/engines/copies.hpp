// Copies of host arrays on a device, each kept for as long as its array's memory lives
// (runtime/engines/copies.py).
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "src/engines/cuda.hpp"

namespace a2edit {

using DeviceCopy = std::shared_ptr<const DeviceBuffer>;

// Weight sets that stay in memory are uploaded once: going back to one moves no bytes. Copies of
// arrays that are gone leave the device before others are made; where there is no room for another
// set all the same, those that are not asked for leave it.
class DeviceCopies {
 public:
  // Copies an array to the device. Throws a device_memory Error where it does not fit.
  using Upload = std::function<DeviceCopy(const Array&)>;

  explicit DeviceCopies(Upload upload) : upload_(std::move(upload)) {}

  // Copies of arrays that nobody changes, by name; made at the first call.
  std::map<std::string, DeviceCopy> of(const Arrays& arrays);

  // Drop the copies of arrays that are gone.
  void forget_gone();

 private:
  // An address alone may be another array's when the first is gone, and tensors without items share
  // theirs.
  using Place = std::pair<const void*, std::size_t>;
  struct Held {
    std::weak_ptr<const void> owner;
    DeviceCopy copy;
  };

  std::map<std::string, DeviceCopy> copied(const Arrays& arrays);
  DeviceCopy copy(const Array& array);
  // Drop every copy but those of `arrays`; whether there was any.
  bool forget_others(const Arrays& arrays);

  Upload upload_;
  std::map<Place, Held> held_;
};

}  // namespace a2edit
