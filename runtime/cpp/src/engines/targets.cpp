#include "src/engines/targets.hpp"

#include <algorithm>
#include <iterator>

namespace a2edit {

std::string device_of(const std::string& target) {
  const char* const gpus[] = {"sm75", "sm80", "sm86", "sm89", "sm90", "sm120", "sm121"};
  if (target == "cpu") return "cpu";
  return std::find(std::begin(gpus), std::end(gpus), target) == std::end(gpus) ? "" : "cuda";
}

}  // namespace a2edit
