// A dict of a manifest: few entries, in the file's order.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace a2edit {

template <class T>
class Table {
 public:
  using Item = std::pair<std::string, T>;

  // Adds an entry whose name is not there yet.
  void add(std::string name, T value) { items_.emplace_back(std::move(name), std::move(value)); }

  const T* find(const std::string& name) const {
    for (const Item& item : items_)
      if (item.first == name) return &item.second;
    return nullptr;
  }

  // The names in the file's order, and sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    found.reserve(items_.size());
    for (const Item& item : items_) found.push_back(item.first);
    return found;
  }
  std::vector<std::string> sorted_names() const {
    std::vector<std::string> found = names();
    std::sort(found.begin(), found.end());
    return found;
  }

  bool empty() const { return items_.empty(); }
  std::size_t size() const { return items_.size(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<Item> items_;
};

}  // namespace a2edit
