// The C edge: values in, values out, no exception past it.
#include "a2edit/a2edit.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>

#include "src/core/error.hpp"
#include "src/core/sampler.hpp"
#include "src/editor.hpp"
#include "src/pictures/boxes.hpp"

struct a2edit_error {
  a2edit_error_kind kind;
  std::string message;
};

struct a2edit_request {
  a2edit::Request request;
};

struct a2edit_editor {
  a2edit::Editor editor;
};

struct a2edit_result {
  a2edit::EditResult result;
  int blocks, experts;
  std::vector<const char*> warnings;
  std::vector<a2edit_timing> timings;
};

namespace {

using a2edit::Error;
using a2edit::ErrorKind;
using a2edit::fail_request;

// Given out where not even an error can be allocated; never freed.
a2edit_error* memory_error() {
  static a2edit_error error{A2EDIT_OUT_OF_MEMORY, "out of memory"};
  return &error;
}

a2edit_error_kind kind_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::request: return A2EDIT_REQUEST;
    case ErrorKind::bundle: return A2EDIT_BUNDLE;
    case ErrorKind::target: return A2EDIT_TARGET;
    case ErrorKind::engine: return A2EDIT_ENGINE;
    case ErrorKind::device_memory: return A2EDIT_DEVICE_MEMORY;
    case ErrorKind::cancelled: return A2EDIT_CANCELLED;
    case ErrorKind::internal: break;
  }
  return A2EDIT_INTERNAL;
}

a2edit_error* error_of(a2edit_error_kind kind, const char* message) {
  try {
    return new a2edit_error{kind, message};
  } catch (...) {
    return memory_error();
  }
}

// What `work` does, its exceptions made errors.
template <class Work>
a2edit_error* guarded(Work&& work) {
  try {
    work();
    return nullptr;
  } catch (const Error& error) {
    return error_of(kind_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return memory_error();
  } catch (const std::exception& error) {
    return error_of(A2EDIT_INTERNAL, error.what());
  } catch (...) {
    return error_of(A2EDIT_INTERNAL, "an exception of an unknown kind");
  }
}

void check_given(const void* pointer, const char* name) {
  if (!pointer) fail_request(std::string(name) + " is NULL: give one");
}

// A struct of the caller's, whose header may be older or newer: what it lacks is 0.
template <class Struct>
Struct known_part(const Struct* given, const char* name) {
  Struct known{};
  check_given(given, name);
  if (given->struct_size < sizeof given->struct_size)
    fail_request(std::string(name) + ".struct_size is " + std::to_string(given->struct_size) +
                 ": set it to sizeof of the struct");
  std::memcpy(static_cast<void*>(&known), given, std::min(given->struct_size, sizeof known));
  return known;
}

// Fills in as much of the caller's struct as it has room for.
template <class Struct>
void fill(Struct* into, const char* name, Struct values) {
  values.struct_size = known_part(into, name).struct_size;
  std::memcpy(static_cast<void*>(into), &values, std::min(values.struct_size, sizeof values));
}

a2edit::Pixels pixels_of(const a2edit_picture& given, const char* role) {
  const bool known = given.channels == 1 || given.channels == 3 || given.channels == 4;
  constexpr int most = 1 << 20;
  if (!known || given.width < 1 || given.height < 1 || given.width > most || given.height > most)
    fail_request(std::string("the ") + role + " is " + std::to_string(given.width) + "x" +
                 std::to_string(given.height) + " pixels of " + std::to_string(given.channels) +
                 " channels: give 1 to 1048576 pixels a side, of 1, 3 or 4 channels");
  a2edit::Pixels pixels(given.height, given.width, given.channels);
  const auto row = static_cast<std::size_t>(given.width) * static_cast<std::size_t>(given.channels);
  const std::size_t stride = given.stride ? given.stride : row;
  if (stride < row)
    fail_request(std::string("the ") + role + " has a stride of " + std::to_string(stride) +
                 " bytes: a row takes " + std::to_string(row));
  for (int y = 0; y < given.height; ++y)
    std::memcpy(pixels.at(y, 0), given.pixels + static_cast<std::size_t>(y) * stride, row);
  return pixels;
}

a2edit::PictureSource source_of(const a2edit_picture& given, const char* role) {
  if ((given.path != nullptr) + (given.pixels != nullptr) + (given.bytes != nullptr) != 1)
    fail_request(std::string("the ") + role +
                 " needs one of a path, pixels and a file's bytes, and no more than one");
  if (given.path) return {given.path, std::nullopt, std::nullopt};
  if (given.pixels) return {"", pixels_of(given, role), std::nullopt};
  return {"", std::nullopt, std::vector<std::uint8_t>(given.bytes, given.bytes + given.byte_count)};
}

a2edit::PipelineOptions options_of(const a2edit_options* given) {
  a2edit::PipelineOptions options;
  if (!given) return options;
  const a2edit_options known = known_part(given, "options");
  if (known.device) options.device = known.device;
  if (known.engine) options.engine = known.engine;
  if (known.route_tolerance) options.routes.tolerance = *known.route_tolerance;
  if (known.memory_budget) options.routes.memory_budget = known.memory_budget;
  options.routes.strict = known.strict_route != 0;
  return options;
}

void check_complete(const a2edit::Request& request) {
  const auto given = [](const a2edit::PictureSource& source) {
    return source.pixels || source.bytes || !source.path.empty();
  };
  if (!given(request.image)) fail_request("the request has no image: give one");
  if (!given(request.reference)) fail_request("the request has no reference: give one");
}

}  // namespace

