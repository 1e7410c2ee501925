#include "src/request.hpp"

#include "src/core/error.hpp"
#include "src/core/repr.hpp"
#include "src/core/sampler.hpp"
#include "src/pictures/boxes.hpp"
#include "src/text/unicode.hpp"

namespace a2edit {
void check_request(const Request& request) {
  if (!request.mask && request.boxes.empty())
    fail_request(
        "nothing to edit: give a mask or at least one box (a picture whose own transparency marks "
        "the region can be its mask too)");
  if (!is_utf8(request.prompt))
    fail_request("prompt is not valid Unicode: " + repr(request.prompt) + "; give it as UTF-8");
  for (const Box& box : request.boxes) checked(box);
  if (request.steps) check_steps(*request.steps);
}

}  // namespace a2edit
