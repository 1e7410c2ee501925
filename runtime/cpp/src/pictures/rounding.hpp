// Python's rounding, where C++ has another.
#pragma once

#include <cmath>

namespace a2edit {

// round(): to the nearest whole number, and from the middle to the even one.
inline int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

// value // 2: down, also below 0.
inline int floor_half(int value) { return value >= 0 ? value / 2 : -((1 - value) / 2); }

}  // namespace a2edit
