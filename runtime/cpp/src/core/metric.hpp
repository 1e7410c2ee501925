// How far apart gate tables are, in output error (SPEC §5, runtime/metric.py).
#pragma once

#include <vector>

#include "src/core/manifest.hpp"

namespace a2edit {

// The predicted relative error of running `route` where a gate asked for `table`:
// sqrt( Σ_l (w_l−r_l)ᵀ G_l (w_l−r_l) / energy ), in float64. Both [L][N], the metric's sizes.
double predicted_error(const MetricEntry& metric, const GateTable& table, const GateTable& route);

}  // namespace a2edit
