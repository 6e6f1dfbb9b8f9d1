#include "config.h"

#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

namespace pytorch_backend {

namespace {

const std::pair<const char*, TRITONSERVER_DataType> TYPES[] = {
    {"BOOL", TYPE_BOOL},     {"UINT8", TYPE_UINT8},   {"UINT16", TYPE_UINT16}, {"UINT32", TYPE_UINT32},
    {"UINT64", TYPE_UINT64}, {"INT8", TYPE_INT8},     {"INT16", TYPE_INT16},   {"INT32", TYPE_INT32},
    {"INT64", TYPE_INT64},   {"FP16", TYPE_FP16},     {"FP32", TYPE_FP32},     {"FP64", TYPE_FP64},
    {"STRING", TYPE_BYTES},  {"BF16", TYPE_BF16},
};

// A JSON value. Triton wrote the text, so it is well formed and small; a fault in it is still an error and no crash.
struct Json {
  std::string text;  // of a string, number or literal
  std::vector<Json> items;
  std::map<std::string, Json> fields;

  const Json& operator[](const std::string& name) const {
    static const Json nothing;
    auto found = fields.find(name);
    return found == fields.end() ? nothing : found->second;
  }
  int64_t number() const {
    int64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : at_(text.data()), end_(text.data() + text.size()) {}

  Json value(int depth = 0) {
    if (depth > 64) fail();
    Json json;
    switch (peek()) {
      case '{':
        list('}', [&] {
          std::string name = string();
          expect(':');
          json.fields[name] = value(depth + 1);
        });
        return json;
      case '[':
        list(']', [&] { json.items.push_back(value(depth + 1)); });
        return json;
      case '"':
        json.text = string();
        return json;
      default:
        while (at_ < end_ && !std::strchr(",]} \n\r\t", *at_)) json.text += *at_++;
        return json;
    }
  }

 private:
  template <typename Item>
  void list(char close, Item item) {
    ++at_;
    if (peek() != close) {
      do item();
      while (peek() == ',' && ++at_);
    }
    expect(close);
  }

  std::string string() {
    expect('"');
    std::string text;
    while (at_ < end_ && *at_ != '"') {
      if (*at_ == '\\' && ++at_ < end_) text += escaped();
      else text += *at_;
      ++at_;
    }
    expect('"');
    return text;
  }

  // Names of tensors are plain text; of the \u escapes only those below 128 are needed.
  char escaped() {
    switch (*at_) {
      case 'n': return '\n';
      case 't': return '\t';
      case 'r': return '\r';
      case 'b': return '\b';
      case 'f': return '\f';
      case 'u': {
        if (end_ - at_ < 5) fail();
        int code = 0;
        std::from_chars(at_ + 1, at_ + 5, code, 16);
        at_ += 4;
        return code < 128 ? static_cast<char>(code) : '?';
      }
      default: return *at_;
    }
  }

  char peek() {
    while (at_ < end_ && std::strchr(" \n\r\t", *at_)) ++at_;
    if (at_ == end_) fail();
    return *at_;
  }
  void expect(char wanted) {
    if (peek() != wanted) fail();
    ++at_;
  }
  [[noreturn]] void fail() { throw Failure(ERROR_INTERNAL, "Triton's model configuration is not readable as JSON"); }

  const char* at_;
  const char* end_;
};

std::vector<int64_t> numbers(const Json& json) {
  std::vector<int64_t> found;
  for (const Json& item : json.items) found.push_back(item.number());
  return found;
}

TensorConfig tensor(const Json& json) {
  TensorConfig tensor{json["name"].text, TYPE_INVALID, numbers(json["dims"])};
  for (auto [name, datatype] : TYPES) {
    if (json["data_type"].text == std::string("TYPE_") + name) tensor.datatype = datatype;
  }
  if (json.fields.contains("reshape")) tensor.dims = numbers(json["reshape"]["shape"]);
  if (tensor.datatype == TYPE_INVALID) {
    throw Failure(ERROR_INVALID_ARG, tensor.name + ": data_type " + json["data_type"].text + " is not supported");
  }
  if (json["allow_ragged_batch"].text == "true") {
    throw Failure(ERROR_UNSUPPORTED, tensor.name + ": allow_ragged_batch is not supported; pad the input");
  }
  return tensor;
}

// The tensors by which Triton's sequence batcher tells a model where a sequence starts and ends are plain inputs.
void add_controls(const Json& batching, Config& config) {
  if (!batching["state"].items.empty()) {
    throw Failure(ERROR_UNSUPPORTED, "sequence_batching: state is not supported; return the state as an output");
  }
  for (const Json& control : batching["control_input"].items) {
    for (const Json& kind : control["control"].items) {
      TensorConfig input{control["name"].text, TYPE_FP32, {1}};
      if (!kind["int32_false_true"].items.empty()) input.datatype = TYPE_INT32;
      if (!kind["bool_false_true"].items.empty()) input.datatype = TYPE_BOOL;
      if (kind["kind"].text == "CONTROL_SEQUENCE_CORRID") {
        for (auto [name, datatype] : TYPES) {
          if (kind["data_type"].text == std::string("TYPE_") + name) input.datatype = datatype;
        }
      }
      config.inputs.push_back(input);
    }
  }
}

}  // namespace

void check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw Failure(ERROR_INTERNAL, message);
}

void log(TRITONSERVER_LogLevel level, const std::string& message) {
  if (auto* error = TRITONSERVER_LogMessage(level, "pytorch", 0, message.c_str())) TRITONSERVER_ErrorDelete(error);
}

std::string type_name(TRITONSERVER_DataType wanted) {
  for (auto [name, datatype] : TYPES) {
    if (datatype == wanted) return std::string("TYPE_") + name;
  }
  return "a type that Triton does not have";
}

int64_t Config::number(const std::string& parameter, int64_t missing) const {
  auto found = parameters.find(parameter);
  if (found == parameters.end()) return missing;
  int64_t value = 0;
  auto [end, error] = std::from_chars(found->second.data(), found->second.data() + found->second.size(), value);
  if (error != std::errc() || *end != '\0' || value < 1) {
    throw Failure(ERROR_INVALID_ARG, parameter + " is \"" + found->second + "\"; write a whole number from 1");
  }
  return value;
}

bool Config::flag(const std::string& parameter, bool missing) const {
  auto found = parameters.find(parameter);
  if (found == parameters.end()) return missing;
  if (found->second == "true" || found->second == "1") return true;
  if (found->second == "false" || found->second == "0") return false;
  throw Failure(ERROR_INVALID_ARG, parameter + " is \"" + found->second + "\"; write true or false");
}

Config read_config(const std::string& text) {
  Json json = JsonReader(text).value();
  Config config;
  config.max_batch_size = json["max_batch_size"].number();
  if (!json["default_model_filename"].text.empty()) config.file = json["default_model_filename"].text;
  for (const Json& input : json["input"].items) config.inputs.push_back(tensor(input));
  for (const Json& output : json["output"].items) config.outputs.push_back(tensor(output));
  config.warmed_up = !json["model_warmup"].items.empty();
  for (const auto& [name, value] : json["parameters"].fields) config.parameters[name] = value["string_value"].text;
  if (!json["batch_input"].items.empty() || !json["batch_output"].items.empty()) {
    throw Failure(ERROR_UNSUPPORTED, "batch_input and batch_output are not supported; pad the inputs");
  }
  if (json.fields.contains("sequence_batching")) add_controls(json["sequence_batching"], config);
  if (config.inputs.empty() || config.outputs.empty()) {
    throw Failure(ERROR_INVALID_ARG, "config.pbtxt must name every input and output; TorchScript does not carry them");
  }
  return config;
}

}  // namespace pytorch_backend
