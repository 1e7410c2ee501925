// Merging inside a pool of engines, on a GPU of host memory: who merges, what memory does to it.
#include "src/engines/merging.hpp"

#include "src/core/resident.hpp"
#include "src/engines/copies.hpp"
#include "src/engines/pool.hpp"
#include "tests/played_merge.hpp"
#include "tests/refusal.hpp"

using namespace a2edit;
using fake::Bytes;
using fake::bytes_of;
using fake::HostCuda;

namespace {

using Names = std::vector<std::string>;

// Reads weights that were merged on the GPU from its memory, and copies others there.
class Far : public Engine {
 public:
  Far(GraphSpec spec, HostCuda& cuda)
      : Engine(std::move(spec)), cuda_(cuda), stream_(cuda), copies_([this](const Array& array) {
          const auto copy = std::make_shared<const DeviceBuffer>(cuda_, array.nbytes());
          stream_.upload(array, *copy);
          return copy;
        }) {}

  Bytes bound;
  bool placed = false;

  void forget_gone() override { copies_.forget_gone(); }

 private:
  void bind_arrays(const Arrays& arrays) override {
    copies_.of(arrays);
    bound = bytes_of({"near", arrays, nullptr});
    placed = false;
  }
  void bind_placed(const Arrays&, const DeviceTensors& weights) override {
    bound = bytes_of({"far", {}, nullptr, weights});
    placed = true;
  }
  void unbind_arrays() override {}
  Arrays run_arrays(const Arrays&) override { return {}; }

  HostCuda& cuda_;
  Stream stream_;
  DeviceCopies copies_;
};

struct FarBackend : Backend {
  explicit FarBackend(HostCuda& host) : cuda(host) {}
  std::string version() const override { return "1"; }
  std::unique_ptr<Engine> from_blob(GraphSpec spec, const std::string&,
                                    const std::string&) const override {
    return std::make_unique<Far>(std::move(spec), cuda);
  }
  bool compiles() const override { return false; }
  std::unique_ptr<Engine> from_onnx(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override {
    return from_blob(std::move(spec), path, precision);
  }

  HostCuda& cuda;
};

// A pool of a bundle for one GPU that has kernels for it, and the sets in memory.
struct Machine {
  HostCuda cuda;
  fake::Folder folder;
  Bundle bundle{folder.path, {}};
  FarBackend backend{cuda};
  Backends backends{{{"tensorrt_rtx", &backend}}, [] { return Capability{8, 9}; }, &cuda};
  std::vector<MergeKernelEntry> kernels =
      kernels_of(folder, Type::bfloat16, Type::float8_e4m3fn, false);
  fake::PlayedMerge played{cuda, kernels};
  std::unique_ptr<EnginePool> pool;
  std::optional<WeightSource> merged;
  ResidentSets sets{std::nullopt, [this](const SharedWeights& set) { pool->release(set); }};
  int tries = 0;

  explicit Machine(const std::string& target = "sm89") {
    const auto weights = fake::weights_of(Type::float8_e4m3fn);
    Table<GraphEntry> variants;
    variants.add("fp8", {"dit.onnx", {}, {}, weights, {}});
    bundle.manifest.graphs.add("dit", variants);
    Table<EngineEntry> engines;
    engines.add("dit", {"dit.plan", "fp8", "tensorrt_rtx", "1", "fp8", "inputs"});
    bundle.manifest.engines.add("sm89", engines);
    bundle.manifest.merge = fake::write_source(folder, Type::bfloat16, false);
    bundle.manifest.merge_kernels.add(target, kernels);
  }

  void open() {
    pool = std::make_unique<EnginePool>(bundle, "cuda", "auto", backends);
    pool->open_all();
    merged = pool->merged_weights();
  }

  // An edit by a table, as the pipeline does it.
  void edit(float gate) {
    const std::vector<float> table = {gate, 0, -0.5, 1, 0, gate};
    RoutePlan plan;
    plan.table = table;
    plan.supply = Supply::merged;
    pool->with_room(
        [&] {
          ++tries;
          pool->denoiser({sets.get("merged " + std::to_string(gate), merged->nbytes,
                                   [&] { return merged->make(plan); }),
                          plan});
        },
        [this] { sets.clear(); });
    const RouteMerger processor(folder.file("merge.safetensors"), *bundle.manifest.merge,
                                fake::weights_of(Type::float8_e4m3fn));
    CHECK(engine().bound == bytes_of(processor.merge(table, "")));
  }

  Far& engine() { return dynamic_cast<Far&>(pool->get("dit")); }

