// CUDA and TensorRT played by the memory of the host: addresses are real, and a graph replays the
// addresses that it was captured with. So a weight set that is bound and not looked at, a buffer
// that is freed too early, or a replay of an old set gives wrong numbers.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "src/engines/tensorrt.hpp"

namespace a2edit::fake {

using Work = std::function<void()>;
// A kernel's work: of which image, in how many blocks, with which arguments.
using Play = std::function<void(const std::string&, unsigned, const std::vector<void*>&)>;

class HostCuda : public Cuda {
 public:
  std::size_t room = 1000000;                  // bytes that are free
  std::map<void*, std::vector<float>> blocks;  // by address
  std::map<std::string, CudaStatus> failing;   // calls by name
  Capability gpu = {8, 9};
  int uploads = 0, launches = 0, graphs = 0, forgotten = 0;
  int processors = 0;
  std::set<std::string*> images;   // that are loaded; each is its only function's name
  std::vector<std::string> kernels;  // that were run
  Play play;
  bool capturing = false;

  // Does it now, or keeps it for the graph that is being captured.
  void enqueue(Work work) {
    if (capturing)
      captured_.push_back(std::move(work));
    else
      work();
  }

  CudaStatus capability(int* major, int* minor) override {
    std::tie(*major, *minor) = gpu;
    return status("capability");
  }
  CudaStatus multiprocessors(int* count) override {
    *count = processors;
    return status("multiprocessors");
  }
  CudaStatus allocate(void** address, std::size_t nbytes) override {
    if (nbytes > room) return {"cudaErrorMemoryAllocation", "out of memory"};
    std::vector<float> block((nbytes + sizeof(float) - 1) / sizeof(float));
    *address = block.data();
    room -= nbytes;
    sizes_[*address] = nbytes;
    blocks[*address] = std::move(block);
    return {};
  }
  void release(void* address) noexcept override {
    room += sizes_.at(address);
    std::vector<float>& block = blocks.at(address);
    // NaN to whoever still reads it
    std::fill(block.begin(), block.end(), std::numeric_limits<float>::quiet_NaN());
    freed_.push_back(std::move(block));
    blocks.erase(address);
  }

  // Bytes of a block from `address` on; none for an address that is in no block.
  std::size_t there(const void* address) const {
    auto block = blocks.upper_bound(const_cast<void*>(address));
    if (block == blocks.begin()) return 0;
    --block;
    const auto* first = static_cast<const unsigned char*>(block->first);
    const auto from = static_cast<std::size_t>(static_cast<const unsigned char*>(address) - first);
    return sizes_.at(block->first) - std::min(sizes_.at(block->first), from);
  }

  CudaStatus make_stream(Handle* stream) override {
    *stream = this;
    return status("make_stream");
  }
  void destroy_stream(Handle stream) noexcept override { CHECK(stream == this); }
  CudaStatus upload(void* to, const void* from, std::size_t nbytes, Handle stream) override {
    CHECK(stream == this);
    CHECK(there(to) >= nbytes);
    ++uploads;
    enqueue([=] { std::memcpy(to, from, nbytes); });
    return status("upload");
  }
  CudaStatus download(void* to, const void* from, std::size_t nbytes, Handle) override {
    CHECK(there(from) >= nbytes);
    enqueue([=] { std::memcpy(to, from, nbytes); });
    return status("download");
  }
  CudaStatus zero(void* address, std::size_t nbytes, Handle stream) override {
    CHECK(stream == this);
    CHECK(there(address) >= nbytes);
    enqueue([=] { std::memset(address, 0, nbytes); });
    return status("zero");
  }
  CudaStatus wait(Handle) override {
    CHECK_FALSE(capturing);
    return status("wait");
  }

  CudaStatus begin_capture(Handle) override {
    const CudaStatus begun = status("begin_capture");
    capturing = begun.error.empty();
    captured_.clear();
    return begun;
  }
  CudaStatus end_capture(Handle, Handle* graph) override {
    CHECK(capturing);
    capturing = false;
    const CudaStatus ended = status("end_capture");
    if (ended.error.empty()) *graph = new std::vector<Work>(std::exchange(captured_, {}));
    return ended;
  }
  CudaStatus instantiate(Handle* step, Handle graph) override {
    const CudaStatus made = status("instantiate");
    if (!made.error.empty()) return made;
    ++graphs;
    *step = new std::vector<Work>(*static_cast<std::vector<Work>*>(graph));
    return made;
  }
  CudaStatus launch(Handle step, Handle stream) override {
    CHECK(stream == this);
    ++launches;
    for (const Work& work : *static_cast<std::vector<Work>*>(step)) work();
    return status("launch");
  }
  void destroy_graph(Handle graph) noexcept override {
    delete static_cast<std::vector<Work>*>(graph);
  }
  void destroy_step(Handle step) noexcept override { delete static_cast<std::vector<Work>*>(step); }
  CudaStatus load(Handle* library, const void* image, std::size_t size) override {
    auto* held = new std::string(static_cast<const char*>(image), size);
    images.insert(held);
    *library = held;
    return status("load");
  }
  void unload(Handle library) noexcept override {
    auto* held = static_cast<std::string*>(library);
    if (images.erase(held)) delete held;
  }
  CudaStatus find_kernel(Handle* kernel, Handle library, const char* symbol) override {
    if (*static_cast<std::string*>(library) != symbol)
      return {"cudaErrorSymbolNotFound", "named symbol not found"};
    *kernel = library;
    return {};
  }
  CudaStatus resident(int* count, Handle, unsigned threads, std::size_t) override {
    *count = 256 / static_cast<int>(threads);
    return status("resident");
  }
  CudaStatus run(Handle kernel, const CudaGrid& grid, const std::vector<void*>& arguments,
                 Handle stream) override {
    CHECK(stream == this);
    CHECK(grid.threads % 32 == 0);
    kernels.push_back(*static_cast<std::string*>(kernel));
    play(kernels.back(), grid.blocks, arguments);
    return status("run");
  }

