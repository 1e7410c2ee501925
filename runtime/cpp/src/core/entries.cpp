// The manifest's content to structs; what of it must fit together is in manifest.cpp.
#include <cmath>
#include <set>
#include <tuple>

#include "src/core/error.hpp"
#include "src/core/fields.hpp"
#include "src/core/manifest.hpp"
#include "src/core/repr.hpp"
#include "src/core/sha256.hpp"

namespace a2edit {

void check_references(const Manifest& manifest);  // manifest.cpp

namespace {

// Its fields are checked together when all of them are there, as Python's __post_init__ does.
ModelSpec model_entry(const Json& value, const std::string& where) {
  ModelSpec model;
  std::vector<std::int64_t> sizes;
  std::vector<std::pair<std::string, int*>> counts = {
      {"size", &model.size},
      {"batch", &model.batch},
      {"latent_channels", &model.latent_channels},
      {"conditioning_channels", &model.conditioning_channels},
      {"text_length", &model.text_length},
      {"pooled_length", &model.pooled_length},
      {"reference_size", &model.reference_size},
      {"blocks", &model.blocks},
      {"experts", &model.experts},
  };
  std::vector<Field> fields = {
      text_field("layout", model.layout),
      text_field("reference_placement", model.reference_placement),
      {"sizes",
       [&sizes](const Json& list, const std::string& at) {
         for (const Json& side : list_of(list, at)) sizes.push_back(whole_of(side, at));
       }},
      text_field("checkpoint_hash", model.checkpoint_hash, false),
  };
  for (const auto& [name, into] : counts) fields.push_back(whole_field(name, *into));
  read_fields(value, where, fields);

  const auto known = [](const std::string& given, const char* one, const char* other) {
    return given == one || given == other;
  };
  if (!known(model.layout, "diptych", "redux"))
    fail_bundle("model.layout is " + repr(model.layout) + "; known are diptych, redux");
  if (!known(model.reference_placement, "aligned", "centred"))
    fail_bundle("model.reference_placement is " + repr(model.reference_placement) +
                "; known are aligned, centred");
  for (const auto& [name, count] : counts)
    if (*count < 1)
      fail_bundle("model." + name + " is " + std::to_string(*count) + ": must be 1 or more");
  bool sound = true;
  for (const std::int64_t side : sizes) {
    const std::int64_t last = model.sizes.empty() ? 0 : model.sizes.back();
    sound = sound && side > last && side % patch == 0 && side < 1 << 24;
    if (sound) model.sizes.push_back(static_cast<int>(side));
  }
  if (!sound || std::find(model.sizes.begin(), model.sizes.end(), model.size) == model.sizes.end())
    fail_bundle("model.sizes is " + list_text(sizes) + ": must be multiples of " +
                std::to_string(patch) + " in rising order, and hold model.size, " +
                std::to_string(model.size));
  return model;
}

SamplerEntry sampler_entry(const Json& value, const std::string& where) {
  SamplerEntry entry;
  read_fields(value, where,
              {whole_field("steps", entry.steps), number_field("guidance", entry.guidance),
               number_field("base_shift", entry.shift.base_shift),
               number_field("max_shift", entry.shift.max_shift),
               whole_field("base_tokens", entry.shift.base_tokens),
               whole_field("max_tokens", entry.shift.max_tokens)});
  return entry;
}

TokenizerEntry tokenizer_entry(const Json& value, const std::string& where) {
  TokenizerEntry entry;
  read_fields(value, where,
              {text_field("file", entry.file), whole_field("length", entry.length),
               whole_field("pad_id", entry.pad_id)});
  return entry;
}

TensorSpec tensor_entry(const Json& value, const std::string& where) {
  TensorSpec spec;
  std::string dtype;
  read_fields(value, where,
              {text_field("name", spec.name), text_field("dtype", dtype),
               {"shape", [&spec](const Json& list, const std::string& at) {
                  for (const Json& size : list_of(list, at))
                    spec.shape.push_back(whole_of(size, at));
                }}});
  if (!type_from(dtype, spec.type))
    fail_bundle("tensor " + repr(spec.name) + " has dtype " + repr(dtype) + "; known are " +
                type_names());
  for (const std::int64_t size : spec.shape) {
    if (size < open_size)
      fail_bundle("tensor " + repr(spec.name) + " has shape " + list_text(spec.shape));
    if (size > std::int64_t{1} << 40)  // Python counts further
      fail_bundle(where + ".shape has " + std::to_string(size) + ": it must be below 2^40");
  }
  return spec;
}

GraphEntry graph_entry(const Json& value, const std::string& where) {
  GraphEntry entry;
  const auto tensors = [](const char* name, std::vector<TensorSpec>& into, bool needed) {
    return Field{name,
                 [&into](const Json& list, const std::string& at) {
                   for (const Json& item : list_of(list, at))
                     into.push_back(tensor_entry(item, at));
                 },
                 needed};
  };
  read_fields(value, where,
              {text_field("file", entry.file), tensors("inputs", entry.inputs, true),
               tensors("outputs", entry.outputs, true), tensors("weights", entry.weights, false),
               tensors("parameters", entry.parameters, false),
               {"activations",  // for memory plans, which this host does not make
                [](const Json& value, const std::string& at) { whole_of(value, at); }, false}});
  return entry;
}

std::string weight_set_entry(const Json& value, const std::string& where) {
  std::string file;
  read_fields(value, where, {text_field("file", file)});
  return file;
}

GateTable table_entry(const Json& value, const std::string& where) {
  GateTable table;
  for (const Json& row : list_of(value, where)) {
    table.emplace_back();
    for (const Json& number : list_of(row, where)) table.back().push_back(number_of(number, where));
  }
  return table;
}

RouteEntry route_entry(const Json& value, const std::string& where) {
  RouteEntry entry;
  read_fields(value, where,
              {{"table",
                [&entry](const Json& rows, const std::string& at) {
                  entry.table = table_entry(rows, at);
                }},
               number_field("predicted_error", entry.predicted_error),
               whole_field("members", entry.members)});
  return entry;
}

MetricEntry metric_entry(const Json& value, const std::string& where) {
  MetricEntry entry;
  const auto gram = [&entry](const Json& blocks, const std::string& at) {
    for (const Json& block : list_of(blocks, at)) entry.gram.push_back(table_entry(block, at));
  };
  read_fields(value, where,
              {{"gram", gram}, number_field("energy", entry.energy),
               number_field("tolerance", entry.tolerance)});
  if (!(entry.energy > 0))
    fail_bundle("route_metric.energy is " + repr(value["energy"]) + ": it must be above 0");
  return entry;
}

MergeEntry merge_entry(const Json& value, const std::string& where) {
  MergeEntry entry;
  const auto blocks = [&entry](const Json& rows, const std::string& at) {
    entry.blocks = table_of<int>(rows, at, [](const Json& row, const std::string& linear) {
      int block = 0;
      whole_field("", block).read(row, linear);
      return block;
    });
  };
  read_fields(value, where,
              {text_field("file", entry.file), number_field("scale", entry.scale),
               {"blocks", blocks}, number_field("error", entry.error, false)});
  if (!(entry.error >= 0 && entry.error < 1))
    fail_bundle("merge.error is " + repr(value["error"]) + ": it must be 0 or more, and below 1");
  return entry;
}

// One of the texts that a field of a kernel may be.
void check_known(const MergeKernelEntry& kernel, const char* name, const std::string& value,
                 const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  std::vector<std::string> shown;
  for (const std::string& text : allowed) shown.push_back(repr(text));
  fail_bundle("merge kernel " + repr(kernel.symbol) + " has " + name + " " + repr(value) +
              "; known are " + joined(shown));
}

void check_kernel(const MergeKernelEntry& kernel) {
  const std::vector<std::string> floats = {"float32", "float16", "bfloat16"};
  const std::vector<std::string> levels = {"int8", "float8_e4m3fn"};
  std::vector<std::string> bases = floats, weights = floats;
  bases.push_back("int8");
  weights.insert(weights.end(), levels.begin(), levels.end());
  const bool narrow = std::find(levels.begin(), levels.end(), kernel.weight) != levels.end();
  check_known(kernel, "phase", kernel.phase, {"one_pass", "maxima", "levels", "cast"});
  check_known(kernel, "base", kernel.base, bases);
  check_known(kernel, "factors", kernel.factors, floats);
  check_known(kernel, "weight", kernel.weight, weights);
  check_known(kernel, "scale", kernel.scale,
              narrow ? std::vector<std::string>{"float32", "bfloat16"}
                     : std::vector<std::string>{""});
  if ((kernel.phase == "cast") != kernel.scale.empty())
    fail_bundle("merge kernel " + repr(kernel.symbol) + " has phase " + repr(kernel.phase) +
                " for " + kernel.weight);
  const std::vector<std::tuple<std::string, std::int64_t, std::int64_t>> counts = {
      {"threads", kernel.threads, 1}, {"shared", kernel.shared, 0},   {"rows", kernel.rows, 1},
      {"columns", kernel.columns, 1}, {"scratch", kernel.scratch, 0},
  };
  for (const auto& [name, count, least] : counts)
    if (count < least)
      fail_bundle("merge kernel " + repr(kernel.symbol) + " has " + name + " " +
                  std::to_string(count) + ": must be " + std::to_string(least) + " or more");
}

std::vector<MergeKernelEntry> merge_kernel_entries(const Json& value, const std::string& where) {
  std::vector<MergeKernelEntry> entries;
  for (const Json& item : list_of(value, where)) {
    MergeKernelEntry& entry = entries.emplace_back();
    read_fields(item, where,
                {text_field("file", entry.file), text_field("symbol", entry.symbol),
                 text_field("phase", entry.phase), text_field("base", entry.base),
                 text_field("factors", entry.factors), text_field("weight", entry.weight),
                 text_field("scale", entry.scale), truth_field("smooth", entry.smooth),
                 whole_field("threads", entry.threads), whole_field("shared", entry.shared),
                 whole_field("rows", entry.rows), whole_field("columns", entry.columns),
                 whole_field("scratch", entry.scratch)});
    check_kernel(entry);
  }
  return entries;
}

std::string calibration_entry(const Json& value, const std::string& where) {
  std::string file;
  const auto categories = [](const Json& list, const std::string& at) {
    for (const Json& category : list_of(list, at)) text_of(category, at);
  };
  read_fields(value, where, {text_field("file", file), {"categories", categories}});
  return file;
}

StepCacheEntry step_cache_entry(const Json& value, const std::string& where) {
  StepCacheEntry entry;
  const auto slopes = [&entry](const Json& numbers, const std::string& at) {
    entry.slopes = table_of<double>(numbers, at, number_of);
  };
  read_fields(value, where,
              {text_field("kind", entry.kind), number_field("threshold", entry.threshold),
               whole_field("most_skipped", entry.most_skipped), {"slopes", slopes}});
  if (entry.kind != cache_kind)
    fail_bundle("step_cache.kind is " + repr(entry.kind) + "; known is " + cache_kind);
  if (!(entry.threshold > 0 && entry.threshold < 1))
    fail_bundle("step_cache.threshold is " + repr(value["threshold"]) +
                ": it must be above 0 and below 1");
  if (entry.most_skipped < 1)
    fail_bundle("step_cache.most_skipped is " + std::to_string(entry.most_skipped) +
                ": must be 1 or more");
  for (const auto& [route, slope] : entry.slopes)
    if (!(slope > 0)) fail_bundle("step_cache.slopes must be above 0");
  return entry;
}

EngineEntry engine_entry(const Json& value, const std::string& where) {
  EngineEntry entry;
  read_fields(value, where,
              {text_field("file", entry.file), text_field("variant", entry.variant),
               text_field("backend", entry.backend), text_field("version", entry.version),
               text_field("precision", entry.precision),
               text_field("materialise", entry.materialise)});
  return entry;
}

FileEntry file_entry(const Json& value, const std::string& where) {
  FileEntry entry;
  read_fields(value, where, {text_field("sha256", entry.sha256), whole_field("bytes", entry.bytes)});
  return entry;
}

// An object of objects of entries.
template <class T, class Read>
Table<Table<T>> tables_of(const Json& value, const std::string& where, Read read) {
  return table_of<Table<T>>(value, where, [read](const Json& inner, const std::string& at) {
    return table_of<T>(inner, at, read);
  });
}

// What Python takes for "nothing there".
bool falsy(const Json& value) {
  if (value.is_structured()) return value.empty();
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_number() && value.get<double>() == 0);
}

}  // namespace

