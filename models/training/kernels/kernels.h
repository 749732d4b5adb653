// What Python calls; ../fused_units.py wraps it. Shapes stand above each definition.

#pragma once

#include <ATen/ATen.h>

#include <vector>

std::vector<at::Tensor> pointwise_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gamma,
                                          const at::Tensor& beta, double eps, double low, double high);

std::vector<at::Tensor> pointwise_backward(const at::Tensor& dz, const at::Tensor& x, const at::Tensor& y,
                                           const at::Tensor& weight, const at::Tensor& gamma, const at::Tensor& beta,
                                           const at::Tensor& mean, const at::Tensor& variance, double eps, double low,
                                           double high, bool wants_dx);

std::vector<at::Tensor> depthwise_forward(const at::Tensor& x, const at::Tensor& weight,
                                          std::vector<int64_t> dilations, int64_t stride, const at::Tensor& gamma,
                                          const at::Tensor& beta, double eps, double low, double high);

std::vector<at::Tensor> depthwise_backward(const at::Tensor& dz, const at::Tensor& x, const at::Tensor& y,
                                           const at::Tensor& weight, std::vector<int64_t> dilations, int64_t stride,
                                           const at::Tensor& gamma, const at::Tensor& beta, const at::Tensor& mean,
                                           const at::Tensor& variance, double eps, double low, double high);
