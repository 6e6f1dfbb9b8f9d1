// A model's configuration, as far as this backend obeys it. No PyTorch in here, so that it compiles in a second.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "triton_api.h"

namespace pytorch_backend {

// A failure with the code that Triton answers: INVALID_ARG is a caller's mistake (400), INTERNAL the model's (500).
struct Failure : std::runtime_error {
  Failure(TRITONSERVER_ErrorCode code, const std::string& message) : std::runtime_error(message), code(code) {}
  TRITONSERVER_ErrorCode code;
};

// Throw a Failure if a call of Triton's API failed.
void check(TRITONSERVER_Error* error);
void log(TRITONSERVER_LogLevel level, const std::string& message);

struct TensorConfig {
  std::string name;
  TRITONSERVER_DataType datatype;
  std::vector<int64_t> dims;   // without the batch dimension, after `reshape`; -1 is any size
};

struct Config {
  int64_t max_batch_size = 0;  // 0: the first dimension is not a batch
  std::string file = "model.pt";
  std::vector<TensorConfig> inputs;
  std::vector<TensorConfig> outputs;
  bool warmed_up = false;      // Triton sends the configured warm-up requests itself
  std::map<std::string, std::string> parameters;

  int64_t number(const std::string& parameter, int64_t missing) const;
  bool flag(const std::string& parameter, bool missing) const;
};

// Read the JSON that Triton makes of config.pbtxt. Throws Failure for a configuration that this backend cannot obey.
Config read_config(const std::string& json);

std::string type_name(TRITONSERVER_DataType datatype);

}  // namespace pytorch_backend
