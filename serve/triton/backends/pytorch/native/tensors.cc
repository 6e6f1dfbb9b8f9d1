#include "tensors.h"

#include <cstring>
#include <vector>

namespace pytorch_backend {

namespace {

// The bytes that elements of a size need in a shape. Throws Failure if they are more than can be.
uint64_t bytes_of(c10::IntArrayRef shape, const TensorConfig& input, uint64_t element) {
  uint64_t bytes = element;
  for (int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) {
      throw Failure(ERROR_INVALID_ARG, "input " + input.name + " has a shape of more elements than can be");
    }
  }
  return bytes;
}

void* output_buffer(
    TRITONBACKEND_Response* response, const TensorConfig& output, c10::IntArrayRef shape, uint64_t bytes,
    c10::Device& device) {
  TRITONBACKEND_Output* target = nullptr;
  void* buffer = nullptr;
  TRITONSERVER_MemoryType memory = device.is_cuda() ? MEMORY_GPU : MEMORY_CPU;
  int64_t memory_id = device.is_cuda() ? device.index() : 0;
  check(TRITONBACKEND_ResponseOutput(
      response, &target, output.name.c_str(), output.datatype, shape.data(), static_cast<uint32_t>(shape.size())));
  check(TRITONBACKEND_OutputBuffer(target, &buffer, bytes, &memory, &memory_id));
  device = memory == MEMORY_GPU ? c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(memory_id)) : c10::kCPU;
  return buffer;
}

}  // namespace

at::ScalarType scalar_type(TRITONSERVER_DataType datatype) {
  switch (datatype) {
    case TYPE_BOOL: return at::kBool;
    case TYPE_UINT8: return at::kByte;
    case TYPE_UINT16: return at::kUInt16;
    case TYPE_UINT32: return at::kUInt32;
    case TYPE_UINT64: return at::kUInt64;
    case TYPE_INT8: return at::kChar;
    case TYPE_INT16: return at::kShort;
    case TYPE_INT32: return at::kInt;
    case TYPE_INT64: return at::kLong;
    case TYPE_FP16: return at::kHalf;
    case TYPE_FP32: return at::kFloat;
    case TYPE_FP64: return at::kDouble;
    case TYPE_BF16: return at::kBFloat16;
    default: throw Failure(ERROR_INVALID_ARG, type_name(datatype) + " has no tensor type in PyTorch");
  }
}

InputView::InputView(TRITONBACKEND_Request* request, const std::string& name) {
  const int64_t* sizes = nullptr;
  uint32_t dims = 0;
  if (auto* missing = TRITONBACKEND_RequestInput(request, name.c_str(), &input)) {
    TRITONSERVER_ErrorDelete(missing);
    throw Failure(ERROR_INVALID_ARG, "input " + name + " is missing; this backend needs inputs that are optional, too");
  }
  check(TRITONBACKEND_InputProperties(input, nullptr, &datatype, &sizes, &dims, &byte_size, &buffers));
  shape = c10::IntArrayRef(sizes, dims);
}

std::pair<const char*, uint64_t> InputView::buffer(uint32_t index, c10::Device& device) const {
  const void* data = nullptr;
  uint64_t bytes = 0;
  TRITONSERVER_MemoryType memory = MEMORY_CPU;
  int64_t memory_id = 0;
  check(TRITONBACKEND_InputBuffer(input, index, &data, &bytes, &memory, &memory_id));
  device = memory == MEMORY_GPU ? c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(memory_id)) : c10::kCPU;
  return {static_cast<const char*>(data), bytes};
}

at::Tensor tensor_of(const InputView& view, const TensorConfig& input) {
  at::ScalarType type = scalar_type(input.datatype);
  size_t element = c10::elementSize(type);
  if (uint64_t bytes = bytes_of(view.shape, input, element); bytes != view.byte_size) {
    throw Failure(
        ERROR_INVALID_ARG, "input " + input.name + " has " + std::to_string(view.byte_size) +
                               " bytes, its shape needs " + std::to_string(bytes));
  }
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

void append_strings(const InputView& view, const TensorConfig& input, c10::List<std::string>& strings) {
  std::string all;
  c10::Device device = c10::kCPU;
  for (uint32_t index = 0; index < view.buffers; ++index) {
    auto [data, bytes] = view.buffer(index, device);
    if (!device.is_cpu()) throw Failure(ERROR_INVALID_ARG, "input " + input.name + " lies in GPU memory; send it from the CPU");
    all.append(data, bytes);
  }
  uint64_t expected = bytes_of(view.shape, input, 1), found = 0;
  size_t at = 0;
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

void write_tensor(TRITONBACKEND_Response* response, const TensorConfig& output, const at::Tensor& tensor) {
  uint64_t bytes = tensor.nbytes();
  c10::Device device = tensor.device();
  void* buffer = output_buffer(response, output, tensor.sizes(), bytes, device);
  if (bytes == 0) return;
  if (device.is_cpu() && tensor.device().is_cpu()) {
    std::memcpy(buffer, tensor.const_data_ptr(), bytes);
  } else {
    at::from_blob(buffer, tensor.sizes(), tensor.options().device(device)).copy_(tensor);
  }
}

void write_strings(TRITONBACKEND_Response* response, const TensorConfig& output, c10::ArrayRef<c10::IValue> strings, bool batched) {
  std::string bytes;
  for (const c10::IValue& value : strings) {
    const std::string& text = value.toStringRef();
    uint32_t length = static_cast<uint32_t>(text.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof length).append(text);
  }
  std::vector<int64_t> shape{static_cast<int64_t>(strings.size())};
  if (batched) shape.push_back(1);
  c10::Device device = c10::kCPU;
  void* buffer = output_buffer(response, output, shape, bytes.size(), device);
  if (!device.is_cpu()) throw Failure(ERROR_INTERNAL, "output " + output.name + ": strings cannot be written into GPU memory");
  if (!bytes.empty()) std::memcpy(buffer, bytes.data(), bytes.size());  // without bytes there is no buffer
}

}  // namespace pytorch_backend
