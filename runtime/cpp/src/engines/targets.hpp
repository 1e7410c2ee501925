// What engines are built for: processors by name (runtime/targets.py).
#pragma once

#include <string>

namespace a2edit {

// "cpu" or "cuda": what an editor is opened on for a target such as "sm89"; "" of an unknown one.
std::string device_of(const std::string& target);

}  // namespace a2edit
