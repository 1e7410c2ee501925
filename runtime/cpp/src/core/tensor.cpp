#include "src/core/tensor.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "src/core/repr.hpp"

namespace a2edit {
namespace {

struct Known {
  const char* name;
  const char* carrier;
  std::size_t bytes;
};

constexpr Known known[] = {
    {"float32", "float32", 4}, {"float16", "float16", 2},     {"bfloat16", "uint16", 2},
    {"float8_e4m3fn", "uint8", 1}, {"int8", "int8", 1},       {"uint8", "uint8", 1},
    {"int32", "int32", 4},     {"int64", "int64", 8},         {"bool", "bool", 1},
};

const Known& facts(Type type) { return known[static_cast<int>(type)]; }

// Engines read whole vectors; a cache line suits every one of them.
constexpr std::size_t alignment = 64;

}  // namespace

const char* type_name(Type type) { return facts(type).name; }
const char* numpy_name(Type type) { return facts(type).carrier; }
std::size_t item_size(Type type) { return facts(type).bytes; }

bool type_from(const std::string& name, Type& type) {
  int place = 0;
  for (const Known& one : known) {
    if (name == one.name) {
      type = static_cast<Type>(place);
      return true;
    }
    ++place;
  }
  return false;
}

std::string type_names() {
  std::vector<std::string> names;
  for (const Known& one : known) names.emplace_back(one.name);
  return joined(names);
}

std::size_t item_count(const Shape& shape) {
  constexpr std::size_t most = std::size_t{1} << 62;
  std::size_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0) throw std::overflow_error("a size below 0");
    if (size != 0 && count > most / static_cast<std::size_t>(size))
      throw std::overflow_error("more items than memory can hold");
    count *= static_cast<std::size_t>(size);
  }
  return count;
}

std::size_t byte_count(Type type, const Shape& shape) { return item_count(shape) * item_size(type); }

bool TensorSpec::open() const {
  return std::find(shape.begin(), shape.end(), open_size) != shape.end();
}

bool TensorSpec::fits(Type other_type, const Shape& other) const {
  if (type != other_type || shape.size() != other.size()) return false;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] != open_size && shape[axis] != other[axis]) return false;
  return true;
}

std::string TensorSpec::text() const {
  return name + " " + type_name(type) + list_text(shape);
}

Array::Array(Type type, Shape shape) : type_(type), shape_(std::move(shape)) {
  const std::size_t bytes = nbytes();
  const std::size_t room = (bytes / alignment + 1) * alignment;
  void* memory = std::aligned_alloc(alignment, room);
  if (!memory) throw std::bad_alloc();
  std::memset(memory, 0, room);
  owner_.reset(memory, std::free);
  data_ = memory;
}

Array::Array(Type type, Shape shape, const void* data, std::shared_ptr<const void> owner)
    : type_(type), shape_(std::move(shape)), data_(data), owner_(std::move(owner)) {}

bool Array::aligned() const {
  return reinterpret_cast<std::uintptr_t>(data_) % item_size(type_) == 0;
}

Array Array::copy() const {
  Array other(type_, shape_);
  other.fill_from(data_, nbytes());
  return other;
}

std::string Array::text() const { return numpy_name(type_) + list_text(shape_); }

void Array::fill_from(const void* data, std::size_t size) {
  if (size != nbytes()) throw std::logic_error("an array of another size");
  if (size) std::memcpy(writable<void>(), data, size);
}

}  // namespace a2edit
