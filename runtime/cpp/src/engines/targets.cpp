#include "src/engines/targets.hpp"

#include "src/core/error.hpp"
#include "src/core/repr.hpp"

namespace a2edit {
namespace {

const std::vector<Target>& targets() {
  static const std::vector<std::string> ampere = {"fp32", "bf16", "int8"};
  static const std::vector<std::string> all = {"fp32", "bf16", "int8", "fp8"};
  static const std::vector<Target> known = {
      {"cpu", std::nullopt, ampere},      {"sm75", Capability{7, 5}, {"fp32", "int8"}},
      {"sm80", Capability{8, 0}, ampere}, {"sm86", Capability{8, 6}, ampere},
      {"sm89", Capability{8, 9}, all},    {"sm90", Capability{9, 0}, all},
      {"sm120", Capability{12, 0}, all},  {"sm121", Capability{12, 1}, all},
  };
  return known;
}

}  // namespace

const Target* target_named(const std::string& name) {
  for (const Target& target : targets())
    if (name == target.name) return &target;
  return nullptr;
}

const Target& target_of(const Capability& capability) {
  std::vector<std::string> gpus;
  for (const Target& target : targets()) {
    if (target.capability == capability) return target;
    if (target.capability) gpus.emplace_back(target.name);
  }
  fail_target("this GPU is sm" + std::to_string(capability.first) +
              std::to_string(capability.second) + "; engines are built for " + joined(gpus));
}

}  // namespace a2edit
