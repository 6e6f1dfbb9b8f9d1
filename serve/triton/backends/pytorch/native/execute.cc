#include "execute.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <chrono>
#include <cstring>
#include <set>

namespace pytorch_backend {

namespace {

uint64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// One request on its way: what it sent, the response it gets, and whether that has been sent.
struct Call {
  TRITONBACKEND_Request* request;
  TRITONBACKEND_Response* response = nullptr;
  int64_t rows = 0;
  bool answered = false;
  bool failed = false;
};

// An input as Triton holds it: a shape and one or several buffers.
struct InputView {
  TRITONBACKEND_Input* input = nullptr;
  c10::IntArrayRef shape;
  TRITONSERVER_DataType datatype = TYPE_INVALID;
  uint64_t byte_size = 0;
  uint32_t buffers = 0;

  InputView(TRITONBACKEND_Request* request, const std::string& name) {
    const int64_t* sizes = nullptr;
    uint32_t dims = 0;
    check(TRITONBACKEND_RequestInput(request, name.c_str(), &input));
    check(TRITONBACKEND_InputProperties(input, nullptr, &datatype, &sizes, &dims, &byte_size, &buffers));
    shape = c10::IntArrayRef(sizes, dims);
  }

  std::pair<const char*, uint64_t> buffer(uint32_t index, c10::Device& device) const {
    const void* data = nullptr;
    uint64_t bytes = 0;
    TRITONSERVER_MemoryType memory = MEMORY_CPU;
    int64_t memory_id = 0;
    check(TRITONBACKEND_InputBuffer(input, index, &data, &bytes, &memory, &memory_id));
    device = memory == MEMORY_GPU ? c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(memory_id)) : c10::kCPU;
    return {static_cast<const char*>(data), bytes};
  }
};

// The bytes that a shape needs. Throws Failure if a shape overflows or the request sent other bytes.
void check_size(const InputView& view, const TensorConfig& input, size_t element) {
  uint64_t bytes = element;
  bool over = false;
  for (int64_t size : view.shape) over |= size < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes);
  if (over || bytes != view.byte_size) {
    throw Failure(
        ERROR_INVALID_ARG, "input " + input.name + " has " + std::to_string(view.byte_size) +
                               " bytes, its shape needs " + (over ? "more than can be" : std::to_string(bytes)));
  }
}

// The tensor of a lone request, in place where its bytes lie in one aligned buffer.
at::Tensor tensor_of(const InputView& view, const TensorConfig& input) {
  at::ScalarType type = scalar_type(input.datatype);
  size_t element = c10::elementSize(type);
  check_size(view, input, element);
  c10::Device device = c10::kCPU;
  if (view.buffers == 1) {
    auto [data, bytes] = view.buffer(0, device);
    if (reinterpret_cast<uintptr_t>(data) % element == 0 && bytes > 0) {
      return at::from_blob(const_cast<char*>(data), view.shape, at::TensorOptions(type).device(device));
    }
  }
  at::Tensor tensor = at::empty(view.shape, type);
  char* target = static_cast<char*>(tensor.mutable_data_ptr());
  for (uint32_t index = 0; index < view.buffers; ++index) {
    auto [data, bytes] = view.buffer(index, device);
    if (bytes == 0) continue;
    if (device.is_cpu()) {
      std::memcpy(target, data, bytes);
    } else {
      int64_t length = static_cast<int64_t>(bytes);
      at::from_blob(target, {length}, at::kByte)
          .copy_(at::from_blob(const_cast<char*>(data), {length}, at::TensorOptions(at::kByte).device(device)));
    }
    target += bytes;
  }
  return tensor;
}

// TYPE_STRING on the wire: each element is a length of four bytes and that many bytes.
void append_strings(const InputView& view, const TensorConfig& input, c10::List<std::string>& strings) {
  std::string all;
  c10::Device device = c10::kCPU;
  for (uint32_t index = 0; index < view.buffers; ++index) {
    auto [data, bytes] = view.buffer(index, device);
    if (!device.is_cpu()) throw Failure(ERROR_INVALID_ARG, "input " + input.name + " lies in GPU memory; send it from the CPU");
    all.append(data, bytes);
  }
  int64_t expected = 1;
  for (int64_t size : view.shape) expected *= size;
  size_t at = 0;
  int64_t found = 0;
  for (; at < all.size(); ++found) {
    uint32_t length = 0;
    if (all.size() - at < sizeof length) break;
    std::memcpy(&length, all.data() + at, sizeof length);
    at += sizeof length;
    if (all.size() - at < length) break;
    strings.push_back(all.substr(at, length));
    at += length;
  }
  if (at != all.size() || found != expected) {
    throw Failure(
        ERROR_INVALID_ARG, "input " + input.name + " is not " + std::to_string(expected) +
                               " strings, each after its length in four bytes");
  }
}

