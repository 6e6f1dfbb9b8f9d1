#include "execute.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <chrono>

#include "tensors.h"

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

// Whether a request asks for an output. Of a request that names none Triton lists all.
bool wants(TRITONBACKEND_Request* request, const TensorConfig& output) {
  uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request, &count));
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    check(TRITONBACKEND_RequestOutputName(request, index, &name));
    if (output.name == name) return true;
  }
  return false;
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
        for (size_t at = 0; at < outputs.size(); ++at) {
          const TensorConfig& output = config.outputs[at];
          if (!wants(call->request, output)) continue;
          if (output.datatype == TYPE_BYTES) {
            auto strings = outputs[at].toListRef();
            write_strings(call->response, output, batched ? strings.slice(row, call->rows) : strings, batched);
          } else {
            const at::Tensor& tensor = outputs[at].toTensor();
            write_tensor(call->response, output, batched && some.size() > 1 ? tensor.narrow(0, row, call->rows) : tensor);
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
