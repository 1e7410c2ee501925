// TensorRT's engine: what it refuses, and how it handles memory, on a GPU of the host's memory.
#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>

#include "src/core/error.hpp"
#include "tests/host_cuda.hpp"
#include "tests/refusal.hpp"

using namespace a2edit;
using fake::Behaviour;
using fake::HostCuda;

namespace {

const TensorSpec x4 = {"x", Type::float32, {4}}, y4 = {"y", Type::float32, {4}},
                 w4 = {"w", Type::float32, {4}};
const GraphSpec scale = {"scale", {x4}, {y4}, {w4}, {}};
const GraphSpec open_scale = {
    "scale", {{"x", Type::float32, {open_size}}}, {{"y", Type::float32, {open_size}}}, {w4}, {}};

using Floats = std::vector<float>;

Floats ramp(std::size_t count, float factor = 1) {
  Floats values;
  for (std::size_t place = 0; place < count; ++place)
    values.push_back(static_cast<float>(place) * factor);
  return values;
}

Array array_of(const Floats& values) {
  return Array::of(Type::float32, {static_cast<std::int64_t>(values.size())}, values);
}

// Of those numbers on the GPU, in memory that goes with the set.
SharedWeights placed(HostCuda& cuda, float value, const TensorSpec& spec = w4) {
  const auto block = std::make_shared<const DeviceBuffer>(cuda, 16);
  std::fill_n(static_cast<float*>(block->address()), 4, value);
  return std::make_shared<const WeightSet>(
      WeightSet{"far", {}, nullptr, {{"w", {{block, block->address()}, spec.type, spec.shape}}}});
}

SharedWeights weights(float value) {
  return std::make_shared<const WeightSet>(
      WeightSet{"w", {{"w", array_of(Floats(4, value))}}, nullptr});
}

struct Machine {
  HostCuda cuda;
  Behaviour behaviour;
  fake::Library library{cuda, behaviour};
  TensorRtBackend backend{"tensorrt_rtx", library, cuda};