  // Everything that is on the GPU goes with the pool and the sets.
  void close() {
    sets.clear();
    merged.reset();
    pool.reset();
    CHECK(cuda.blocks.empty());
    CHECK(cuda.images.empty());
  }
};

constexpr const char* full =
    "routes are merged on the processor: 0 MB on the GPU: the GPU's memory is full; close what "
    "else uses it, or build with --preset small";

}  // namespace

TEST_CASE("routes are merged on the GPU from the first that is asked for") {
  Machine it;
  it.open();
  CHECK(it.cuda.blocks.empty());
  it.edit(1);
  CHECK(it.engine().placed);
  const std::size_t own = it.cuda.blocks.size();
  const int uploads = it.cuda.uploads;
  it.edit(2);
  CHECK(it.cuda.blocks.size() == own + 1);
  CHECK(it.cuda.uploads == uploads + 1);  // of the table
  it.edit(1);                             // is still there
  CHECK(it.cuda.uploads == uploads + 1);
  CHECK(it.tries == 3);
  CHECK(it.pool->warnings().empty());
  it.close();
}

TEST_CASE("what was merged outlives the pool's base") {
  Machine it;
  it.open();
  it.edit(1);
  const SharedWeights set = it.sets.get("merged " + std::to_string(1.0F), 0, {});
  const Bytes before = bytes_of(*set);
  it.sets.clear();
  it.pool.reset();
  CHECK(it.cuda.blocks.size() == 1);
  CHECK(bytes_of(*set) == before);
}

TEST_CASE("without kernels for every linear and this GPU the processor merges unasked") {
  for (const bool elsewhere : {true, false}) {
    Machine it(elsewhere ? "sm80" : "sm89");
    if (!elsewhere) fake::write_source(it.folder, Type::float16, false);
    it.open();
    it.edit(1);
    CHECK_FALSE(it.engine().placed);
    CHECK(it.cuda.kernels.empty());
    CHECK(it.pool->warnings().empty());
    it.close();
  }
}

TEST_CASE("kernels that do not load are left out with a warning, once") {
  Machine it;
  it.folder.write("levels.cubin", "another");
  it.open();
  for (const float gate : {1, 2}) it.edit(gate);
  CHECK_FALSE(it.engine().placed);
  CHECK(it.pool->warnings() ==
        Names{"routes are merged on the processor: kernel '" + it.folder.file("levels.cubin") +
              "' cannot be loaded; it may want a newer driver, or the bundle was built for another "
              "GPU: CUDA says: named symbol not found"});
  CHECK(it.tries == 2);
  it.close();
}

TEST_CASE("a base that does not fit is said, and the processor merges") {
  Machine it;
  it.open();
  it.cuda.room = 30000;  // of which a set takes half
  for (const float gate : {1, 2, 3}) it.edit(gate);
  CHECK_FALSE(it.engine().placed);
  CHECK(it.pool->warnings() == Names{full});
  CHECK(it.tries == 3 + 2);
  it.close();
}

TEST_CASE("sets that pile up on the GPU make room for the next") {
  Machine it;
  it.open();
  it.edit(1);
  it.cuda.room = 20000;  // for one more
  for (const float gate : {2, 3, 4, 3}) it.edit(gate);
  CHECK(it.engine().placed);
  CHECK(it.tries == 5 + 1);
  CHECK(it.pool->warnings().empty());
  it.close();
}

TEST_CASE("copies of sets that are gone leave the GPU to the base") {
  Machine it;
  it.open();
  Arrays tensors;
  for (const TensorSpec& spec : fake::weights_of(Type::float8_e4m3fn))
    tensors[spec.name] = Array(spec.type, spec.shape);
  RouteChoice fixed;
  fixed.weights = it.sets.get("static", it.merged->nbytes, [&] {
    return WeightSet{"static", std::exchange(tensors, {}), nullptr};
  });
  it.pool->denoiser(fixed);
  fixed = {};
  const std::size_t copies = it.cuda.blocks.size();
  CHECK(copies == 4);
  it.cuda.room = 50000;  // for base and experts, and not for a set
  it.edit(1);
  CHECK(it.engine().placed);
  CHECK(it.tries == 2);
  CHECK(it.pool->warnings().empty());
  it.close();
}

TEST_CASE("where not one set fits beside the base, the base goes") {
  Machine it;
  it.open();
  it.edit(1);
  it.sets.clear();
  it.cuda.room = 10000;  // which is too little for a set
  it.edit(2);
  CHECK_FALSE(it.engine().placed);
  CHECK(it.pool->warnings() == Names{full});
  CHECK(it.cuda.images.empty());
  it.edit(3);
  CHECK(it.tries == 1 + 3 + 1);
  it.close();
}

TEST_CASE("what has nothing to do with merging is not tried again") {
  Machine it;
  it.open();
  const auto tried = [&](ErrorKind kind) {
    int tries = 0;
    CHECK(refusal(kind, [&] {
            it.pool->with_room(
                [&]() -> void {
                  ++tries;
                  throw Error(kind, "no");
                },
                [&] { it.sets.clear(); });
          }) == "no");
    return tries;
  };
  CHECK(tried(ErrorKind::device_memory) == 1);  // nothing was merged there
  it.edit(1);
  CHECK(tried(ErrorKind::engine) == 1);
  CHECK(it.pool->warnings().empty());
  CHECK(tried(ErrorKind::device_memory) == 3);
  CHECK(it.pool->warnings() == Names{"routes are merged on the processor: no"});
  CHECK(tried(ErrorKind::device_memory) == 1);
  it.close();
}
