#include "src/engines/device_merger.hpp"

#include <algorithm>
#include <mutex>

#include "src/core/paths.hpp"

namespace a2edit {
namespace {

constexpr std::size_t alignment = 256;  // bytes: of every tensor, as memory of its own would be
constexpr std::size_t row_items = 4;    // float32: rows of a table begin at addresses that a kernel
                                        // may rely on
constexpr std::size_t word = 4;         // bytes, of the workspace

// Blocks wait for each other, and count on all of the GPU: those of two merges could wait for ever.
// Other processes' are kept apart by the driver, unless they share the GPU by MPS.
std::mutex& one_merge() {
  static std::mutex mutex;
  return mutex;
}

constexpr std::int64_t tiles(std::int64_t size, std::int64_t side) {
  return size / side + (size % side != 0);
}

constexpr std::size_t padded(std::size_t size, std::size_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

void* at(const DeviceBuffer& buffer, std::size_t offset) {
  return static_cast<unsigned char*>(buffer.address()) + offset;
}

// What a linear is merged from, by the part's name; absent ones are left out.
template <class Look>
void for_sources(const Linear& linear, Look&& look) {
  const std::pair<const char*, const Array*> parts[] = {{".weight", &linear.base},
                                                        {".base_scale", &linear.base_scale},
                                                        {".A", &linear.A},
                                                        {".B", &linear.B},
                                                        {".smooth", &linear.smooth}};
  for (const auto& [part, array] : parts)
    if (!array->empty()) look(linear.name + part, *array);
}

bool suits(const MergeKernelEntry& entry, const Linear& linear) {
  return entry.base == type_name(linear.base.type()) &&
         entry.factors == type_name(linear.A.type()) &&
         linear.A.type() == linear.B.type() &&
         entry.weight == type_name(linear.type) &&
         entry.scale == (linear.scale_type ? type_name(*linear.scale_type) : "") &&
         entry.smooth == !linear.smooth.empty();
}

// By phase; nothing where a phase that it needs is missing.
std::map<std::string, MergeKernelEntry> fitting(const Linear& linear,
                                                const std::vector<MergeKernelEntry>& kernels) {
  std::map<std::string, MergeKernelEntry> found;
  for (const MergeKernelEntry& entry : kernels)
    if (suits(entry, linear)) found[entry.phase] = entry;
  const bool whole = linear.scale_type ? found.count("maxima") && found.count("levels")
                                       : found.count("cast") != 0;
  return whole ? found : std::map<std::string, MergeKernelEntry>();
}

// Of the workspace: a ticket, a count a band of rows, a maximum a row.
std::size_t words(std::int64_t out, const std::map<std::string, MergeKernelEntry>& chosen) {
  std::int64_t rows = chosen.empty() ? 1 : chosen.begin()->second.rows;
  for (const auto& [phase, entry] : chosen) rows = std::min(rows, entry.rows);
  return static_cast<std::size_t>(1 + tiles(out, rows) + out);
}

}  // namespace

void DeviceMerger::Layout::add(const std::string& name, std::size_t size) {
  offsets[name] = nbytes;
  nbytes += padded(size, alignment);
}

DeviceMerger::DeviceMerger(Cuda& cuda, const RouteMerger& merger,
                           const std::vector<TensorSpec>& weights,
                           const std::vector<MergeKernelEntry>& kernels, const std::string& folder)
    : cuda_(cuda), merger_(merger), weights_(weights), stream_(cuda) {
  for (const Linear& linear : merger.linears()) {
    const Chosen& chosen = chosen_[linear.name] = fitting(linear, kernels);
    for_sources(linear, [this](const std::string& name, const Array& array) {
      from_.add(name, array.nbytes());
    });
    spaces_.add(linear.name, word * words(linear.base.shape()[0], chosen));
  }
  for (const TensorSpec& spec : weights) to_.add(spec.name, spec.nbytes());
  // first what may not run here, then what may not fit
  for (const auto& [linear, chosen] : chosen_)
    for (const auto& [phase, entry] : chosen) {
      auto& loaded = loaded_[{entry.file, entry.symbol}];
      if (!loaded)
        loaded = std::make_unique<const CompiledKernel>(
            cuda, path_join(folder, entry.file), entry.symbol,
            static_cast<unsigned>(entry.threads), static_cast<std::size_t>(entry.shared));
    }
  sources_ = std::make_unique<const DeviceBuffer>(cuda, from_.nbytes);
  workspace_ = std::make_unique<const DeviceBuffer>(cuda, spaces_.nbytes);
  rows_ = std::make_unique<const DeviceBuffer>(
      cuda, word * merger.blocks() * padded(merger.experts(), row_items));
  processors_ = multiprocessors_of(cuda);
  for (const Linear& linear : merger.linears())
    for_sources(linear, [this](const std::string& name, const Array& array) {
      stream_.upload(array, *sources_, from_.offsets.at(name));
    });
  stream_.wait();
  merger.rest();
}

WeightSet DeviceMerger::merge(const std::vector<float>& table, const std::string& name) {
  merger_.check(table);
  const std::size_t experts = merger_.experts(), length = padded(experts, row_items);
  std::vector<float> rows(merger_.blocks() * length);
  for (std::size_t block = 0; block < merger_.blocks(); ++block)
    std::copy_n(table.begin() + static_cast<std::ptrdiff_t>(block * experts), experts,
                rows.begin() + static_cast<std::ptrdiff_t>(block * length));
  const auto count = static_cast<std::int64_t>(rows.size());
  const Array padded_table = Array::of(Type::float32, {count}, rows);
  // until the set's memory is freed, should something fail: that waits for what was launched
  const std::lock_guard<std::mutex> alone(one_merge());
  const auto block = std::make_shared<const DeviceBuffer>(cuda_, to_.nbytes);
  stream_.upload(padded_table, *rows_);
  stream_.zero(workspace_->address(), workspace_->nbytes());
  for (const Linear& linear : merger_.linears()) launch(linear, *block);
  stream_.wait();
  WeightSet weights{name, {}, nullptr};
  for (const TensorSpec& spec : weights_)
    weights.placed[spec.name] = {{block, at(*block, to_.offsets.at(spec.name))},
                                 spec.type,
                                 spec.shape};
  return weights;
}

const CompiledKernel& DeviceMerger::kernel_of(const MergeKernelEntry& entry) const {
  return *loaded_.at({entry.file, entry.symbol});
}

void DeviceMerger::launch(const Linear& linear, const DeviceBuffer& block) {
  const Chosen& chosen = chosen_.at(linear.name);
  const std::int64_t out = linear.base.shape()[0], inner = linear.base.shape()[1];
  std::vector<const char*> phases = {"maxima", "levels"};
  if (!linear.scale_type) phases = {"cast"};
  // a row's tiles wait for each other, so all must be able to run at once
  if (const auto one = chosen.find("one_pass");
      one != chosen.end() &&
      tiles(inner, one->second.columns) <= kernel_of(one->second).resident() * processors_)
    phases = {"one_pass"};
  for (const std::string phase : phases) {
    const MergeKernelEntry& entry = chosen.at(phase);
    // tiles are dealt anew, maxima stay
    if (phase == "levels") stream_.zero(space_of(linear), word);
    std::vector<KernelArgument> values = arguments(linear, block);
    values.resize(values.size() + static_cast<std::size_t>(entry.scratch),
                  static_cast<void*>(nullptr));
    const std::int64_t blocks = tiles(out, entry.rows) * tiles(inner, entry.columns);
    kernel_of(entry).launch(stream_, static_cast<unsigned>(blocks), std::move(values));
  }
}

// In the kernel's order; what it does not read is given an address that it may.
std::vector<KernelArgument> DeviceMerger::arguments(const Linear& linear,
                                                    const DeviceBuffer& block) const {
  const std::size_t length = padded(merger_.experts(), row_items);
  void* const row = at(*rows_, word * length * static_cast<std::size_t>(linear.block));
  const auto part = [&](const Layout& layout, const DeviceBuffer& buffer, const char* name) {
    const auto found = layout.offsets.find(linear.name + name);
    return found == layout.offsets.end() ? row : at(buffer, found->second);
  };
  const auto source = [&](const char* name) { return part(from_, *sources_, name); };
  const auto result = [&](const char* name) { return part(to_, block, name); };
  return {source(".weight"),
          source(".base_scale"),
          source(".A"),
          source(".B"),
          row,
          source(".smooth"),
          result(".weight"),
          result(".scale"),
          space_of(linear),
          static_cast<std::int32_t>(linear.base.shape()[0]),
          static_cast<std::int32_t>(linear.base.shape()[1]),
          merger_.scale()};
}

void* DeviceMerger::space_of(const Linear& linear) const {
  return at(*workspace_, spaces_.offsets.at(linear.name));
}

bool merges_all(const RouteMerger& merger, const std::vector<MergeKernelEntry>& kernels) {
  return std::all_of(
      merger.linears().begin(), merger.linears().end(),
      [&](const Linear& linear) { return !fitting(linear, kernels).empty(); });
}

}  // namespace a2edit