// One value per input of the configuration, the rows of all requests one after the other.
std::vector<c10::IValue> gather(const std::vector<Call*>& calls, const Config& config, c10::Device device) {
  std::vector<c10::IValue> values;
  for (const TensorConfig& input : config.inputs) {
    if (input.datatype == TYPE_BYTES) {
      c10::List<std::string> strings;
      for (Call* call : calls) append_strings(InputView(call->request, input.name), input, strings);
      values.emplace_back(std::move(strings));
      continue;
    }
    std::vector<at::Tensor> parts;
    for (Call* call : calls) parts.push_back(tensor_of(InputView(call->request, input.name), input));
    at::Tensor tensor = parts.size() == 1 ? parts[0] : at::cat(parts);
    if (tensor.device() != device) {
      bool pinned = device.is_cuda() && tensor.device().is_cpu();
      tensor = (pinned ? tensor.pin_memory() : tensor).to(device, /*non_blocking=*/true);
    }
    values.emplace_back(std::move(tensor));
  }
  return values;
}

void* output_buffer(
    Call& call, const TensorConfig& output, c10::IntArrayRef shape, uint64_t bytes, c10::Device& device) {
  TRITONBACKEND_Output* target = nullptr;
  void* buffer = nullptr;
  TRITONSERVER_MemoryType memory = device.is_cuda() ? MEMORY_GPU : MEMORY_CPU;
  int64_t memory_id = device.is_cuda() ? device.index() : 0;
  check(TRITONBACKEND_ResponseOutput(
      call.response, &target, output.name.c_str(), output.datatype, shape.data(), static_cast<uint32_t>(shape.size())));
  check(TRITONBACKEND_OutputBuffer(target, &buffer, bytes, &memory, &memory_id));
  device = memory == MEMORY_GPU ? c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(memory_id)) : c10::kCPU;
  return buffer;
}

void write_tensor(Call& call, const TensorConfig& output, const at::Tensor& tensor) {
  uint64_t bytes = tensor.nbytes();
  c10::Device device = tensor.device();
  void* buffer = output_buffer(call, output, tensor.sizes(), bytes, device);
  if (bytes == 0) return;
  if (device.is_cpu() && tensor.device().is_cpu()) {
    std::memcpy(buffer, tensor.const_data_ptr(), bytes);
  } else {
    at::from_blob(buffer, tensor.sizes(), tensor.options().device(device)).copy_(tensor);
  }
}

void write_strings(Call& call, const TensorConfig& output, c10::ArrayRef<c10::IValue> strings, bool batched) {
  std::string bytes;
  for (const c10::IValue& value : strings) {
    const std::string& text = value.toStringRef();
    uint32_t length = static_cast<uint32_t>(text.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof length).append(text);
  }
  std::vector<int64_t> shape{static_cast<int64_t>(strings.size())};
  if (batched) shape.push_back(1);
  c10::Device device = c10::kCPU;
  void* buffer = output_buffer(call, output, shape, bytes.size(), device);
  if (!device.is_cpu()) throw Failure(ERROR_INTERNAL, "output " + output.name + ": strings cannot be written into GPU memory");
  std::memcpy(buffer, bytes.data(), bytes.size());
}

bool wants(const std::set<std::string>& names, const TensorConfig& output) {
  return names.empty() || names.contains(output.name);
}

std::set<std::string> wanted_outputs(TRITONBACKEND_Request* request) {
  std::set<std::string> names;
  uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request, &count));
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    check(TRITONBACKEND_RequestOutputName(request, index, &name));
    names.insert(name);
  }
  return names;
}

