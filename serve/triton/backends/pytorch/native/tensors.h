// The tensors of requests and responses: from Triton's buffers to PyTorch's values and back.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <string>
#include <utility>

#include "config.h"

namespace pytorch_backend {

at::ScalarType scalar_type(TRITONSERVER_DataType datatype);

// An input as Triton holds it: a shape and one or several buffers.
struct InputView {
  TRITONBACKEND_Input* input = nullptr;
  c10::IntArrayRef shape;
  TRITONSERVER_DataType datatype = TYPE_INVALID;
  uint64_t byte_size = 0;
  uint32_t buffers = 0;

  InputView(TRITONBACKEND_Request* request, const std::string& name);

  std::pair<const char*, uint64_t> buffer(uint32_t index, c10::Device& device) const;
};

// The tensor of a lone request, in place where its bytes lie in one aligned buffer.
at::Tensor tensor_of(const InputView& view, const TensorConfig& input);

// TYPE_STRING on the wire: each element is a length of four bytes and that many bytes.
void append_strings(const InputView& view, const TensorConfig& input, c10::List<std::string>& strings);

// Write an output of a response.
void write_tensor(TRITONBACKEND_Response* response, const TensorConfig& output, const at::Tensor& tensor);
void write_strings(
    TRITONBACKEND_Response* response, const TensorConfig& output, c10::ArrayRef<c10::IValue> strings, bool batched);

}  // namespace pytorch_backend
