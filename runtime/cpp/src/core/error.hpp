// Everything that a2edit raises on purpose; the kinds are those of runtime/errors.py.
#pragma once

#include <stdexcept>
#include <string>

namespace a2edit {

enum class ErrorKind {
  request,        // a picture, mask, box, prompt or setting that cannot be edited
  bundle,         // a bundle that is missing, damaged, or of another schema version
  target,         // a device, backend or precision that this machine does not offer
  engine,         // an engine that failed to compile or run
  device_memory,  // an engine that does not fit
  internal,       // a bug of ours
  cancelled,      // the host's progress callback said so
};

// A message says what failed, what was given, what is allowed and what to do, in the words of the
// Python exception of the same kind.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

// Each throws an Error of its kind.
[[noreturn]] void fail_request(const std::string& message);
[[noreturn]] void fail_bundle(const std::string& message);
[[noreturn]] void fail_target(const std::string& message);
[[noreturn]] void fail_engine(const std::string& message);

}  // namespace a2edit
