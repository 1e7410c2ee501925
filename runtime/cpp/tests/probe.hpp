// How a probe answers: functions that Python's tests call by ctypes return 0, or 1 + an ErrorKind
// with the message in probe_message().
#pragma once

#include <exception>
#include <string>

#include "src/core/error.hpp"

#define PROBE extern "C" __attribute__((visibility("default")))

namespace a2edit::probe {

// Of the last probe of this thread that failed.
std::string& message();

template <class Work>
int answered(Work&& work) {
  try {
    work();
    return 0;
  } catch (const Error& error) {
    message() = error.what();
    return 1 + static_cast<int>(error.kind());
  } catch (const std::exception& error) {
    message() = error.what();
    return 1 + static_cast<int>(ErrorKind::internal);
  }
}

}  // namespace a2edit::probe
