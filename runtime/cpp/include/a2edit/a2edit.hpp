// a2edit from C++17: RAII over a2edit.h, header only.
//
//   a2edit::Editor editor("build/a2edit-mini");
//   a2edit::Request request;
//   request.image("scene.jpg").mask("rough.png").reference("object.png").prompt("a lighthouse");
//   editor.edit(request).save("edit.png");
//
// Units, ranges and what each field means are said in a2edit.h. What fails throws a2edit::Error.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "a2edit/a2edit.h"

namespace a2edit {
inline namespace v1 {

// What the library refuses or fails at; what() is the sentence that the Python runtime says.
class Error : public std::runtime_error {
 public:
  Error(a2edit_error_kind kind, const std::string& message)
      : std::runtime_error(message), kind_(kind) {}

  a2edit_error_kind kind() const noexcept { return kind_; }

 private:
  a2edit_error_kind kind_;
};

namespace detail {

inline void check(a2edit_error* error) {
  if (!error) return;
  const std::unique_ptr<a2edit_error, void (*)(a2edit_error*)> owned(error, a2edit_error_free);
  throw Error(a2edit_error_get_kind(error), a2edit_error_get_message(error));
}

}  // namespace detail

inline std::string version() { return a2edit_version(); }

// Pixels of the host's: rows from the top, 1, 3 or 4 channels side by side, 0 to 255. They are copied
// when they are given to a request.
struct PixelsView {
  const std::uint8_t* data = nullptr;
  std::int32_t width = 0, height = 0, channels = 3;
  std::size_t stride = 0;  // bytes from one row to the next; 0: width * channels
};

// A whole PNG or JPEG file in memory. It is copied when it is given to a request.
struct EncodedView {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;  // bytes
};

// What is asked for. It needs an image, a reference, and a mask or a box. A copy is not made, so that
// pixels are not copied by accident; several edits may use one at a time while nobody changes it.
class Request {
 public:
  Request() : handle_(nullptr, a2edit_request_free) {
    a2edit_request* made = nullptr;
    detail::check(a2edit_request_create(&made));
    handle_.reset(made);
  }

  // A PNG or JPEG file, which is read when the edit begins; one in memory; or pixels.
  Request& image(const std::string& path) { return file(A2EDIT_IMAGE, path); }
  Request& image(const EncodedView& file) { return encoded(A2EDIT_IMAGE, file); }
  Request& image(const PixelsView& pixels) { return view(A2EDIT_IMAGE, pixels); }
  Request& reference(const std::string& path) { return file(A2EDIT_REFERENCE, path); }
  Request& reference(const EncodedView& file) { return encoded(A2EDIT_REFERENCE, file); }
  Request& reference(const PixelsView& pixels) { return view(A2EDIT_REFERENCE, pixels); }
  Request& mask(const std::string& path) { return file(A2EDIT_MASK, path); }
  Request& mask(const EncodedView& file) { return encoded(A2EDIT_MASK, file); }
  Request& mask(const PixelsView& pixels) { return view(A2EDIT_MASK, pixels); }
  Request& reference_mask(const std::string& path) { return file(A2EDIT_REFERENCE_MASK, path); }
  Request& reference_mask(const EncodedView& file) { return encoded(A2EDIT_REFERENCE_MASK, file); }
  Request& reference_mask(const PixelsView& pixels) { return view(A2EDIT_REFERENCE_MASK, pixels); }

  Request& box(std::int32_t x0, std::int32_t y0, std::int32_t x1, std::int32_t y1) {
    return done(a2edit_request_add_box(handle_.get(), x0, y0, x1, y1));
  }
  Request& prompt(const std::string& utf8) {
    return done(a2edit_request_set_prompt(handle_.get(), utf8.c_str()));
  }
  Request& steps(std::int32_t count) { return done(a2edit_request_set_steps(handle_.get(), count)); }
  Request& seed(std::uint64_t seed) { return done(a2edit_request_set_seed(handle_.get(), seed)); }
  Request& size(std::int32_t side) { return done(a2edit_request_set_size(handle_.get(), side)); }
  Request& resize_mask(bool resize = true) {
    return done(a2edit_request_set_resize_mask(handle_.get(), resize ? 1 : 0));
  }

  const a2edit_request* get() const { return handle_.get(); }

 private:
  Request& done(a2edit_error* error) {
    detail::check(error);
    return *this;
  }

  Request& file(a2edit_role role, const std::string& path) {
    a2edit_picture picture{};
    picture.struct_size = sizeof picture;
    picture.path = path.c_str();
    return done(a2edit_request_set_picture(handle_.get(), role, &picture));
  }

  Request& encoded(a2edit_role role, const EncodedView& file) {
    a2edit_picture picture{};
    picture.struct_size = sizeof picture;
    picture.bytes = file.data;
    picture.byte_count = file.size;
    return done(a2edit_request_set_picture(handle_.get(), role, &picture));
  }

  Request& view(a2edit_role role, const PixelsView& pixels) {
    a2edit_picture picture{};
    picture.struct_size = sizeof picture;
    picture.pixels = pixels.data;
    picture.width = pixels.width;
    picture.height = pixels.height;
    picture.channels = pixels.channels;
    picture.stride = pixels.stride;
    return done(a2edit_request_set_picture(handle_.get(), role, &picture));
  }

  std::unique_ptr<a2edit_request, void (*)(a2edit_request*)> handle_;
};

// The edited picture and how it came about. What its functions point to lives as long as it does. One
// thread at a time.
class Result {
 public:
  explicit Result(a2edit_result* owned) : handle_(owned, a2edit_result_free) {
    outcome_.struct_size = sizeof outcome_;
    detail::check(a2edit_result_get(owned, &outcome_));
  }

  // Every field of it; see a2edit_outcome.
  const a2edit_outcome& outcome() const { return outcome_; }

  PixelsView pixels() const {
    return {outcome_.pixels, outcome_.width, outcome_.height, outcome_.channels, 0};
  }
  std::string route() const { return outcome_.route; }
  std::vector<std::string> warnings() const {
    return {outcome_.warnings, outcome_.warnings + outcome_.warning_count};
  }

  // As PNG or JPEG, by the suffix; whole or not at all.
  void save(const std::string& path) const {
    detail::check(a2edit_result_save(handle_.get(), path.c_str()));
  }

 private:
  std::unique_ptr<a2edit_result, void (*)(a2edit_result*)> handle_;
  a2edit_outcome outcome_{};
};

struct Options {
  std::string device = "cpu";             // what the engines run on, or "cuda"
  std::string engine = "auto";            // what the bundle was compiled by
  std::optional<double> route_tolerance;  // relative error; none: the bundle's
  std::uint64_t memory_budget = 0;        // bytes of weight sets; 0: no limit
  bool strict_route = false;              // refuse instead of warning where nothing can be merged
};

// Told after every step how many of how many are done; false cancels the edit.
using Progress = std::function<bool(int done, int steps)>;

// Runs edits on one bundle.
//
// Threads: any number may call edit() and load() of one editor at a time, each with requests and
// results of its own. Pictures are read, laid out and pasted back in parallel; the engines work for
// one edit after the other. It must not be moved or destroyed while one of them is in a call.
class Editor {
 public:
  explicit Editor(const std::string& bundle, const Options& options = {})
      : handle_(nullptr, a2edit_editor_close) {
    a2edit_options given{};
    given.struct_size = sizeof given;
    given.device = options.device.c_str();
    given.engine = options.engine.c_str();
    given.route_tolerance = options.route_tolerance ? &*options.route_tolerance : nullptr;
    given.memory_budget = options.memory_budget;
    given.strict_route = options.strict_route ? 1 : 0;
    a2edit_editor* opened = nullptr;
    detail::check(a2edit_editor_open(bundle.c_str(), &given, &opened));
    handle_.reset(opened);
  }

  // What `progress` throws leaves edit(), after the engines have stopped.
  Result edit(const Request& request, const Progress& progress = {}) {
    Told told{progress, nullptr};
    a2edit_result* made = nullptr;
    a2edit_error* error = a2edit_editor_edit(handle_.get(), request.get(),
                                             progress ? &Told::call : nullptr, &told, &made);
    if (told.thrown) {
      a2edit_error_free(error);
      std::rethrow_exception(told.thrown);
    }
    detail::check(error);
    return Result(made);
  }

  // Open every engine now instead of at the first edit.
  void load() { detail::check(a2edit_editor_load(handle_.get())); }

  // What its fields point to lives as long as the editor.
  a2edit_info info() const {
    a2edit_info info{};
    info.struct_size = sizeof info;
    detail::check(a2edit_editor_get_info(handle_.get(), &info));
    return info;
  }

 private:
  struct Told {
    const Progress& progress;
    std::exception_ptr thrown;

    static int call(void* user, std::int32_t done, std::int32_t steps) noexcept {
      Told& told = *static_cast<Told*>(user);
      try {
        return told.progress(done, steps) ? 0 : 1;
      } catch (...) {
        told.thrown = std::current_exception();
        return 1;
      }
    }
  };

  std::unique_ptr<a2edit_editor, void (*)(a2edit_editor*)> handle_;
};

}  // namespace v1
}  // namespace a2edit
