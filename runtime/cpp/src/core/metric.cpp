#include "src/core/metric.hpp"

#include <algorithm>
#include <cmath>

namespace a2edit {

double predicted_error(const MetricEntry& metric, const GateTable& table, const GateTable& route) {
  double square = 0;
  for (std::size_t block = 0; block < table.size(); ++block) {
    const std::vector<double>& asked = table[block];
    const std::vector<double>& offered = route[block];
    for (std::size_t i = 0; i < asked.size(); ++i) {
      double row = 0;
      for (std::size_t j = 0; j < asked.size(); ++j)
        row += metric.gram[block][i][j] * (asked[j] - offered[j]);
      square += (asked[i] - offered[i]) * row;
    }
  }
  return std::sqrt(std::max(square, 0.0) / metric.energy);  // rounding may take a zero below zero
}

}  // namespace a2edit
