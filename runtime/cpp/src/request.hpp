#pragma once

#include "src/pictures/picture.hpp"

namespace a2edit {

// Refuses, as EditRequest does in runtime/request.py, numbers and texts that no edit has; files are
// read, and refused, when the edit is prepared.
void check_request(const Request& request);

}  // namespace a2edit
