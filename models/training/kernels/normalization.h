// Convolution + batch norm (batch statistics) + clamp as one training step each way, NHWC float32 on the CPU: what the
// kernels share.
//
// Why by hand: a matting network's training step on a CPU is bound by memory traffic. PyTorch walks each map for the
// convolution, the statistics, the normalization, the clamp and once more for each backward of these; here a map is
// read while it is still in the cache. ../fused_units.py says what was measured.
//
// Algebra: y = conv(x), v = (y - mean) * invstd * gamma + beta, z = clamp(v, low, high). Backward, with
// g = dz where low < v < high (else 0), over P positions:
//   dbeta = sum g,  dgamma = sum g * xhat,  dy = gamma * invstd * (g - dbeta / P - xhat * dgamma / P).

#pragma once

#include <ATen/Parallel.h>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

namespace fused {

using at::Tensor;
using Moments = std::vector<double>;  // per thread: two sums for every channel

constexpr int64_t kRows = 2048;  // positions handled at once: a chunk of each map stays in the cache

struct Normalization {
  Tensor scale, shift;  // v = y * scale + shift
  float low, high;
};

// Sums of per-thread moments, thread by thread.
inline std::vector<double> total(const std::vector<Moments>& partial, int64_t count) {
  std::vector<double> sum(count, 0.0);
  for (const auto& one : partial)
    for (int64_t i = 0; i < count; ++i) sum[i] += one[i];
  return sum;
}

inline std::vector<Moments> moments_per_thread(int64_t channels) {
  return std::vector<Moments>(at::get_num_threads(), Moments(2 * channels, 0.0));
}

// The batch's mean and variance of each channel, and scale and shift from them.
inline std::tuple<Tensor, Tensor, Normalization> normalize_by(const std::vector<double>& sum, int64_t positions,
                                                       const Tensor& gamma, const Tensor& beta, double eps, double low,
                                                       double high) {
  const int64_t channels = gamma.numel();
  Tensor mean = at::empty_like(gamma), variance = at::empty_like(gamma);
  for (int64_t c = 0; c < channels; ++c) {
    const double m = sum[c] / positions;
    mean.data_ptr<float>()[c] = m;
    variance.data_ptr<float>()[c] = std::max(0.0, sum[channels + c] / positions - m * m);
  }
  Tensor scale = gamma * (variance + eps).rsqrt();
  return {mean, variance, Normalization{scale, beta - mean * scale, float(low), float(high)}};
}

inline void clamp_rows(const Tensor& y, const Tensor& z, const Normalization& norm) {
  const int64_t channels = norm.scale.numel(), rows = y.numel() / channels;
  const float *from = y.data_ptr<float>(), *scale = norm.scale.data_ptr<float>(), *shift = norm.shift.data_ptr<float>();
  float* to = z.data_ptr<float>();
  at::parallel_for(0, rows, kRows, [&](int64_t begin, int64_t end) {
    const float low = norm.low, high = norm.high;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < channels; ++c) {
        const float v = from[r * channels + c] * scale[c] + shift[c];
        to[r * channels + c] = std::min(std::max(v, low), high);
      }
  });
}

// dy = keep(g) * on_gradient + y * on_value + constant, per channel.
struct Backward {
  Tensor on_gradient, on_value, constant, gamma, beta;
};

inline Backward differentiate(const Tensor& dz, const Tensor& y, const Tensor& gamma, const Tensor& mean,
                       const Tensor& variance, double eps, const Normalization& norm) {
  const int64_t channels = gamma.numel(), rows = y.numel() / channels;
  const float *gradient = dz.data_ptr<float>(), *value = y.data_ptr<float>();
  const float *scale = norm.scale.data_ptr<float>(), *shift = norm.shift.data_ptr<float>();
  auto partial = moments_per_thread(channels);
  at::parallel_for(0, (rows + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    auto& mine = partial[at::get_thread_num()];
    std::vector<float> sum(2 * channels);
    // copies: what is captured might alias the sums, and then nothing is vectorized
    const float low = norm.low, high = norm.high, *const by = scale, *const plus = shift;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t r = chunk * kRows; r < std::min(rows, (chunk + 1) * kRows); ++r) {
        const float *__restrict g = gradient + r * channels, *__restrict v = value + r * channels;
        float *__restrict plain = sum.data(), *__restrict weighted = sum.data() + channels;
        for (int64_t c = 0; c < channels; ++c) {
          const float n = v[c] * by[c] + plus[c];
          const float kept = ((n > low) & (n < high)) ? g[c] : 0.0f;
          plain[c] += kept;
          weighted[c] += kept * v[c];
        }
      }
      for (int64_t i = 0; i < 2 * channels; ++i) mine[i] += sum[i];
    }
  });
  const auto sum = total(partial, 2 * channels);
  Backward result{at::empty_like(gamma), at::empty_like(gamma), at::empty_like(gamma), at::empty_like(gamma),
                  at::empty_like(gamma)};
  for (int64_t c = 0; c < channels; ++c) {
    const double m = mean.data_ptr<float>()[c], invstd = 1.0 / std::sqrt(variance.data_ptr<float>()[c] + eps);
    const double dbeta = sum[c], dgamma = invstd * (sum[channels + c] - m * sum[c]);
    const double outer = gamma.data_ptr<float>()[c] * invstd, on_value = -outer * invstd * dgamma / rows;
    result.on_gradient.data_ptr<float>()[c] = outer;
    result.on_value.data_ptr<float>()[c] = on_value;
    result.constant.data_ptr<float>()[c] = -outer * dbeta / rows - on_value * m;
    result.gamma.data_ptr<float>()[c] = dgamma;
    result.beta.data_ptr<float>()[c] = dbeta;
  }
  return result;
}

}  // namespace fused
