#pragma once

#include <cstddef>
#include <functional>

namespace a2edit {

// Calls work(0) … work(count - 1), on at most 8 threads of this machine at a time, in no order but
// begun from the first on. Throws what the first that failed threw; those not begun are left out.
void in_parallel(std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace a2edit
