#include "src/core/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "src/core/error.hpp"
#include "src/core/json.hpp"
#include "src/core/manifest.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

constexpr std::size_t max_header = std::size_t{100} << 20;  // the format's own limit

struct Stored {
  const char* name;
  Type type;
};

constexpr Stored stored_types[] = {
    {"F32", Type::float32},          {"F16", Type::float16}, {"BF16", Type::bfloat16},
    {"F8_E4M3", Type::float8_e4m3fn}, {"I8", Type::int8},     {"U8", Type::uint8},
    {"I32", Type::int32},            {"I64", Type::int64},   {"BOOL", Type::boolean},
};

[[noreturn]] void unsound(const std::string& reason) { throw std::invalid_argument(reason); }

const Json& part(const Json& entry, const char* key) {
  if (!entry.is_object())
    unsound(entry.is_array() || entry.is_string()
                ? (entry.is_array() ? std::string("list") : std::string("string")) +
                      " indices must be integers" +
                      (entry.is_array() ? " or slices, not str" : ", not 'str'")
                : "'" + type_name(entry) + "' object is not subscriptable");
  if (!entry.contains(key)) unsound(std::string("'") + key + "'");
  return entry[key];
}

Type stored_type(const std::string& name, const Json& dtype) {
  std::vector<std::string> known;
  for (const Stored& one : stored_types) {
    if (dtype.is_string() && dtype.get_ref<const std::string&>() == one.name) return one.type;
    known.emplace_back(one.name);
  }
  const std::string given = dtype.is_string() ? dtype.get<std::string>() : repr(dtype);
  unsound(name + " has dtype " + given + "; known are " + joined(known));
}

// (2, 3) and (4,), as Python shows a tuple.
std::string tuple_text(const Json& items) {
  std::vector<std::string> shown;
  for (const Json& item : items) shown.push_back(repr(item));
  return "(" + joined(shown) + (shown.size() == 1 ? ",)" : ")");
}

std::optional<std::int64_t> count_of(const Json& number) {
  if (!number.is_number_integer() || number.get<std::int64_t>() < 0) return std::nullopt;
  return number.get<std::int64_t>();
}

void check_pair(const Json& offsets) {
  if (!offsets.is_array()) unsound("cannot unpack non-iterable " + type_name(offsets) + " object");
  if (offsets.size() > 2) unsound("too many values to unpack (expected 2)");
  if (offsets.size() < 2)
    unsound("not enough values to unpack (expected 2, got " + std::to_string(offsets.size()) + ")");
}

Array tensor_at(const std::string& name, const Json& entry, const unsigned char* data,
                std::size_t size, const std::shared_ptr<const void>& owner) {
  const Type type = stored_type(name, part(entry, "dtype"));
  const Json& sides = part(entry, "shape");
  if (!sides.is_array()) unsound("'" + type_name(sides) + "' object is not iterable");
  const Json& offsets = part(entry, "data_offsets");
  check_pair(offsets);
  const auto first = count_of(offsets[0]), last = count_of(offsets[1]);
  Shape shape;
  for (const Json& side : sides)
    if (const auto count = count_of(side)) shape.push_back(*count);
  const std::string place = " bytes " + repr(offsets[0]) + " to " + repr(offsets[1]);
  if (!first || !last || shape.size() != sides.size())
    unsound(name + " has shape " + tuple_text(sides) + " at" + place);
  const auto fits = [&] {
    if (*last < *first || static_cast<std::size_t>(*last) > size) return false;
    try {
      return static_cast<std::size_t>(*last - *first) == byte_count(type, shape);
    } catch (const std::overflow_error&) {
      return false;
    }
  };
  if (!fits())
    unsound(name + " lies at" + place + " of " + std::to_string(size) + ", " + type_name(type) +
            tuple_text(sides));
  return Array(type, std::move(shape), data + *first, owner);
}

}  // namespace

Mapping::Mapping(const std::string& path, bool writable) {
  const auto reason = [&path] {
    return "[Errno " + std::to_string(errno) + "] " + std::generic_category().message(errno) + ": " + repr(path);
  };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::invalid_argument(reason());
  struct stat about {};
  if (::fstat(file, &about) == 0 && S_ISDIR(about.st_mode)) errno = EISDIR;
  const bool mappable = S_ISREG(about.st_mode) && about.st_size > 0;
  void* memory = MAP_FAILED;
  if (mappable)
    memory = ::mmap(nullptr, static_cast<std::size_t>(about.st_size),
                    PROT_READ | (writable ? PROT_WRITE : 0), MAP_PRIVATE, file, 0);
  const std::string failure = mappable || about.st_size > 0 ? reason() : "cannot mmap an empty file";
  ::close(file);
  if (memory == MAP_FAILED) throw std::invalid_argument(failure);
  data_ = static_cast<unsigned char*>(memory);
  size_ = static_cast<std::size_t>(about.st_size);
}

Mapping::~Mapping() { ::munmap(data_, size_); }

void Mapping::rest() const { ::madvise(data_, size_, MADV_DONTNEED); }

Arrays tensors_in(const unsigned char* data, std::size_t size,
                  const std::shared_ptr<const void>& owner) {
  std::uint64_t length = 0;
  for (std::size_t byte = std::min<std::size_t>(size, 8); byte-- > 0;)
    length = length << 8 | data[byte];
  const std::size_t most = std::min(size, max_header);
  if (size < 8 || length > most || length + 8 > most) {
    // the sum may pass 64 bits, which Python's numbers do not mind
    const std::string end = std::to_string(length % 1000000000 + 8);
    const bool wraps = length > UINT64_MAX - 8;
    unsound("a header that ends at " +
            (wraps ? std::to_string(length / 1000000000) + end : std::to_string(length + 8)) +
            " of " + std::to_string(size) + " bytes");
  }
  const std::size_t start = static_cast<std::size_t>(length) + 8;
  const Json header = json_from(std::string(data + 8, data + start));
  if (!header.is_object())
    unsound(header.is_array() ? "pop expected at most 1 argument, got 2"
                              : "'" + type_name(header) + "' object has no attribute 'pop'");
  Arrays found;
  for (const auto& item : header.items())
    if (item.key() != "__metadata__")
      found[item.key()] = tensor_at(item.key(), item.value(), data + start, size - start, owner);
  return found;
}

MappedTensors map_tensors(const std::string& path, bool writable) {
  std::shared_ptr<const Mapping> memory;
  try {
    memory = std::make_shared<const Mapping>(path, writable);
  } catch (const std::invalid_argument& error) {
    fail_bundle(repr(path) + " cannot be read (" + error.what() + "): " + rebuild);
  }
  try {
    return {tensors_in(memory->data(), memory->size(), memory), memory};
  } catch (const std::invalid_argument& error) {
    fail_bundle(repr(path) + " is no sound safetensors file (" + error.what() + "): " + rebuild);
  }
}

}  // namespace a2edit
