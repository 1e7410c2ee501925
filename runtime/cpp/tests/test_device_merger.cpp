// Merging on a GPU, on a CUDA of host memory: what is launched with what, and who has the memory.
#include "src/engines/device_merger.hpp"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "tests/played_merge.hpp"
#include "tests/refusal.hpp"

using namespace a2edit;
using fake::Bytes;
using fake::bytes_of;
using fake::Folder;
using fake::HostCuda;
using fake::kernels_of;
using fake::weights_of;
using fake::write_source;

namespace {

using Names = std::vector<std::string>;

// The third row is of no linear.
const std::vector<float> table = {2, 0, -0.5, 0, 0, 0, 9, 9, 9};
const std::vector<float> other = {-0.5, 0, 2, 1, 1, -2, 9, 9, 9};

// A file to merge from, its kernels, and a GPU.
struct Setting {
  HostCuda cuda;
  Folder folder;
  std::vector<TensorSpec> weights;
  std::vector<MergeKernelEntry> kernels;
  RouteMerger merger;
  fake::PlayedMerge played;

  explicit Setting(Type stored = Type::bfloat16, Type wanted = Type::int8, bool smooth = false)
      : weights(weights_of(wanted)),
        kernels(kernels_of(folder, stored, wanted, smooth)),
        merger(folder.file("merge.safetensors"), write_source(folder, stored, smooth), weights),
        played(cuda, kernels) {}

  std::unique_ptr<DeviceMerger> device() {
    return std::make_unique<DeviceMerger>(cuda, merger, weights, kernels, folder.path);
  }
};

}  // namespace

TEST_CASE("a route that the GPU merges is the processor's, in every combination of types") {
  struct Case {
    Type stored, wanted;
    bool smooth;
  };
  for (const Case& one :
       {Case{Type::bfloat16, Type::int8, false}, Case{Type::bfloat16, Type::int8, true},
        Case{Type::bfloat16, Type::float8_e4m3fn, false},
        Case{Type::bfloat16, Type::bfloat16, false}, Case{Type::float16, Type::float16, false},
        Case{Type::float32, Type::float32, false}, Case{Type::float32, Type::int8, true},
        Case{Type::int8, Type::float8_e4m3fn, false}, Case{Type::int8, Type::bfloat16, false}}) {
    CAPTURE(type_name(one.stored));
    CAPTURE(type_name(one.wanted));
    Setting it(one.stored, one.wanted, one.smooth);
    auto device = it.device();
    for (const auto& gates : {table, other}) {
      const WeightSet found = device->merge(gates, "mine");
      CHECK(found.name == "mine");
      CHECK(found.tensors.empty());
      CHECK(bytes_of(found) == bytes_of(it.merger.merge(gates, "mine")));
      for (const TensorSpec& spec : it.weights) {
        CHECK(found.placed.at(spec.name).type == spec.type);
        CHECK(found.placed.at(spec.name).shape == spec.shape);
      }
    }
    device.reset();
    CHECK(it.cuda.blocks.empty());
    CHECK(it.cuda.images.empty());
  }
}

TEST_CASE("a row is read once where its tiles run at once") {
  // b has three tiles a row: more than one multiprocessor holds, and a's single one fits
  for (const auto& [processors, kernels] :
       {std::pair(0, Names{"merge_maxima", "merge_levels", "merge_maxima", "merge_levels"}),
        {1, {"merge_one_pass", "merge_maxima", "merge_levels"}},
        {2, {"merge_one_pass", "merge_one_pass"}}}) {
    Setting it;
    it.cuda.processors = processors;
    it.device()->merge(table, "mine");
    CHECK(it.cuda.kernels == kernels);
  }
}

TEST_CASE("the base is copied once, and a merge copies its table") {
  Setting it(Type::int8, Type::float8_e4m3fn);
  const auto device = it.device();
  CHECK(it.cuda.uploads == 2 * 4);  // weight, base_scale, A, B
  device->merge(table, "one");
  device->merge(other, "two");
  CHECK(it.cuda.uploads == 2 * 4 + 2);
}

TEST_CASE("sets that were merged live as long as they are used") {
  Setting it(Type::bfloat16, Type::bfloat16);
  auto device = it.device();
  const std::size_t own = it.cuda.blocks.size(), room = it.cuda.room;
  const WeightSet one = device->merge(table, "one");
  const Bytes before = bytes_of(one);
  auto two = std::make_unique<WeightSet>(device->merge(other, "two"));
  CHECK(it.cuda.blocks.size() == own + 2);
  DeviceTensor tensor = two->placed.at("a.weight");
  two.reset();
  CHECK(it.cuda.blocks.size() == own + 2);
  tensor = {};
  CHECK(it.cuda.blocks.size() == own + 1);
  // 70 x 48 and 33 x 300 of 2 bytes, each a multiple of 256
  CHECK(room - it.cuda.room == 6912 + 19968);
  device.reset();
  CHECK(it.cuda.images.empty());
  CHECK(bytes_of(one) == before);
  CHECK(it.cuda.blocks.size() == 1);
}

