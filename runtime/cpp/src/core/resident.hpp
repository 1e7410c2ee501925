// Weight sets in memory, within a budget of bytes (runtime/resident.py).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>

#include "src/core/weight_set.hpp"

namespace a2edit {

// Keeps sets by key; the least recently used go first, before a new one is made. A set that was
// dropped lives for as long as someone still holds it. One thread at a time.
class ResidentSets {
 public:
  using Make = std::function<WeightSet()>;
  using Dropped = std::function<void(const SharedWeights&)>;

  // `budget` in bytes over all sets, the new one included; none: no limit. `dropped` is called with
  // each set that has to go, so that an engine can let go of it.
  explicit ResidentSets(std::optional<std::uint64_t> budget, Dropped dropped = {});

  // The set of `key`; if there is none, what `make` gives, which takes `nbytes`, at most the budget.
  SharedWeights get(const std::string& key, std::uint64_t nbytes, const Make& make);

  // Drop every set.
  void clear();

  std::uint64_t nbytes() const;

 private:
  struct Place {
    std::string key;
    std::uint64_t nbytes;
    SharedWeights weights;
  };

  void drop(std::list<Place>::iterator place);

  std::optional<std::uint64_t> budget_;
  Dropped dropped_;
  std::list<Place> places_;  // least recently used first
};

}  // namespace a2edit
