// Safetensors files, mapped into memory: nothing is read before it is used (runtime/tensors.py).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "src/core/tensor.hpp"

namespace a2edit {

// A file in memory, page by page as it is read; unmapped with the object.
class Mapping {
 public:
  // Processes that map one file share its pages. What is written to a `writable` one changes this
  // process's copy alone. Throws std::invalid_argument with the reason where it cannot be mapped.
  Mapping(const std::string& path, bool writable);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const unsigned char* data() const { return data_; }
  std::size_t size() const { return size_; }

  // Leave its pages to the system's file cache, whence they come back when read.
  void rest() const;

 private:
  unsigned char* data_ = nullptr;
  std::size_t size_ = 0;
};

// The tensors of a file by name; each lies in the mapping, and keeps it open.
struct MappedTensors {
  Arrays tensors;
  std::shared_ptr<const Mapping> memory;
};

// Throws a bundle Error where the file is damaged.
MappedTensors map_tensors(const std::string& path, bool writable = false);

// The tensors of bytes in that format; they point into `data`, which `owner` keeps. Throws
// std::invalid_argument with the reason where they are not sound.
Arrays tensors_in(const unsigned char* data, std::size_t size,
                  const std::shared_ptr<const void>& owner);

}  // namespace a2edit
