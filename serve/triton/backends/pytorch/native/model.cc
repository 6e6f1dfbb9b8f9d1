#include "model.h"

#include <ATen/Parallel.h>
#include <ATen/core/dynamic_type.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/jit_exception.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <sstream>

#include "tensors.h"

namespace pytorch_backend {

namespace {

std::string shape_text(c10::IntArrayRef shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

// What `forward` returned as a flat list: a tensor, a list of strings, or a tuple or list of these.
std::vector<c10::IValue> results_of(const c10::IValue& value) {
  if (value.isTuple()) return value.toTupleRef().elements().vec();
  if (value.isTensorList()) {
    std::vector<c10::IValue> values;
    for (const at::Tensor& tensor : value.toTensorVector()) values.emplace_back(tensor);
    return values;
  }
  return {value};
}

bool is_strings(const c10::IValue& value) {
  return value.isList() && value.toListRef().size() == static_cast<size_t>(value.toList().size()) &&
         value.toList().elementType()->isSubtypeOf(*c10::StringType::get());
}

}  // namespace

Failure failure_of(const std::exception& error) {
  if (auto* known = dynamic_cast<const Failure*>(&error)) return *known;
  std::string text = error.what();
  if (auto* raised = dynamic_cast<const c10::Error*>(&error)) text = raised->what_without_backtrace();
  std::istringstream lines(text);
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  bool index = text.find("index out of range") != std::string::npos || text.find("out of bounds") != std::string::npos;
  return Failure(index ? ERROR_INVALID_ARG : ERROR_INTERNAL, last.empty() ? "the model failed without a message" : last);
}

Model::Model(std::string name, const std::string& folder, uint64_t version, Config config)
    : config(std::move(config)), name(std::move(name)),
      path_(folder + "/" + std::to_string(version) + "/" + this->config.file),
      inference_mode_(this->config.flag("INFERENCE_MODE", true)),
      unoptimised_(this->config.flag("DISABLE_OPTIMIZED_EXECUTION", false)),
      // One thread a call unless the configuration says more: several models share the cores.
      threads_(static_cast<int>(this->config.number("INTRA_OP_THREAD_COUNT", 1))) {
  set_process_options();
}

const torch::jit::Module& Model::on(c10::Device device) {
  std::lock_guard<std::mutex> lock(loading_);
  auto found = modules_.find(device.str());
  if (found == modules_.end()) {
    torch::jit::Module module = load(device);
    if (modules_.empty()) signature_ = read_signature(module.get_method("forward").function().getSchema(), config);
    found = modules_.emplace(device.str(), std::move(module)).first;
    probe(found->second, device);
  }
  return found->second;
}

torch::jit::Module Model::load(std::optional<c10::Device> device) const {
  try {
    torch::jit::Module module = torch::jit::load(path_, device, /*load_debug_files=*/false);
    module.eval();
    if (!module.find_method("forward")) throw Failure(ERROR_INVALID_ARG, "it has no method forward");
    return module;
  } catch (const std::exception& error) {
    std::string words = error.what();
    if (auto* raised = dynamic_cast<const c10::Error*>(&error)) words = raised->what_without_backtrace();
    throw Failure(ERROR_INVALID_ARG, path_ + " cannot be loaded as TorchScript: " + words.substr(0, words.find('\n')));
  }
}

std::vector<c10::IValue> Model::forward(
    const torch::jit::Module& module, const std::vector<c10::IValue>& inputs) const {
  std::vector<c10::IValue> arguments;
  if (signature_.dictionary) {
    c10::Dict<std::string, at::Tensor> table;
    for (size_t at = 0; at < inputs.size(); ++at) table.insert(config.inputs[at].name, inputs[at].toTensor());
    arguments.emplace_back(std::move(table));
  } else {
    for (size_t at = 0; at < signature_.arguments.size(); ++at) {
      int input = signature_.arguments[at];
      arguments.push_back(input < 0 ? signature_.defaults[at] : inputs[input]);
    }
  }
  std::vector<c10::IValue> results;
  {
    c10::InferenceMode guard(inference_mode_);
    at::NoGradGuard no_gradients;
    std::optional<torch::jit::GraphOptimizerEnabledGuard> unoptimised;
    if (unoptimised_) unoptimised.emplace(false);
    results = results_of(module.get_method("forward")(std::move(arguments)));
  }
  size_t wanted = signature_.results.size();
  if (!signature_.results_by_index && results.size() != wanted) {
    throw Failure(
        ERROR_INTERNAL, "forward returned " + std::to_string(results.size()) + " outputs, config.pbtxt names " +
                            std::to_string(wanted));
  }
  std::vector<c10::IValue> outputs;
  for (size_t at = 0; at < wanted; ++at) {
    size_t position = signature_.results[at];
    if (position >= results.size()) {
      throw Failure(
          ERROR_INTERNAL, "output " + config.outputs[at].name + " does not exist: forward returned " +
                              std::to_string(results.size()) + " outputs");
    }
    outputs.push_back(results[position]);
  }
  return outputs;
}

void Model::probe(const torch::jit::Module& module, c10::Device device) const {
  if (config.warmed_up) return;  // Triton's own warm-up requests do the same, with better values
  std::vector<c10::IValue> inputs;
  int64_t rows = config.max_batch_size > 0 ? 1 : 0;
  for (const TensorConfig& input : config.inputs) {
    std::vector<int64_t> shape(rows, 1);
    for (int64_t size : input.dims) shape.push_back(std::max<int64_t>(size, size < 0 ? 1 : 0));
    if (input.datatype == TYPE_BYTES) {
      int64_t count = 1;
      for (int64_t size : shape) count *= size;
      inputs.emplace_back(c10::List<std::string>());
      for (; count > 0; --count) inputs.back().toList().push_back(std::string());
    } else {
      inputs.emplace_back(at::zeros(shape, at::TensorOptions(scalar_type(input.datatype)).device(device)));
    }
  }
  prepare_thread();
  // PyTorch records the first call and optimises at the second: after these the first request is as fast as any.
  for (int call = 0; call < 2; ++call) {
    try {
      std::vector<c10::IValue> outputs = forward(module, inputs);
      for (size_t at = 0; at < outputs.size(); ++at) check_output(outputs[at], config.outputs[at], rows);
    } catch (const std::exception& error) {
      throw Failure(
          ERROR_INVALID_ARG, path_ + " does not fit its config.pbtxt: one call with zeros failed: " +
                                 failure_of(error).what() +
                                 ". If zeros are no valid input of this model, configure a model_warmup");
    }
  }
}

void check_output(const c10::IValue& value, const TensorConfig& output, int64_t rows) {
  std::string promised = "output " + output.name + " is configured as " + type_name(output.datatype);
  if (output.datatype == TYPE_BYTES) {
    if (!is_strings(value)) throw Failure(ERROR_INTERNAL, promised + ", but forward returned no List[str]");
    int64_t count = static_cast<int64_t>(value.toListRef().size());
    if (rows > 0 && count != rows) {
      throw Failure(
          ERROR_INTERNAL, promised + ", but forward returned " + std::to_string(count) + " strings for " +
                              std::to_string(rows) + " rows");
    }
    return;
  }
  if (!value.isTensor() || !value.toTensor().defined()) {
    throw Failure(ERROR_INTERNAL, promised + ", but forward returned " + value.tagKind());
  }
  const at::Tensor& tensor = value.toTensor();
  if (tensor.scalar_type() != scalar_type(output.datatype)) {
    throw Failure(ERROR_INTERNAL, promised + ", but forward returned " + c10::toString(tensor.scalar_type()));
  }
  if (rows > 0 && (tensor.dim() == 0 || tensor.size(0) != rows)) {
    throw Failure(
        ERROR_INTERNAL, promised + ", but forward returned the shape " + shape_text(tensor.sizes()) + " for " +
                            std::to_string(rows) + " rows");
  }
}

void Model::prepare_thread() const {
  at::set_num_threads(threads_);
}

void Model::set_process_options() const {
  if (config.parameters.contains("ENABLE_JIT_EXECUTOR")) {
    torch::jit::getExecutorMode() = config.flag("ENABLE_JIT_EXECUTOR", true);
  }
  if (config.parameters.contains("ENABLE_JIT_PROFILING")) {
    torch::jit::getProfilingMode() = config.flag("ENABLE_JIT_PROFILING", true);
  }
  int64_t threads = config.number("INTER_OP_THREAD_COUNT", 0);
  if (threads == 0 || threads == at::get_num_interop_threads()) return;
  try {
    at::set_num_interop_threads(static_cast<int>(threads));
  } catch (const c10::Error&) {  // PyTorch takes it once a process, before its first use
    log(LOG_WARN, name + ": INTER_OP_THREAD_COUNT is the process's and was set before; it stays " +
                      std::to_string(at::get_num_interop_threads()));
  }
}

}  // namespace pytorch_backend
