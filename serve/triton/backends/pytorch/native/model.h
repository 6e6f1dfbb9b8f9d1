// A TorchScript module that a configuration was checked against, and what runs it.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "signature.h"

namespace pytorch_backend {

// The words of a failure that a caller can use: the last line, without PyTorch's C++ stack.
Failure failure_of(const std::exception& error);

// Held by shared pointers, because a call that does not end (see `probe`) goes on using it.
class Model : public std::enable_shared_from_this<Model> {
 public:
  Model(std::string name, const std::string& folder, uint64_t version, Config config);

  // The module on a device. All instances on one device share it, and with it the weights.
  const torch::jit::Module& on(c10::Device device);

  // One call of `forward`: a value per input of the configuration -> a value per output. Throws Failure.
  std::vector<c10::IValue> forward(const torch::jit::Module& module, const std::vector<c10::IValue>& inputs) const;

  // Run the module on zeros, so that a configuration which does not fit is refused at load and not at every request.
  // A call that does not end is left alone in its thread, because nothing can stop it.
  void probe(const torch::jit::Module& module, c10::Device device) const;

  // The thread settings of a configuration hold for the thread that calls, so every instance's thread calls this.
  void prepare_thread() const;

  const Config config;
  const std::string name;

 private:
  Failure does_not_fit(const Failure& failure) const;
  std::vector<c10::IValue> zeros(int64_t rows, c10::Device device) const;
  torch::jit::Module load(std::optional<c10::Device> device) const;
  void set_process_options() const;

  const std::string path_;
  // Read once: a wrong value is refused at load, and a request looks nothing up.
  const bool inference_mode_, unoptimised_;
  const int threads_;
  Signature signature_;
  std::mutex loading_;
  std::map<std::string, torch::jit::Module> modules_;
};

// Throw Failure if a value is not what the configuration promises for an output. `rows` is the batch, 0 without one.
void check_output(const c10::IValue& value, const TensorConfig& output, int64_t rows);

}  // namespace pytorch_backend
