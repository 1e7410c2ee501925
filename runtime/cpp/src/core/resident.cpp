#include "src/core/resident.hpp"

#include <algorithm>

namespace a2edit {

ResidentSets::ResidentSets(std::optional<std::uint64_t> budget, Dropped dropped)
    : budget_(budget), dropped_(std::move(dropped)) {}

SharedWeights ResidentSets::get(const std::string& key, std::uint64_t nbytes, const Make& make) {
  const auto held = std::find_if(places_.begin(), places_.end(),
                                 [&key](const Place& place) { return place.key == key; });
  if (held != places_.end()) {
    places_.splice(places_.end(), places_, held);
    return held->weights;
  }
  // before the new one is made, so that both never lie in memory; sets of no bytes make no room
  for (auto place = places_.begin();
       budget_ && place != places_.end() && this->nbytes() + nbytes > *budget_;) {
    const auto next = std::next(place);
    if (place->nbytes) drop(place);
    place = next;
  }
  places_.push_back({key, nbytes, std::make_shared<const WeightSet>(make())});
  return places_.back().weights;
}

void ResidentSets::clear() {
  while (!places_.empty()) drop(places_.begin());
}

std::uint64_t ResidentSets::nbytes() const {
  std::uint64_t sum = 0;
  for (const Place& place : places_) sum += place.nbytes;
  return sum;
}

void ResidentSets::drop(std::list<Place>::iterator place) {
  const SharedWeights weights = place->weights;
  places_.erase(place);
  if (dropped_) dropped_(weights);
}

}  // namespace a2edit
