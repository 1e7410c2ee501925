// Which engines of a bundle are opened, where and by what, on backends that record.
#include <doctest/doctest.h>

#include "src/engines/pool.hpp"
#include "tests/refusal.hpp"

using namespace a2edit;

namespace {

class Nothing : public Engine {
 public:
  Nothing(GraphSpec spec, std::string says) : Engine(std::move(spec)) {
    if (!says.empty()) warn(std::move(says));
  }

 private:
  void bind_arrays(const Arrays&) override {}
  void unbind_arrays() override {}
  Arrays run_arrays(const Arrays&) override { return {}; }
};

class Recording : public Backend {
 public:
  explicit Recording(bool compiles) : compiles_(compiles) {}

  std::string own_version = "1";
  std::string says;
  mutable std::vector<std::string> opened;

  std::string version() const override { return own_version; }
  std::unique_ptr<Engine> from_blob(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override {
    opened.push_back("blob " + spec.name + " " + path + " " + precision);
    return std::make_unique<Nothing>(std::move(spec), says);
  }
  bool compiles() const override { return compiles_; }
  std::unique_ptr<Engine> from_onnx(GraphSpec spec, const std::string& path,
                                    const std::string& precision) const override {
    opened.push_back("onnx " + spec.name + " " + path + " " + precision);
    return std::make_unique<Nothing>(std::move(spec), says);
  }

 private:
  bool compiles_;
};

Table<EngineEntry> engines_of(const std::string& target, const std::string& backend) {
  Table<EngineEntry> engines;
  for (const char* graph : {"dit", "gate"})
    engines.add(graph, {target + "/" + graph, "fp32", backend, "1", "fp32", "inputs"});
  return engines;
}

// A bundle for a processor and for two GPUs, in memory.
Bundle bundle_of(const std::string& gpu_backend = "tensorrt_rtx") {
  Bundle bundle{"here", {}};
  for (const char* graph : {"dit", "gate"}) {
    Table<GraphEntry> variants;
    variants.add("fp32", {std::string(graph) + ".onnx", {}, {}, {}, {}});
    bundle.manifest.graphs.add(graph, variants);
  }
  bundle.manifest.engines.add("cpu", engines_of("cpu", "openvino"));
  bundle.manifest.engines.add("sm80", engines_of("sm80", gpu_backend));
  bundle.manifest.engines.add("sm89", engines_of("sm89", gpu_backend));
  return bundle;
}

struct Devices {
  Recording openvino{true}, rtx{false};
  Capability gpu = {8, 9};
  Backends all{{{"openvino", &openvino}, {"tensorrt_rtx", &rtx}}, [this] { return gpu; }};
};

std::string refused(const Bundle& bundle, const char* device, const char* backend,
                    const Backends& backends) {
  return refusal(ErrorKind::target, [&] { EnginePool(bundle, device, backend, backends); });
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("of a bundle's GPUs the one at hand is taken") {
  Devices devices;
  const Bundle bundle = bundle_of();
  for (const auto& [gpu, target] : {std::pair(Capability{8, 9}, "sm89"), {{8, 0}, "sm80"}}) {
    devices.gpu = gpu;
    EnginePool pool(bundle, "cuda", "auto", devices.all);
    CHECK(pool.target() == target);
    CHECK(pool.backend_name() == "tensorrt_rtx");
    pool.open_all();
    pool.get("gate");
  }
  CHECK(devices.rtx.opened == Names{"blob dit here/sm89/dit fp32", "blob gate here/sm89/gate fp32",
                                    "blob dit here/sm80/dit fp32",
                                    "blob gate here/sm80/gate fp32"});
  CHECK(devices.openvino.opened.empty());
  EnginePool(bundle, "cpu", "auto", devices.all).open_all();
  CHECK(devices.openvino.opened.size() == 2);
}

TEST_CASE("a GPU that the bundle has nothing for is refused") {
  Devices devices;
  devices.gpu = {9, 0};
  CHECK(refused(bundle_of(), "cuda", "auto", devices.all) ==
        "'here' has no engines for this GPU (sm90); it has some for cpu, sm80, sm89: build with "
        "another --target, or give another --device");
  devices.gpu = {7, 0};
  CHECK(refused(bundle_of(), "cuda", "auto", devices.all).find("this GPU is sm70;") == 0);
  devices.all.capability = []() -> Capability { fail_target("no GPU"); };
  CHECK(refused(bundle_of(), "cuda", "auto", devices.all) == "no GPU");
}

TEST_CASE("what the library was built without is said beside what it has") {
  Devices devices;
  CHECK(refused(bundle_of("tensorrt"), "cuda", "auto", devices.all) ==
        "this library was built without the engine 'tensorrt': use tensorrt_rtx, or the Python "
        "runtime");
  const Backends processor{{{"openvino", &devices.openvino}}, {}};
  CHECK(
      refused(bundle_of(), "cuda", "auto", processor) ==
      "this library was built without an engine for GPUs, and has openvino: use --device cpu with "
      "a bundle that has cpu engines, a library that was built with A2EDIT_TENSORRT, or the "
      "Python runtime");
}

TEST_CASE("a plan of another version is refused, an engine of another version compiled anew") {
  Devices devices;
  const Bundle bundle = bundle_of();
  devices.rtx.own_version = devices.openvino.own_version = "2";
  EnginePool gpu(bundle, "cuda", "auto", devices.all);
  CHECK(refusal(ErrorKind::target, [&] { gpu.get("gate"); }) ==
        "sm89/gate was compiled by tensorrt_rtx 1, here is 2: install that version, or build the "
        "bundle again");
  EnginePool cpu(bundle, "cpu", "auto", devices.all);
  cpu.get("gate");
  CHECK(devices.openvino.opened == Names{"onnx gate here/gate.onnx fp32"});
  CHECK(cpu.warnings() ==
        Names{"cpu/gate was compiled by openvino 1, here is 2: compiling its graph instead"});
}

TEST_CASE("what engines say is said once, of those that are open") {
  Devices devices;
  devices.rtx.says = "slow";
  const Bundle bundle = bundle_of();
  EnginePool pool(bundle, "cuda", "auto", devices.all);
  CHECK(pool.warnings().empty());
  pool.get("gate");
  pool.get("gate");
  CHECK(pool.warnings() == Names{"slow"});
}
