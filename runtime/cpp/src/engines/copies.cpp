#include "src/engines/copies.hpp"

#include <set>

#include "src/core/error.hpp"

namespace a2edit {
namespace {

bool same(const std::weak_ptr<const void>& one, const std::weak_ptr<const void>& other) {
  return !one.expired() && !one.owner_before(other) && !other.owner_before(one);
}

}  // namespace

std::map<std::string, DeviceCopy> DeviceCopies::of(const Arrays& arrays) {
  forget_gone();
  try {
    return copied(arrays);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::device_memory || !forget_others(arrays)) throw;
  }
  return copied(arrays);
}

void DeviceCopies::forget_gone() {
  for (auto place = held_.begin(); place != held_.end();)
    place = place->second.owner.expired() ? held_.erase(place) : std::next(place);
}

std::map<std::string, DeviceCopy> DeviceCopies::copied(const Arrays& arrays) {
  std::map<std::string, DeviceCopy> copies;
  for (const auto& [name, array] : arrays) copies[name] = copy(array);
  return copies;
}

DeviceCopy DeviceCopies::copy(const Array& array) {
  const Place place{array.data(), array.nbytes()};
  const auto held = held_.find(place);
  if (held != held_.end() && same(held->second.owner, array.owner())) return held->second.copy;
  if (held != held_.end()) held_.erase(held);
  DeviceCopy fresh = upload_(array);
  held_[place] = {array.owner(), fresh};
  return fresh;
}

bool DeviceCopies::forget_others(const Arrays& arrays) {
  std::set<Place> kept;
  for (const auto& [name, array] : arrays) kept.insert({array.data(), array.nbytes()});
  const std::size_t before = held_.size();
  for (auto place = held_.begin(); place != held_.end();)
    place = kept.count(place->first) ? std::next(place) : held_.erase(place);
  return held_.size() < before;
}

}  // namespace a2edit
