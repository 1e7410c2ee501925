#include "src/core/error.hpp"

namespace a2edit {

void fail_request(const std::string& message) { throw Error(ErrorKind::request, message); }
void fail_bundle(const std::string& message) { throw Error(ErrorKind::bundle, message); }
void fail_target(const std::string& message) { throw Error(ErrorKind::target, message); }
void fail_engine(const std::string& message) { throw Error(ErrorKind::engine, message); }

}  // namespace a2edit
