// 1x1 convolution + batch norm + clamp, forward and backward; see normalization.h.

#include "kernels.h"
#include "normalization.h"

using namespace fused;

// x P x I, weight O x I -> y, z P x O and the batch's mean and variance.
std::vector<Tensor> pointwise_forward(const Tensor& x, const Tensor& weight, const Tensor& gamma, const Tensor& beta,
                                      double eps, double low, double high) {
  const int64_t rows = x.size(0), outputs = weight.size(0);
  Tensor y = at::empty({rows, outputs}, x.options()), z = at::empty_like(y);
  const Tensor transposed = weight.t().contiguous();
  auto partial = moments_per_thread(outputs);
  at::parallel_for(0, (rows + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto& mine = partial[at::get_thread_num()];
    std::vector<float> sum(2 * outputs);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk * kRows, count = std::min(rows - first, kRows);
      Tensor part = y.narrow(0, first, count);
      at::mm_out(part, x.narrow(0, first, count), transposed);
      const float* v = part.data_ptr<float>();
      std::fill(sum.begin(), sum.end(), 0.0f);
      float *plain = sum.data(), *squared = sum.data() + outputs;
      for (int64_t r = 0; r < count; ++r)
        for (int64_t c = 0; c < outputs; ++c) {
          plain[c] += v[r * outputs + c];
          squared[c] += v[r * outputs + c] * v[r * outputs + c];
        }
      for (int64_t i = 0; i < 2 * outputs; ++i) mine[i] += sum[i];
    }
  });
  auto [mean, variance, norm] = normalize_by(total(partial, 2 * outputs), rows, gamma, beta, eps, low, high);
  clamp_rows(y, z, norm);
  return {y, z, mean, variance};
}

// -> dx (empty where not wanted), dweight, dgamma, dbeta.
std::vector<Tensor> pointwise_backward(const Tensor& dz, const Tensor& x, const Tensor& y, const Tensor& weight,
                                       const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                       const Tensor& variance, double eps, double low, double high, bool wants_dx) {
  const int64_t rows = x.size(0), outputs = weight.size(0);
  const Tensor scale = gamma * (variance + eps).rsqrt();
  const Normalization norm{scale, beta - mean * scale, float(low), float(high)};
  const Backward back = differentiate(dz, y, gamma, mean, variance, eps, norm);
  Tensor dx = wants_dx ? at::empty_like(x) : at::empty({0}, x.options());
  std::vector<Tensor> dweight(at::get_num_threads());
  for (auto& one : dweight) one = at::zeros_like(weight);
  at::parallel_for(0, (rows + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView guard;
    Tensor& mine = dweight[at::get_thread_num()];
    Tensor buffer = at::empty({kRows, outputs}, x.options());
    const float lowest = norm.low, highest = norm.high;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk * kRows, count = std::min(rows - first, kRows);
      for (int64_t r = 0; r < count; ++r) {
        const float *__restrict g = dz.data_ptr<float>() + (first + r) * outputs;
        const float *__restrict v = y.data_ptr<float>() + (first + r) * outputs;
        float* __restrict d = buffer.data_ptr<float>() + r * outputs;
        const float *__restrict a = back.on_gradient.data_ptr<float>(), *__restrict b = back.on_value.data_ptr<float>();
        const float *__restrict k = back.constant.data_ptr<float>(), *__restrict s = scale.data_ptr<float>();
        const float *__restrict t = norm.shift.data_ptr<float>();
        for (int64_t c = 0; c < outputs; ++c) {
          const float n = v[c] * s[c] + t[c], kept = ((n > lowest) & (n < highest)) ? g[c] : 0.0f;
          d[c] = kept * a[c] + v[c] * b[c] + k[c];
        }
      }
      const Tensor dy = buffer.narrow(0, 0, count), part = x.narrow(0, first, count);
      if (wants_dx) {
        Tensor target = dx.narrow(0, first, count);
        at::mm_out(target, dy, weight);
      }
      mine.addmm_(dy.t(), part);
    }
  });
  Tensor sum = dweight[0];
  for (size_t i = 1; i < dweight.size(); ++i) sum.add_(dweight[i]);
  return {dx, sum, back.gamma, back.beta};
}