  void forget_error() noexcept override { ++forgotten; }

 private:
  CudaStatus status(const char* call) const {
    const auto found = failing.find(call);
    return found == failing.end() ? CudaStatus{} : found->second;
  }

  std::vector<Work> captured_;
  std::map<void*, std::size_t> sizes_;
  std::vector<std::vector<float>> freed_;  // so that no address comes twice
};

// How a plan and its context behave; a test changes it while they are used.
struct Behaviour {
  Shape shape = {4};                          // in the plan, but of w
  std::vector<std::pair<int, int>> profiles;  // between which lengths
  std::map<std::string, Type> types = {
      {"x", Type::float32}, {"y", Type::float32}, {"w", Type::float32}};
  bool runs = true, has_room = true, takes_shapes = true, records = true;
  int unready = 0;      // how often it says that it cannot be captured yet
  std::string loading;  // why a plan is refused, or ""
};

// y = x · w[0], at the addresses that were set; the kernels of a profile know no other sizes.
class Context : public TensorRtContext {
 public:
  Context(HostCuda& cuda, Behaviour& behaviour) : cuda_(cuda), behaviour_(behaviour) {}

  bool set_profile(int profile, Cuda::Handle stream) override {
    profile_ = static_cast<std::size_t>(profile);
    addresses_.clear();
    return stream == &cuda_;
  }
  bool set_shape(const std::string& name, const Shape& shape) override {
    if (name == "x") count_ = shape.at(0);
    return behaviour_.takes_shapes;
  }
  Shape shape(const std::string&) const override { return {count_}; }
  bool set_address(const std::string& name, void* address) override {
    addresses_[name] = static_cast<float*>(address);
    return true;
  }
  bool enqueue(Cuda::Handle stream) override {
    CHECK(stream == &cuda_);
    if (!behaviour_.profiles.empty()) {
      const auto [low, high] = behaviour_.profiles.at(profile_);
      CHECK(count_ >= low);
      CHECK(count_ <= high);
    }
    if (!behaviour_.runs || (cuda_.capturing && !behaviour_.records)) return false;
    const auto [x, w, y] = std::tuple(addresses_.at("x"), addresses_.at("w"), addresses_.at("y"));
    cuda_.enqueue([x = x, w = w, y = y, count = count_] {
      for (std::int64_t place = 0; place < count; ++place) y[place] = x[place] * w[0];
    });
    return true;
  }
  bool capturable(Cuda::Handle) const override { return behaviour_.unready-- <= 0; }

 private:
  HostCuda& cuda_;
  Behaviour& behaviour_;
  std::map<std::string, float*> addresses_;
  std::size_t profile_ = 0;
  std::int64_t count_ = 0;
};

class Plan : public TensorRtPlan {
 public:
  Plan(HostCuda& cuda, Behaviour& behaviour) : cuda_(cuda), behaviour_(behaviour) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> found;
    for (const auto& [name, type] : behaviour_.types) found.push_back(name);
    return found;
  }
  std::optional<Type> type(const std::string& name) const override {
    const auto found = behaviour_.types.find(name);
    return found == behaviour_.types.end() ? std::nullopt : std::optional(found->second);
  }
  Shape shape(const std::string& name) const override {
    return name == "w" ? Shape{4} : behaviour_.shape;
  }
  int profiles() const override { return static_cast<int>(behaviour_.profiles.size()); }
  std::pair<Shape, Shape> range(const std::string&, int profile) const override {
    const auto [low, high] = behaviour_.profiles.at(static_cast<std::size_t>(profile));
    return {{low}, {high}};
  }
  std::unique_ptr<TensorRtContext> context() override {
    if (!behaviour_.has_room) return nullptr;
    return std::make_unique<Context>(cuda_, behaviour_);
  }
  std::string reason() override { return "not now"; }

 private:
  HostCuda& cuda_;
  Behaviour& behaviour_;
};

class Library : public TensorRt {
 public:
  Library(HostCuda& cuda, Behaviour& behaviour) : cuda_(cuda), behaviour_(behaviour) {}

  std::string version() const override { return "1.7.1.116"; }
  std::unique_ptr<TensorRtPlan> load(const void* bytes, std::size_t size,
                                     std::string* reason) const override {
    loaded.assign(static_cast<const char*>(bytes), size);
    *reason = behaviour_.loading;
    if (!behaviour_.loading.empty()) return nullptr;
    return std::make_unique<Plan>(cuda_, behaviour_);
  }

  mutable std::string loaded;  // the last plan

 private:
  HostCuda& cuda_;
  Behaviour& behaviour_;
};

}  // namespace a2edit::fake