TEST_CASE("a full GPU is said when merging, and leaves nothing behind") {
  Setting it;
  const std::size_t room = it.cuda.room;
  const auto full = [&](auto&& call) {
    return refusal(ErrorKind::device_memory, call).find("the GPU's memory is full") !=
           std::string::npos;
  };
  auto device = it.device();
  const std::size_t taken = room - it.cuda.room;
  it.cuda.room = 100;
  CHECK(full([&] { device->merge(table, "mine"); }));
  it.cuda.room = room - taken;
  device.reset();
  CHECK(it.cuda.room == room);
  for (const std::size_t less : {std::size_t{1}, taken / 2, taken}) {
    it.cuda.room = taken - less;
    CHECK(full([&] { it.device(); }));
    CHECK(it.cuda.blocks.empty());
  }
}

const std::string not_loaded =
    " cannot be loaded; it may want a newer driver, or the bundle was built for another GPU: ";

TEST_CASE("a kernel that does not load is named") {
  Setting it;
  const std::string path = it.folder.file("levels.cubin");
  const auto said = [&] { return refusal(ErrorKind::engine, [&] { it.device(); }); };
  const std::string what = "kernel '" + path + "'" + not_loaded;
  it.folder.write("levels.cubin", "another");
  CHECK(said() == what + "CUDA says: named symbol not found");
  it.folder.write("levels.cubin", "");
  CHECK(said() == what + "cannot mmap an empty file");
  std::filesystem::remove(path);
  CHECK(said().find(what + "[Errno 2]") == 0);
  it.cuda.room = 0;  // which is not the reason to be told
  CHECK(said().find(what + "[Errno 2]") == 0);
  it.folder.write("levels.cubin", "merge_levels");
  it.cuda.failing["resident"] = {"cudaErrorNoKernelImageForDevice", "no kernel image"};
  CHECK(said().find(not_loaded + "CUDA says: no kernel image") !=
        std::string::npos);
  CHECK(it.cuda.images.empty());
  CHECK(it.cuda.blocks.empty());
}

TEST_CASE("a launch that fails is said by the kernel's name, and the set is gone") {
  Setting it;
  const auto device = it.device();
  const std::size_t own = it.cuda.blocks.size();
  it.cuda.failing["run"] = {"cudaErrorInvalidValue", "invalid argument"};
  CHECK(refusal(ErrorKind::engine, [&] { device->merge(table, "mine"); }) ==
        "kernel 'merge_maxima' cannot be launched: CUDA says: invalid argument");
  CHECK(it.cuda.blocks.size() == own);
}

TEST_CASE("one merge runs at a time, whosever it is") {
  std::atomic<int> inside{0}, met{0};
  const auto merges = [&] {
    Setting it;
    it.cuda.play = [&, play = it.cuda.play](const auto&... launch) {
      if (++inside > 1) ++met;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      play(launch...);
      --inside;
    };
    const auto device = it.device();
    for (int turn = 0; turn < 5; ++turn) device->merge(table, "mine");
  };
  std::thread one(merges), two(merges);
  one.join();
  two.join();
  CHECK(met.load() == 0);
}

TEST_CASE("a table that is merged has a row a block") {
  Setting it;
  const auto device = it.device();
  for (const std::size_t size : {std::size_t{3}, std::size_t{4}, std::size_t{8}}) {
    const std::vector<float> wrong(size);
    CHECK_THROWS_AS(device->merge(wrong, "mine"), std::logic_error);
    CHECK_THROWS_AS(it.merger.merge(wrong, "mine"), std::logic_error);
  }
}

TEST_CASE("kernels must be there for every linear") {
  for (const Type wanted : {Type::int8, Type::bfloat16}) {
    Setting it(Type::bfloat16, wanted);
    CHECK(merges_all(it.merger, it.kernels));
    auto fewer = it.kernels;
    fewer.pop_back();
    CHECK_FALSE(merges_all(it.merger, fewer));
    CHECK_FALSE(merges_all(it.merger, kernels_of(it.folder, Type::float16, wanted, false)));
    CHECK_FALSE(merges_all(it.merger, kernels_of(it.folder, Type::int8, wanted, false)));
  }
  Setting it;
  for (const bool smooth : {false, true})
    CHECK(merges_all(it.merger, kernels_of(it.folder, Type::bfloat16, Type::int8, smooth)) !=
          smooth);
  CHECK_FALSE(merges_all(it.merger, kernels_of(it.folder, Type::bfloat16, Type::int8, false,
                                               Type::float32)));
  const MergeEntry mixed = write_source(it.folder, Type::bfloat16, false, Type::float32);
  CHECK_FALSE(merges_all(RouteMerger(it.folder.file(mixed.file), mixed, it.weights), it.kernels));
  auto two = it.kernels;  // without "one_pass", which is not needed
  two.erase(two.begin());
  CHECK(merges_all(it.merger, two));
}
