// The module that ../fused_units.py loads.

#include "kernels.h"

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>  // tensors; torch/extension.h takes half a minute more

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("pointwise_forward", &pointwise_forward);
  m.def("pointwise_backward", &pointwise_backward);
  m.def("depthwise_forward", &depthwise_forward);
  m.def("depthwise_backward", &depthwise_backward);
}
