// SHA-256, by OpenSSL.
#pragma once

#include <cstddef>
#include <string>

namespace a2edit {

// The digest of bytes, as 64 hexadecimal digits in lower case.
std::string sha256_hex(const void* data, std::size_t size);

// The same of a file, read in pieces. Throws std::system_error where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace a2edit
