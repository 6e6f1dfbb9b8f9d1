// One execution: the requests that Triton's batcher put together -> a response for each.
#pragma once

#include "model.h"

namespace pytorch_backend {

class Instance {
 public:
  Instance(Model& model, c10::Device device);

  // Answer and release all requests. One request's failure never fails another: a failed batch runs again one by one.
  void execute(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count);

 private:
  Model& model_;
  const c10::Device device_;
  const torch::jit::Module& module_;
};

}  // namespace pytorch_backend