const char* a2edit_version(void) { return A2EDIT_VERSION; }

uint32_t a2edit_abi_version(void) { return A2EDIT_ABI_VERSION; }

a2edit_error_kind a2edit_error_get_kind(const a2edit_error* error) {
  return error ? error->kind : A2EDIT_OK;
}

const char* a2edit_error_get_message(const a2edit_error* error) {
  return error ? error->message.c_str() : "";
}

void a2edit_error_free(a2edit_error* error) {
  if (error != memory_error()) delete error;
}

a2edit_error* a2edit_editor_open(const char* bundle, const a2edit_options* options,
                                 a2edit_editor** editor) {
  return guarded([&] {
    check_given(editor, "editor");
    *editor = nullptr;
    check_given(bundle, "bundle");
    *editor = new a2edit_editor{{bundle, options_of(options)}};
  });
}

void a2edit_editor_close(a2edit_editor* editor) { delete editor; }

a2edit_error* a2edit_editor_load(a2edit_editor* editor) {
  return guarded([&] {
    check_given(editor, "editor");
    editor->editor.open_engines();
  });
}

a2edit_error* a2edit_editor_get_info(const a2edit_editor* editor, a2edit_info* info) {
  return guarded([&] {
    check_given(editor, "editor");
    const a2edit::Manifest& manifest = editor->editor.manifest();
    static_assert(sizeof(int) == sizeof(int32_t));
    a2edit_info values{};
    values.name = manifest.name.c_str();
    values.bundle_hash = manifest.bundle_hash.c_str();
    values.target = editor->editor.target().c_str();
    values.engine = editor->editor.backend().c_str();
    values.sizes = manifest.model.sizes.data();
    values.size_count = static_cast<int32_t>(manifest.model.sizes.size());
    values.size = manifest.model.size;
    values.steps = manifest.sampler.steps;
    values.blocks = manifest.model.blocks;
    values.experts = manifest.model.experts;
    fill(info, "info", values);
  });
}

a2edit_error* a2edit_request_create(a2edit_request** request) {
  return guarded([&] {
    check_given(request, "request");
    *request = nullptr;
    *request = new a2edit_request{};
  });
}

void a2edit_request_free(a2edit_request* request) { delete request; }

a2edit_error* a2edit_request_set_picture(a2edit_request* request, a2edit_role role,
                                         const a2edit_picture* picture) {
  return guarded([&] {
    check_given(request, "request");
    const a2edit_picture given = known_part(picture, "picture");
    a2edit::Request& into = request->request;
    switch (role) {
      case A2EDIT_IMAGE: into.image = source_of(given, "image"); return;
      case A2EDIT_REFERENCE: into.reference = source_of(given, "reference"); return;
      case A2EDIT_MASK: into.mask = source_of(given, "mask"); return;
      case A2EDIT_REFERENCE_MASK: into.reference_mask = source_of(given, "reference_mask"); return;
    }
    fail_request("role " + std::to_string(static_cast<int>(role)) +
                 " is unknown: use A2EDIT_IMAGE, A2EDIT_REFERENCE, A2EDIT_MASK or "
                 "A2EDIT_REFERENCE_MASK");
  });
}