  std::unique_ptr<Engine> engine(const GraphSpec& spec = scale) {
    return tensorrt_engine(spec, std::make_unique<fake::Plan>(cuda, behaviour), cuda);
  }
};

Floats ran(Engine& engine, const Floats& x, const InputNames& unchanged = {}) {
  const Array y = engine.run({{"x", array_of(x)}}, unchanged).at("y");
  return Floats(y.as<float>(), y.as<float>() + item_count(y.shape()));
}

// A file with those bytes, gone with the object.
struct File {
  explicit File(const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  ~File() { std::remove(path.c_str()); }
  std::string path = "a2edit_test.plan";
};

}  // namespace

TEST_CASE("every run follows the bound set, captured or not") {
  Machine machine;
  const auto engine = machine.engine();
  const SharedWeights one = weights(1), two = weights(2);
  for (const SharedWeights& set : {one, two, one}) {
    engine->bind(set);
    const float factor = set == one ? 1 : 2;
    for (const float times : {1, 2, 3})
      CHECK(ran(*engine, ramp(4, times)) == ramp(4, times * factor));
  }
  // the second and third run of every bind are replays
  CHECK(machine.cuda.launches == 6);
  CHECK(machine.cuda.graphs == 3);
  CHECK(machine.cuda.uploads == 2 + 9);
}

TEST_CASE("an input that is as it was is not copied again") {
  Machine machine;
  const auto engine = machine.engine();
  const InputNames same = {"x"};
  const Floats other(4, -1);  // not looked at
  engine->bind(weights(2));
  CHECK(ran(*engine, ramp(4), same) == ramp(4, 2));  // the first run has none before it
  for (int turn = 0; turn < 3; ++turn) CHECK(ran(*engine, other, same) == ramp(4, 2));
  CHECK(machine.cuda.uploads == 1 + 1);
  CHECK(ran(*engine, ramp(4, 3)) == ramp(4, 6));
  CHECK(machine.cuda.uploads == 1 + 2);
}

TEST_CASE("results are not overwritten by the next run") {
  Machine machine;
  const auto engine = machine.engine();
  engine->bind(weights(1));
  const Array first = engine->run({{"x", array_of(ramp(4))}}).at("y");
  ran(*engine, ramp(4, 9));
  CHECK(first.as<float>()[3] == 3);
}

TEST_CASE("a set that is gone gives its memory back") {
  Machine machine;
  auto engine = machine.engine();
  const std::size_t room = machine.cuda.room;
  SharedWeights set = weights(3);
  engine->bind(set);
  CHECK(machine.cuda.room == room - 16);
  ran(*engine, ramp(4));
  ran(*engine, ramp(4));
  set.reset();
  CHECK(machine.cuda.room == room - 16);  // bound: the engine keeps it
  engine->bind(weights(4));
  CHECK(machine.cuda.room == room - 16);
  engine->unbind();
  CHECK(machine.cuda.room == room);
  CHECK(refusal(ErrorKind::engine, [&] { ran(*engine, ramp(4)); }).find("bind a set first") !=
        std::string::npos);
  engine.reset();
  CHECK(machine.cuda.blocks.empty());
}

TEST_CASE("weights that lie on the GPU are bound where they lie") {
  Machine machine;
  HostCuda& cuda = machine.cuda;
  auto engine = machine.engine();
  const std::size_t room = cuda.room;
  SharedWeights far = placed(cuda, 3);
  const SharedWeights near = weights(2);
  for (const SharedWeights& set : {far, near, far}) {
    engine->bind(set);
    for (const float times : {1, 2, 3})
      CHECK(ran(*engine, ramp(4, times)) == ramp(4, times * (set == far ? 3 : 2)));
  }
  CHECK(cuda.uploads == 1 + 9);
  CHECK(cuda.graphs == 3);
  far.reset();
  CHECK(cuda.room == room - 32);  // bound, and the copy of the other
  engine->unbind();
  CHECK(cuda.room == room - 16);
  engine.reset();
  CHECK(cuda.blocks.empty());
}

TEST_CASE("parameters stay beside weights that lie on the GPU") {
  Machine machine;
  machine.behaviour.types["v"] = Type::float32;
  const auto engine = machine.engine({"scale", {x4}, {y4}, {{"v", Type::float32, {4}}}, {w4}});
  engine->feed({{"w", array_of(Floats(4, 5))}});
  SharedWeights far = placed(machine.cuda, 3);
  far = std::make_shared<const WeightSet>(
      WeightSet{"far", {}, nullptr, {{"v", far->placed.at("w")}}});
  engine->bind(far);
  CHECK(ran(*engine, ramp(4)) == ramp(4, 5));
  CHECK(machine.cuda.uploads == 2);
}

TEST_CASE("open sizes follow the inputs with weights that lie on the GPU") {
  Machine machine;
  machine.behaviour.shape = {open_size};
  machine.behaviour.profiles = {{1, 2}, {3, 8}};
  const auto engine = machine.engine(open_scale);
  engine->bind(placed(machine.cuda, 2));
  for (const std::size_t count : {4, 1, 8}) CHECK(ran(*engine, ramp(count)) == ramp(count, 2));
}

TEST_CASE("weights that lie on the GPU and are of another graph are refused") {
  Machine machine;
  const auto engine = machine.engine();
  const auto said = [&](const SharedWeights& set) {
    return refusal(ErrorKind::engine, [&] { engine->bind(set); });
  };
  CHECK(said(placed(machine.cuda, 1, {"w", Type::int8, {4}})) ==
        "far: expected w float32[4], got int8[4]");
  CHECK(said(placed(machine.cuda, 1, {"w", Type::float32, {3}})) ==
        "far: expected w float32[4], got float32[3]");
  const DeviceTensor other = placed(machine.cuda, 1)->placed.at("w");
  CHECK(said(std::make_shared<const WeightSet>(WeightSet{"far", {}, nullptr, {{"v", other}}})) ==
        "far: w float32[4] is missing; there are v");
}

TEST_CASE("a full GPU makes room and then refuses") {
  Machine machine;
  const auto engine = machine.engine();
  const SharedWeights one = weights(1), two = weights(2);
  machine.cuda.room = 20;
  engine->bind(one);
  engine->bind(two);
  CHECK(ran(*engine, ramp(4)) == ramp(4, 2));

  Machine full;
  const auto other = full.engine();
  full.cuda.room = 8;
  CHECK(refusal(ErrorKind::device_memory, [&] { other->bind(one); }) ==
        "0 MB on the GPU: the GPU's memory is full; close what else uses it, or build with "
        "--preset small");
  CHECK(refusal(ErrorKind::engine, [&] { ran(*other, ramp(4)); }).find("bind a set first") !=
        std::string::npos);
}

TEST_CASE("without capture the step runs plainly and says so once") {
  Machine machine;
  const auto engine = machine.engine();
  machine.behaviour.records = false;
  engine->bind(weights(2));
  for (int run = 0; run < 4; ++run) CHECK(ran(*engine, ramp(4)) == ramp(4, 2));
  CHECK(engine->warnings() ==
        std::vector<std::string>{
            "graph 'scale' runs without a CUDA graph: graph 'scale' failed to run: not now"});
  CHECK(machine.cuda.launches == 0);
  CHECK(machine.cuda.forgotten == 1);
}

TEST_CASE("a capture that CUDA breaks off leaves the stream as before") {
  for (const char* call : {"begin_capture", "end_capture", "instantiate"}) {
    CAPTURE(call);
    Machine machine;
    const auto engine = machine.engine();
    engine->bind(weights(2));
    machine.cuda.failing[call] = {"cudaErrorStreamCaptureUnsupported", "not this"};
    CHECK(ran(*engine, ramp(4)) == ramp(4, 2));
    CHECK(ran(*engine, ramp(4)) == ramp(4, 2));
    CHECK_FALSE(machine.cuda.capturing);
    REQUIRE(engine->warnings().size() == 1);
    CHECK(engine->warnings()[0].find("the step cannot be captured as a CUDA graph: CUDA says: "
                                     "not this") != std::string::npos);
  }
}

TEST_CASE("a step is captured as soon as its kernels are compiled") {
  Machine machine;
  const auto engine = machine.engine();
  machine.behaviour.unready = 2;
  engine->bind(weights(2));
  for (int run = 0; run < 5; ++run) CHECK(ran(*engine, ramp(4)) == ramp(4, 2));
  CHECK(machine.cuda.graphs == 1);
  CHECK(machine.cuda.launches == 2);
  CHECK(engine->warnings().empty());
}

TEST_CASE("a plan of another graph is refused") {
  Machine machine;
  const auto said = [&](const GraphSpec& spec) {
    return refusal(ErrorKind::engine, [&] { machine.engine(spec); });
  };
  CHECK(said({"scale", {x4}, {y4}, {{"w", Type::int8, {4}}}, {}}) ==
        "graph 'scale': the engine has no tensor w int8[4]; build the bundle again");
  CHECK(said({"scale", {{"x", Type::float32, {5}}}, {y4}, {w4}, {}}) ==
        "graph 'scale': x float32[5] has the shape [4] in the engine; build the bundle again");
  CHECK(said({"s", {x4}, {y4}, {}, {}}) ==
        "graph 's': the engine asks for w too; build the bundle again");
  CHECK(said(open_scale) ==
        "graph 'scale': x float32[-1] has the shape [4] in the engine; build the bundle again");
  machine.behaviour.types.erase("w");
  CHECK(said(scale) ==
        "graph 'scale': the engine has no tensor w float32[4]; build the bundle again");
  CHECK(machine.cuda.blocks.empty());
}

TEST_CASE("of several profiles the one that fits is taken") {
  Machine machine;
  machine.behaviour.shape = {open_size};
  machine.behaviour.profiles = {{1, 2}, {3, 8}};
  const auto engine = machine.engine();
  engine->bind(weights(2));
  CHECK(ran(*engine, ramp(4)) == ramp(4, 2));
  machine.behaviour.profiles = {{1, 2}, {5, 8}};
  CHECK(refusal(ErrorKind::engine, [&] { machine.engine(); }) ==
        "graph 'scale': none of the engine's 2 profiles takes x float32[4]; build the bundle again "
        "for this size");
}

TEST_CASE("open sizes follow the inputs") {
  Machine machine;
  machine.behaviour.shape = {open_size};
  machine.behaviour.profiles = {{1, 2}, {3, 8}};
  auto engine = machine.engine(open_scale);
  CHECK(machine.cuda.blocks.empty());
  engine->bind(weights(2));
  for (const std::size_t count : {4, 4, 4, 1, 1, 2, 8, 4, 4})
    CHECK(ran(*engine, ramp(count)) == ramp(count, 2));
  CHECK(machine.cuda.launches == 4);  // every run of a size that it has just had
  engine->bind(weights(3));
  CHECK(ran(*engine, ramp(4)) == ramp(4, 3));
  CHECK(refusal(ErrorKind::engine, [&] {
          ran(*engine, ramp(9));
        }).find("2 profiles takes x float32[9]; build the bundle") != std::string::npos);
  CHECK(ran(*engine, ramp(4)) == ramp(4, 3));
  engine.reset();
  CHECK(machine.cuda.blocks.empty());
}

TEST_CASE("what a context refuses is said with the library's reason") {
  Machine machine;
  machine.behaviour.takes_shapes = false;
  CHECK(refusal(ErrorKind::engine, [&] { machine.engine(); }) ==
        "graph 'scale' refused tensor 'x': not now");
  machine.behaviour.has_room = false;
  CHECK(refusal(ErrorKind::device_memory, [&] { machine.engine(); }) ==
        "graph 'scale': no room on the GPU for its activations (not now); close what else uses it, "
        "or build for a smaller size");
  machine.behaviour = {};
  const auto engine = machine.engine();
  engine->bind(weights(1));
  machine.behaviour.runs = false;
  CHECK(refusal(ErrorKind::engine, [&] { ran(*engine, ramp(4)); }) ==
        "graph 'scale' failed to run: not now");
  machine.behaviour.runs = true;
  machine.cuda.failing["wait"] = {"cudaErrorLaunchFailure", "unspecified launch failure"};
  CHECK(refusal(ErrorKind::engine, [&] { ran(*engine, ramp(4)); }) ==
        "the GPU failed: CUDA says: unspecified launch failure");
}

TEST_CASE("parameters stay on the GPU when routes change") {
  Machine machine;
  const auto engine = machine.engine({"scale", {x4}, {y4}, {}, {w4}});
  engine->feed({{"w", array_of(Floats(4, 5))}});
  CHECK(ran(*engine, ramp(4)) == ramp(4, 5));
  CHECK(machine.cuda.uploads == 2);
}

TEST_CASE("a plan is loaded from its file") {
  Machine machine;
  const File file("plan's bytes");
  const auto engine = machine.backend.from_blob(scale, file.path, "fp8");
  CHECK(machine.library.loaded == "plan's bytes");
  engine->bind(weights(2));
  CHECK(ran(*engine, ramp(4)) == ramp(4, 2));
  CHECK_FALSE(machine.backend.compiles());
  CHECK(refusal(ErrorKind::target, [&] { machine.backend.from_onnx(scale, "g.onnx", "fp8"); })
            .find("use --engine auto, or build the bundle again with --backend tensorrt_rtx") !=
        std::string::npos);
}

TEST_CASE("a plan that cannot be loaded is refused by what to do") {
  Machine machine;
  const File file("damaged");
  const auto said = [&](ErrorKind kind, const std::string& path, const std::string& precision) {
    return refusal(kind, [&] { machine.backend.from_blob(scale, path, precision); });
  };
  machine.behaviour.loading = "its magic tag is another";
  CHECK(
      said(ErrorKind::engine, file.path, "bf16") ==
      "engine 'a2edit_test.plan' could not be loaded by tensorrt_rtx 1.7.1.116 on sm89: its magic "
      "tag is another; build it again with --target sm89");
  machine.behaviour.loading = "Requested 9 bytes: Out of memory";
  CHECK(said(ErrorKind::device_memory, file.path, "bf16") ==
        "engine 'a2edit_test.plan' (0.0 GB) does not fit into the GPU's memory; close what else "
        "uses it, or build with --preset small");
  CHECK(said(ErrorKind::engine, "nowhere.plan", "bf16").find("could not be loaded: [Errno 2]") !=
        std::string::npos);
  machine.cuda.gpu = {8, 6};
  CHECK(
      said(ErrorKind::target, file.path, "fp8") ==
      "engine 'a2edit_test.plan' computes in fp8, which this GPU (sm86) lacks; it has fp32, bf16, "
      "int8: use an engine that was built for it");
  machine.cuda.gpu = {6, 1};
  CHECK(said(ErrorKind::target, file.path, "bf16") ==
        "this GPU is sm61; engines are built for sm75, sm80, sm86, sm89, sm90, sm120, sm121");
  machine.cuda.failing["capability"] = {"cudaErrorNoDevice", "no CUDA-capable device is detected"};
  CHECK(said(ErrorKind::target, file.path, "bf16") ==
        "this needs an NVIDIA GPU with its driver, and CUDA says: no CUDA-capable device is "
        "detected; use --device cpu with a bundle that has cpu engines, or a machine with a GPU");
  machine.cuda = HostCuda();
  std::ofstream(file.path, std::ios::binary).flush();
  CHECK(said(ErrorKind::engine, file.path, "bf16") ==
        "engine 'a2edit_test.plan' is empty: build the bundle again");
}

TEST_CASE("the first line of the first error is the reason") {
  CHECK(first_reason({}) == "it does not say why");
  CHECK(first_reason({" \n"}) == "it does not say why");
  CHECK(first_reason({"\n first \r\nsecond", "third"}) == "first");
}
