#include <doctest/doctest.h>

#include <stdexcept>

#include "src/core/resident.hpp"

using namespace a2edit;

namespace {

// Sets by name, and which were made and dropped, in order.
struct Recorded {
  std::vector<std::string> made, dropped;
  ResidentSets sets;

  explicit Recorded(std::optional<std::uint64_t> budget)
      : sets(budget, [this](const SharedWeights& weights) { dropped.push_back(weights->name); }) {}

  SharedWeights get(const std::string& key, std::uint64_t nbytes) {
    return sets.get(key, nbytes, [&] {
      made.push_back(key);
      return WeightSet{key, {}, nullptr};
    });
  }
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("without a budget every set is made once") {
  Recorded all(std::nullopt);
  for (const char* key : {"a", "b", "a", "c", "b"}) all.get(key, 100);
  CHECK(all.made == Names{"a", "b", "c"});
  CHECK(all.dropped.empty());
  CHECK(all.sets.nbytes() == 300);
}

TEST_CASE("the least recently used goes before the new one is made") {
  Recorded two(200);
  two.get("a", 100);
  two.get("b", 100);
  two.get("a", 100);
  const SharedWeights held = two.get("c", 100);
  CHECK(two.dropped == Names{"b"});
  CHECK(two.sets.nbytes() == 200);
  two.get("d", 200);
  CHECK(two.dropped == Names{"b", "a", "c"});
  CHECK(held->name == "c");  // lives for as long as someone holds it
}

TEST_CASE("a set that could not be made is not kept") {
  ResidentSets sets(std::nullopt);
  CHECK_THROWS(sets.get("a", 1, []() -> WeightSet { throw std::runtime_error("no"); }));
  CHECK(sets.nbytes() == 0);
  CHECK(sets.get("a", 1, [] { return WeightSet{"a", {}, nullptr}; })->name == "a");
}

TEST_CASE("sets of no bytes make no room and take none") {
  Recorded one(100);
  one.get("baked", 0);
  one.get("a", 100);
  one.get("b", 100);
  CHECK(one.dropped == Names{"a"});
}