a2edit_error* a2edit_request_add_box(a2edit_request* request, int32_t x0, int32_t y0, int32_t x1,
                                     int32_t y1) {
  return guarded([&] {
    check_given(request, "request");
    request->request.boxes.push_back(a2edit::checked({x0, y0, x1, y1}));
  });
}

a2edit_error* a2edit_request_set_prompt(a2edit_request* request, const char* prompt) {
  return guarded([&] {
    check_given(request, "request");
    check_given(prompt, "prompt");
    request->request.prompt = prompt;
  });
}

a2edit_error* a2edit_request_set_steps(a2edit_request* request, int32_t steps) {
  return guarded([&] {
    check_given(request, "request");
    request->request.steps = steps ? std::optional(a2edit::check_steps(steps)) : std::nullopt;
  });
}

a2edit_error* a2edit_request_set_seed(a2edit_request* request, uint64_t seed) {
  return guarded([&] {
    check_given(request, "request");
    request->request.seed = seed;
  });
}

a2edit_error* a2edit_request_set_size(a2edit_request* request, int32_t size) {
  return guarded([&] {
    check_given(request, "request");
    request->request.size = size ? std::optional<int>(size) : std::nullopt;
  });
}

a2edit_error* a2edit_request_set_resize_mask(a2edit_request* request, int32_t resize) {
  return guarded([&] {
    check_given(request, "request");
    request->request.resize_mask = resize != 0;
  });
}

a2edit_error* a2edit_editor_edit(a2edit_editor* editor, const a2edit_request* request,
                                 a2edit_progress progress, void* user, a2edit_result** result) {
  return guarded([&] {
    check_given(result, "result");
    *result = nullptr;
    check_given(editor, "editor");
    check_given(request, "request");
    check_complete(request->request);
    a2edit::Progress told;
    if (progress)
      told = [&](int done, int steps) { return progress(user, done, steps) == 0; };
    const a2edit::ModelSpec& model = editor->editor.manifest().model;
    auto made = std::make_unique<a2edit_result>(a2edit_result{
        editor->editor.edit(request->request, told), model.blocks, model.experts, {}, {}});
    for (const std::string& warning : made->result.warnings)
      made->warnings.push_back(warning.c_str());
    for (const auto& [stage, seconds] : made->result.seconds)
      made->timings.push_back({stage.c_str(), seconds});
    *result = made.release();
  });
}

void a2edit_result_free(a2edit_result* result) { delete result; }

a2edit_error* a2edit_result_get(const a2edit_result* result, a2edit_outcome* outcome) {
  return guarded([&] {
    check_given(result, "result");
    const a2edit::EditResult& made = result->result;
    a2edit_outcome values{};
    values.pixels = made.image.data.data();
    values.width = made.image.width;
    values.height = made.image.height;
    values.channels = made.image.channels;
    values.icc = made.icc.empty() ? nullptr : made.icc.data();
    values.icc_size = made.icc.size();
    values.route = made.plan.route.c_str();
    values.supply = a2edit::supply_name(made.plan.supply);
    values.predicted_error = made.plan.predicted_error;
    values.seed = made.seed;
    values.steps = made.steps;
    const int32_t window[] = {made.window.x0, made.window.y0, made.window.x1, made.window.y1};
    std::copy(std::begin(window), std::end(window), values.window);
    values.gate_weights = made.gate_weights.data();
    values.route_table = made.plan.table.data();
    values.blocks = result->blocks;
    values.experts = result->experts;
    values.bundle_hash = made.bundle_hash.c_str();
    values.warnings = result->warnings.data();
    values.warning_count = static_cast<int32_t>(result->warnings.size());
    values.timings = result->timings.data();
    values.timing_count = static_cast<int32_t>(result->timings.size());
    fill(outcome, "outcome", values);
  });
}

a2edit_error* a2edit_result_save(const a2edit_result* result, const char* path) {
  return guarded([&] {
    check_given(result, "result");
    check_given(path, "path");
    const a2edit::EditResult& made = result->result;
    a2edit::check_output(path);
    a2edit::save_picture(made.image, made.icc, path, made.text());
  });
}
