#pragma once

#include <doctest/doctest.h>

#include <string>

#include "src/core/error.hpp"

namespace a2edit {

// What `call` is refused with, as an error of `kind`; "" where it is not.
template <class Call>
std::string refusal(ErrorKind kind, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  return "";
}

}  // namespace a2edit
