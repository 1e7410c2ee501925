// manifest.json: what is in a bundle (docs/architecture.md, "The bundle"), as structs.
//
// The file is plain JSON. `bundle_hash` is the SHA-256 of its canonical form with that field left
// out: keys sorted, no spaces, UTF-8 as it is. Every other file of the bundle is listed in `files`
// with its own hash, so a changed byte anywhere is seen. runtime/manifest.py has the same nouns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/core/json.hpp"
#include "src/core/spec.hpp"
#include "src/core/table.hpp"
#include "src/core/tensor.hpp"

namespace a2edit {

constexpr int schema_version = 6;
constexpr const char* manifest_name = "manifest.json";
// The denoiser in two, for a step cache of this kind: only bundles that were built for it have them.
constexpr const char* cache_kind = "first-block";
constexpr const char* cache_graphs[] = {"dit_head", "dit_tail"};
// How every refusal of a damaged bundle ends.
constexpr const char* rebuild =
    "the bundle is damaged or incomplete; copy it again or build it again";

// How the schedule bends with the length of the image sequence (SPEC §2).
struct Shift {
  double base_shift = 0.5;
  double max_shift = 1.15;
  std::int64_t base_tokens = 256;
  std::int64_t max_tokens = 4096;
};

// Defaults of an edit, and the bend of the schedule.
struct SamplerEntry {
  int steps = 0;
  double guidance = 0;
  Shift shift;
};

struct TokenizerEntry {
  std::string file;
  int length = 0;
  int pad_id = 0;
};

// The edge of a graph. `weights` and `parameters` are inputs too, and not given at every run:
// weights are a route's, bound for as long as it runs; parameters are matrices that no route
// changes, fed once.
struct GraphEntry {
  std::string file;
  std::vector<TensorSpec> inputs, outputs, weights, parameters;
};

using GateTable = std::vector<std::vector<double>>;  // [L][N]

// A table R[L][N] of frozen expert weights, 0 = inactive (SPEC §3).
struct RouteEntry {
  GateTable table;
  double predicted_error = 0;  // mean over the calibration samples of this route
  std::int64_t members = 0;    // how many of them there were
};

// What a wrong expert weight costs (SPEC §5).
struct MetricEntry {
  std::vector<GateTable> gram;  // [L][N][N]
  double energy = 0;            // of the output that errors are relative to
  double tolerance = 0;         // the predicted error up to which a static route is good enough
};

// What a route that was not built ahead is merged from: `file` holds for every routed linear
// "<linear>.weight" [out, in], "<linear>.A" [N, r, in] and "<linear>.B" [N, out, r]; of linears that
// become int8 "<linear>.smooth" [in] too.
struct MergeEntry {
  std::string file;
  double scale = 0;   // α/r
  Table<int> blocks;  // linear -> row of the gate table
  double error = 0;   // of the velocity, relative: what a base in 8 bits costs, measured
};

// A function of a cubin that merges a route on a GPU, for one combination of types:
// runtime/merge_kernels.py says how it is launched, and engines/device_merger.cpp does it.
struct MergeKernelEntry {
  std::string file, symbol;
  std::string phase;                         // "one_pass", "maxima", "levels"; "cast"
  std::string base, factors, weight, scale;  // types; no scale for weights of more than 8 bits
  bool smooth = false;                       // whether columns are multiplied by factors
  std::int64_t threads = 0, shared = 0;      // of a block; bytes that a launch asks for
  std::int64_t rows = 0, columns = 0;        // of a block's tile
  std::int64_t scratch = 0;                  // null pointers behind the arguments
};

// What leaving out the denoiser's tail costs. A host without such a loop has no other use for it
// than to know a sound bundle by.
struct StepCacheEntry {
  std::string kind;
  double threshold = 0;  // the relative error of the velocity that a step may be predicted to have
  std::int64_t most_skipped = 0;  // steps in a row
  Table<double> slopes;  // route -> that error over the change of the first block's residual
};

// A compiled graph; `variant` says which of its graph's forms, and which weights fit it.
struct EngineEntry {
  std::string file, variant, backend, version, precision;
  std::string materialise;  // "inputs": routes are bound; "baked": one engine a route
};

struct FileEntry {
  std::string sha256;
  std::int64_t bytes = 0;
};

// Everything that a host needs to know.
struct Manifest {
  std::string name;
  ModelSpec model;
  SamplerEntry sampler;
  Table<TokenizerEntry> tokenizers;
  Table<Table<GraphEntry>> graphs;        // graph -> variant
  Table<Table<std::string>> weight_sets;  // variant of the denoiser -> route -> file
  Table<RouteEntry> routes;
  MetricEntry route_metric;
  Table<Table<EngineEntry>> engines;      // target -> graph -> engine
  Table<FileEntry> files;
  std::optional<MergeEntry> merge;        // none: built with --routes-only
  Table<std::vector<MergeKernelEntry>> merge_kernels;  // target -> its kernels
  std::optional<std::string> calibration; // the file of the tables that routes were made from
  std::optional<StepCacheEntry> step_cache;  // none: built without --cache
  Json verification = Json::object();     // target -> what was measured and accepted
  std::string bundle_hash;
};

// Read and check `folder`/manifest.json; throws a bundle Error, which names the file.
Manifest read_manifest(const std::string& folder);

// Content to structs; unknown and missing keys are refused, and so are values of other types and
// loose ends.
Manifest manifest_from_json(const Json& content);

// SHA-256 of the canonical JSON without `bundle_hash`.
std::string canonical_hash(const Json& content);

// The one way in which a manifest's content is written.
std::string file_bytes(const Json& content);

}  // namespace a2edit
