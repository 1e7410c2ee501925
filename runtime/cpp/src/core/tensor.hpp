// Tensors: what graphs say of them, and arrays in memory (runtime/engines/base.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace a2edit {

enum class Type {
  float32, float16, bfloat16, float8_e4m3fn, int8, uint8, int32, int64, boolean
};

using Shape = std::vector<std::int64_t>;

constexpr std::int64_t open_size = -1;  // in a graph's shape: known when it runs

const char* type_name(Type type);   // "float32", …, "bool"
const char* numpy_name(Type type);  // of the array that carries it: bfloat16's bits are uint16
std::size_t item_size(Type type);   // in bytes
// The type of a name; false where there is none.
bool type_from(const std::string& name, Type& type);
// Of all of them, "float32, float16, …".
std::string type_names();

// The number of items, and of bytes. Sizes are 0 or more; throws std::overflow_error past 2^62.
std::size_t item_count(const Shape& shape);
std::size_t byte_count(Type type, const Shape& shape);

// A named tensor at the edge of a graph.
struct TensorSpec {
  std::string name;
  Type type = Type::float32;
  Shape shape;  // open_size where it is open

  bool open() const;  // whether it leaves a size open
  bool fits(Type other_type, const Shape& other) const;
  std::size_t nbytes() const { return byte_count(type, shape); }  // of a shape without open sizes
  std::string text() const;  // "latents float32[1, 512, 64]"
};

// An array of C order: memory of its own, or a part of something that `owner` keeps alive.
class Array {
 public:
  Array() = default;
  // Zeros.
  Array(Type type, Shape shape);
  // Over memory that lives as long as `owner`; nothing is copied.
  Array(Type type, Shape shape, const void* data, std::shared_ptr<const void> owner);

  template <class T>
  static Array of(Type type, Shape shape, const std::vector<T>& items) {
    Array array(type, std::move(shape));
    array.fill_from(items.data(), items.size() * sizeof(T));
    return array;
  }

  Type type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::size_t nbytes() const { return byte_count(type_, shape_); }
  bool empty() const { return data_ == nullptr; }

  const void* data() const { return data_; }
  template <class T>
  const T* as() const { return static_cast<const T*>(data_); }
  // Of memory of its own, or mapped to be written to.
  template <class T>
  T* writable() { return const_cast<T*>(static_cast<const T*>(data_)); }

  // Of what keeps its memory alive, which several arrays may share.
  std::weak_ptr<const void> owner() const { return owner_; }

  // Whether its address is a multiple of the item's size.
  bool aligned() const;
  Array copy() const;
  std::string text() const;  // "float32[1, 512, 64]", the type by its numpy name

 private:
  void fill_from(const void* data, std::size_t size);

  Type type_ = Type::float32;
  Shape shape_;
  const void* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

using Arrays = std::map<std::string, Array>;  // by name, sorted as messages list them

}  // namespace a2edit
