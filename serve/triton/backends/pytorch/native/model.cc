#include "model.h"

#include <ATen/Parallel.h>
#include <ATen/core/dynamic_type.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/jit_exception.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <sstream>
#include <thread>

#include "tensors.h"

namespace pytorch_backend {

namespace {

// For each call of the probe. A request to such a model would have to be answered within SERVE_TIMEOUT_SECONDS. The
// variable is for tests, which would wait for two minutes otherwise.
std::chrono::seconds probe_limit() {
  const char* text = std::getenv("NCF_PROBE_SECONDS");
  return std::chrono::seconds(text == nullptr ? 120 : std::max(1, std::atoi(text)));
}

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

// PyTorch's words for a file that it does not read, as a short line that ends with what to do.
std::string reason_of(std::string words) {
  bool newer = words.find("maximum supported version") != std::string::npos || words.starts_with("Unknown builtin op");
  bool pickle = words.find("locating file constants.pkl") != std::string::npos;
  if (size_t place = words.find("] . "); words.starts_with("[enforce") && place != std::string::npos) words.erase(0, place + 4);
  words.resize(std::min({words.size(), words.find('\n'), words.find(". This is"), words.find(". The version")}));
  if (newer) return words + "; export it with torch " TORCH_VERSION " or an older one";
  if (pickle) return words + "; write it with torch.jit.script(model).save(), not with torch.save()";
  return words + "; copy it again, or export the model again";
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
    if (modules_.empty()) {
      try {
        signature_ = read_signature(module.get_method("forward").function().getSchema(), config);
      } catch (const Failure& failure) {
        throw does_not_fit(failure);
      }
    }
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
    throw Failure(ERROR_INVALID_ARG, path_ + " cannot be loaded as TorchScript: " + reason_of(words));
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

std::vector<c10::IValue> Model::zeros(int64_t rows, c10::Device device) const {
  std::vector<c10::IValue> inputs;
  for (const TensorConfig& input : config.inputs) {
    std::vector<int64_t> shape(config.max_batch_size > 0 ? 1 : 0, rows);
    for (int64_t size : input.dims) shape.push_back(size < 0 ? 1 : size);
    if (input.datatype == TYPE_BYTES) {
      c10::List<std::string> strings;
      strings.resize(c10::multiply_integers(shape));
      inputs.emplace_back(std::move(strings));
    } else {
      inputs.emplace_back(at::zeros(shape, at::TensorOptions(scalar_type(input.datatype)).device(device)));
    }
  }
  return inputs;
}

void Model::probe(const torch::jit::Module& module, c10::Device device) const {
  if (config.warmed_up) return;  // Triton's own warm-up requests do the same, with better values
  // PyTorch records the first call and optimises at the second: after these the first request is as fast as any.
  std::vector<int64_t> calls{1, 1};
  if (config.max_batch_size > 1) calls.push_back(2);  // a model that is not made for batches shows it here
  for (int64_t rows : calls) {
    std::packaged_task<void()> call([self = shared_from_this(), module, inputs = zeros(rows, device), rows] {
      const Config& config = self->config;
      self->prepare_thread();
      std::vector<c10::IValue> outputs = self->forward(module, inputs);
      for (size_t at = 0; at < outputs.size(); ++at) {
        check_output(outputs[at], config.outputs[at], config.max_batch_size > 0 ? rows : 0);
      }
    });
    std::future<void> ended = call.get_future();
    std::thread thread(std::move(call));
    const std::chrono::seconds limit = probe_limit();
    if (ended.wait_for(limit) != std::future_status::ready) {
      thread.detach();
      throw Failure(
          ERROR_INVALID_ARG, path_ + " did not end a call with zeros within " + std::to_string(limit.count()) +
                                 " s, and uses a processor core until tritonserver is started again; if it does not "
                                 "loop but is slow, configure a model_warmup, which takes the place of this call");
    }
    thread.join();
    try {
      ended.get();
    } catch (const Failure& failure) {
      throw does_not_fit(failure);
    } catch (const std::exception& error) {
      throw Failure(
          ERROR_INVALID_ARG, path_ + " failed in a call with zeros: " + failure_of(error).what() +
                                 "; if zeros are no valid input of it, configure a model_warmup");
    }
  }
}

Failure Model::does_not_fit(const Failure& failure) const {
  return Failure(ERROR_INVALID_ARG, path_ + " does not fit its config.pbtxt: " + failure.what());
}

void check_output(const c10::IValue& value, const TensorConfig& output, int64_t rows) {
  auto fail = [&output](const std::string& found) {
    throw Failure(
        ERROR_INTERNAL, "output " + output.name + " is configured as " + type_name(output.datatype) +
                            ", but forward returned " + found);
  };
  auto for_rows = [rows] { return " for " + std::to_string(rows) + " rows"; };
  if (output.datatype == TYPE_BYTES) {
    if (!is_strings(value)) fail("no List[str]");
    int64_t count = static_cast<int64_t>(value.toListRef().size());
    if (rows > 0 && count != rows) fail(std::to_string(count) + " strings" + for_rows());
    return;
  }
  if (!value.isTensor() || !value.toTensor().defined()) fail(value.tagKind());
  const at::Tensor& tensor = value.toTensor();
  if (tensor.scalar_type() != scalar_type(output.datatype)) fail(c10::toString(tensor.scalar_type()));
  if (rows > 0 && (tensor.dim() == 0 || tensor.size(0) != rows)) {
    fail("the shape " + shape_text(tensor.sizes()) + for_rows());
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
  if (threads == 0 || threads == static_cast<int64_t>(at::get_num_interop_threads())) return;
  try {
    at::set_num_interop_threads(static_cast<int>(threads));
  } catch (const c10::Error&) {  // PyTorch takes it once a process, before its first use
    log(LOG_WARN, name + ": INTER_OP_THREAD_COUNT is the process's and was set before; it stays " +
                      std::to_string(at::get_num_interop_threads()));
  }
}

}  // namespace pytorch_backend