Manifest manifest_from_json(const Json& content) {
  Manifest manifest;
  Json unused;
  int version = 0;
  using At = const std::string&;
  const auto keep = [&unused](const Json& value, At where) {
    check_object(value, where);
    unused = value;
  };
  read_fields(
      content, "",
      {text_field("name", manifest.name),
       {"model", [&](const Json& value, At at) { manifest.model = model_entry(value, at); }},
       {"sampler", [&](const Json& value, At at) { manifest.sampler = sampler_entry(value, at); }},
       {"tokenizers",
        [&](const Json& value, At at) {
          manifest.tokenizers = table_of<TokenizerEntry>(value, at, tokenizer_entry);
        }},
       {"graphs",
        [&](const Json& value, At at) {
          manifest.graphs = tables_of<GraphEntry>(value, at, graph_entry);
        }},
       {"weight_sets",
        [&](const Json& value, At at) {
          manifest.weight_sets = tables_of<std::string>(value, at, weight_set_entry);
        }},
       {"routes",
        [&](const Json& value, At at) {
          manifest.routes = table_of<RouteEntry>(value, at, route_entry);
        }},
       {"route_metric",
        [&](const Json& value, At at) { manifest.route_metric = metric_entry(value, at); }},
       {"engines",
        [&](const Json& value, At at) {
          manifest.engines = tables_of<EngineEntry>(value, at, engine_entry);
        }},
       {"files",
        [&](const Json& value, At at) {
          manifest.files = table_of<FileEntry>(value, at, file_entry);
        }},
       {"merge",
        [&](const Json& value, At at) {
          if (!falsy(value)) manifest.merge = merge_entry(value, at);
        },
        false},
       {"merge_kernels",
        [&](const Json& value, At at) {
          manifest.merge_kernels =
              table_of<std::vector<MergeKernelEntry>>(value, at, merge_kernel_entries);
        },
        false},
       {"calibration",
        [&](const Json& value, At at) {
          if (!falsy(value)) manifest.calibration = calibration_entry(value, at);
        },
        false},
       {"step_cache",
        [&](const Json& value, At at) {
          if (!falsy(value)) manifest.step_cache = step_cache_entry(value, at);
        },
        false},
       {"precision", keep, false},
       {"verification",
        [&](const Json& value, At at) {
          check_object(value, at);
          manifest.verification = value;
        },
        false},
       {"tools", keep, false},
       {"schema_version",
        [&](const Json& value, At at) { whole_field("", version).read(value, at); }, false},
       text_field("bundle_hash", manifest.bundle_hash, false)});
  check_references(manifest);
  return manifest;
}

}  // namespace a2edit