void send(Call& call, const Failure* failure) {
  call.answered = true;
  call.failed = failure != nullptr;
  if (call.response == nullptr) return;
  TRITONSERVER_Error* error = failure ? TRITONSERVER_ErrorNew(failure->code, failure->what()) : nullptr;
  if (auto* refused = TRITONBACKEND_ResponseSend(call.response, RESPONSE_COMPLETE_FINAL, error)) {
    log(LOG_ERROR, std::string("a response could not be sent: ") + TRITONSERVER_ErrorMessage(refused));
    TRITONSERVER_ErrorDelete(refused);
  }
  if (error) TRITONSERVER_ErrorDelete(error);
}

}  // namespace

Instance::Instance(Model& model, c10::Device device) : model_(model), device_(device), module_(model.on(device)) {}

void Instance::execute(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  const Config& config = model_.config;
  const bool batched = config.max_batch_size > 0;
  const uint64_t started = now();
  uint64_t compute_started = started, compute_ended = started;
  thread_local bool prepared = false;
  if (!prepared) {
    model_.prepare_thread();
    prepared = true;
  }

  std::vector<Call> calls;
  calls.reserve(count);
  int64_t all_rows = 0;
  for (uint32_t at = 0; at < count; ++at) {
    Call& call = calls.emplace_back(Call{requests[at]});
    try {
      check(TRITONBACKEND_ResponseNew(&call.response, call.request));
      if (batched) {
        InputView view(call.request, config.inputs[0].name);
        call.rows = view.shape.empty() ? 0 : view.shape[0];
      }
      all_rows += batched ? call.rows : 1;
    } catch (const Failure& failure) {
      send(call, &failure);
    }
  }

  auto run = [&](const std::vector<Call*>& some) {
    c10::InferenceMode guard(true);
    std::vector<c10::IValue> inputs = gather(some, config, device_);
    int64_t rows = 0;
    for (Call* call : some) rows += call->rows;
    compute_started = now();
    std::vector<c10::IValue> outputs = model_.forward(module_, inputs);
    for (size_t at = 0; at < outputs.size(); ++at) {
      check_output(outputs[at], config.outputs[at], batched ? rows : 0);
      if (outputs[at].isTensor()) outputs[at] = outputs[at].toTensor().contiguous();
    }
    compute_ended = now();
    int64_t row = 0;
    for (Call* call : some) {
      try {
        std::set<std::string> names = wanted_outputs(call->request);
        for (size_t at = 0; at < outputs.size(); ++at) {
          const TensorConfig& output = config.outputs[at];
          if (!wants(names, output)) continue;
          if (output.datatype == TYPE_BYTES) {
            auto strings = outputs[at].toListRef();
            write_strings(*call, output, batched ? strings.slice(row, call->rows) : strings, batched);
          } else {
            const at::Tensor& tensor = outputs[at].toTensor();
            write_tensor(*call, output, batched && some.size() > 1 ? tensor.narrow(0, row, call->rows) : tensor);
          }
        }
        send(*call, nullptr);
      } catch (const std::exception& error) {
        Failure failure = failure_of(error);
        send(*call, &failure);
      }
      row += call->rows;
    }
  };

  std::vector<Call*> waiting;
  for (Call& call : calls) {
    if (!call.answered) waiting.push_back(&call);
  }
  if (batched && waiting.size() > 1) {
    try {
      run(waiting);
    } catch (const std::exception&) {  // nobody has been answered: each runs alone below
    }
  }
  for (Call* call : waiting) {
    if (call->answered) continue;
    try {
      run({call});
    } catch (const std::exception& error) {
      Failure failure = failure_of(error);
      send(*call, &failure);
    }
  }

  const uint64_t ended = now();
  if (compute_ended < compute_started) compute_ended = ended;
  for (Call& call : calls) {
    auto drop = [](TRITONSERVER_Error* error) { if (error) TRITONSERVER_ErrorDelete(error); };
    drop(TRITONBACKEND_ModelInstanceReportStatistics(
        instance, call.request, !call.failed, started, compute_started, compute_ended, ended));
    drop(TRITONBACKEND_RequestRelease(call.request, REQUEST_RELEASE_ALL));
  }
  if (all_rows > 0) {
    auto* error = TRITONBACKEND_ModelInstanceReportBatchStatistics(
        instance, static_cast<uint64_t>(all_rows), started, compute_started, compute_ended, ended);
    if (error) TRITONSERVER_ErrorDelete(error);
  }
}

}  // namespace pytorch_backend
