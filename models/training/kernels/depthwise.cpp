// Depthwise 3x3 convolution + batch norm + clamp, forward and backward; see normalization.h.

#include <cstring>

#include "kernels.h"
#include "normalization.h"

using namespace fused;

namespace {

template <int Width>
struct Lane {
  typedef float type __attribute__((vector_size(Width * 4), aligned(4), may_alias));
};

// One block of Width channels of one picture of a depthwise 3x3 convolution.
struct Block {
  int64_t height, width, channels, first;  // of the input map; first channel of the block
  int64_t dilation, stride, before, after;
  int64_t padded_height() const { return height + before + after; }
  int64_t padded_width() const { return width + before + after; }
  int64_t out_height() const { return height / stride; }
  int64_t out_width() const { return width / stride; }
};

Block make_block(const Tensor& x, int64_t first, int64_t dilation, int64_t stride) {
  // stride 1: symmetric; stride 2: TensorFlow's SAME on an even size, one row and column after
  const int64_t before = stride == 1 ? dilation : 0, after = stride == 1 ? dilation : 1;
  return Block{x.size(1), x.size(2), x.size(3), first, dilation, stride, before, after};
}

constexpr int64_t kAhead = 24;  // positions: one block's channels lie scattered, which the hardware does not foresee

// The block's channels of the picture x, framed with zeros, channel-last.
template <int Width>
void pad_block(const Block& k, const float* x, std::vector<float>& padded) {
  using V = typename Lane<Width>::type;
  const int64_t line = k.padded_width();
  padded.assign(k.padded_height() * line * Width, 0.0f);
  for (int64_t i = 0; i < k.height; ++i)
    for (int64_t j = 0; j < k.width; ++j) {
      const float* from = x + (i * k.width + j) * k.channels + k.first;
      __builtin_prefetch(from + kAhead * k.channels);
      *(V*)&padded[((i + k.before) * line + j + k.before) * Width] = *(const V*)from;
    }
}

template <int Width>
void convolve_block(const Block& k, const float* x, const float* weight, float* y, std::vector<float>& padded,
                    double* sum) {
  using V = typename Lane<Width>::type;
  const int64_t line = k.padded_width();
  pad_block<Width>(k, x, padded);
  V w[9];
  for (int tap = 0; tap < 9; ++tap) w[tap] = *(const V*)(weight + tap * k.channels + k.first);
  for (int64_t i = 0; i < k.out_height(); ++i) {
    V plain = {}, squared = {};
    for (int64_t j = 0; j < k.out_width(); ++j) {
      V value = {};
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b)
          value += w[a * 3 + b] * *(const V*)&padded[((i * k.stride + a * k.dilation) * line + j * k.stride +
                                                      b * k.dilation) * Width];
      *(V*)(y + (i * k.out_width() + j) * k.channels + k.first) = value;
      plain += value;
      squared += value * value;
    }
    for (int c = 0; c < Width; ++c) {
      sum[k.first + c] += plain[c];
      sum[k.channels + k.first + c] += squared[c];
    }
  }
}

template <int Width>
void convolve_block_backward(const Block& k, const float* dz, const float* x, const float* y, const float* weight,
                             const Normalization& norm, const Backward& back, float* dx, float* dweight,
                             std::vector<float>& padded, std::vector<float>& gradient) {
  using V = typename Lane<Width>::type;
  const int64_t line = k.padded_width(), rows = k.out_height(), columns = k.out_width();
  pad_block<Width>(k, x, padded);
  const float low = norm.low, high = norm.high;
  const V s = *(const V*)(norm.scale.data_ptr<float>() + k.first);
  const V t = *(const V*)(norm.shift.data_ptr<float>() + k.first);
  const V a = *(const V*)(back.on_gradient.data_ptr<float>() + k.first);
  const V b = *(const V*)(back.on_value.data_ptr<float>() + k.first);
  const V constant = *(const V*)(back.constant.data_ptr<float>() + k.first);
  // dy, with the same frame of zeros as the padded input where the stride is 1
  const int64_t frame = k.stride == 1 ? k.dilation : 0, wide = columns + 2 * frame;
  gradient.assign((rows + 2 * frame) * wide * Width, 0.0f);
  V sum[9] = {};
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = (i * columns + j) * k.channels + k.first;
      __builtin_prefetch(y + at + kAhead * k.channels);
      __builtin_prefetch(dz + at + kAhead * k.channels);
      const V value = *(const V*)(y + at), v = value * s + t, g = *(const V*)(dz + at) * a;
      const V kept = (v > low) & (v < high) ? g : V{};
      const V dy = kept + value * b + constant;
      *(V*)&gradient[((i + frame) * wide + j + frame) * Width] = dy;
      for (int p = 0; p < 3; ++p)
        for (int q = 0; q < 3; ++q)
          sum[p * 3 + q] += dy * *(const V*)&padded[((i * k.stride + p * k.dilation) * line + j * k.stride +
                                                     q * k.dilation) * Width];
    }
  V w[9];
  for (int tap = 0; tap < 9; ++tap) {
    w[tap] = *(const V*)(weight + tap * k.channels + k.first);
    *(V*)(dweight + tap * k.channels + k.first) += sum[tap];
  }
  if (k.stride == 1) {
    for (int64_t i = 0; i < k.height; ++i)
      for (int64_t j = 0; j < k.width; ++j) {
        V value = {};
        for (int p = 0; p < 3; ++p)
          for (int q = 0; q < 3; ++q)
            value += w[p * 3 + q] * *(const V*)&gradient[((i + (2 - p) * k.dilation) * wide + j +
                                                          (2 - q) * k.dilation) * Width];
        *(V*)(dx + (i * k.width + j) * k.channels + k.first) = value;
      }
    return;
  }
  std::fill(padded.begin(), padded.end(), 0.0f);  // from here on: the gradient of the padded input
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const V dy = *(const V*)&gradient[(i * columns + j) * Width];
      for (int p = 0; p < 3; ++p)
        for (int q = 0; q < 3; ++q)
          *(V*)&padded[((i * k.stride + p) * line + j * k.stride + q) * Width] += dy * w[p * 3 + q];
    }
  for (int64_t i = 0; i < k.height; ++i)
    for (int64_t j = 0; j < k.width; ++j)
      std::memcpy(dx + (i * k.width + j) * k.channels + k.first, &padded[(i * line + j) * Width], Width * 4);
}

// Calls work(first channel, dilation, whether the block is 16 wide) for every block of channels.
template <typename Work>
void for_each_block(const std::vector<int64_t>& dilations, const Work& work) {
  const int64_t eights = dilations.size();
  for (int64_t e = 0; e < eights;) {
    const bool twice = e + 1 < eights && dilations[e] == dilations[e + 1];
    work(e * 8, dilations[e], twice);
    e += twice ? 2 : 1;
  }
}

}  // namespace

// x N x H x W x C, weight 9 x C, a dilation for every 8 channels -> y, z and the batch's mean and variance.
std::vector<Tensor> depthwise_forward(const Tensor& x, const Tensor& weight, std::vector<int64_t> dilations,
                                      int64_t stride, const Tensor& gamma, const Tensor& beta, double eps, double low,
                                      double high) {
  const int64_t pictures = x.size(0), channels = x.size(3);
  TORCH_CHECK(int64_t(dilations.size()) * 8 == channels, "channels must be a multiple of 8, a dilation for every 8");
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat, "the map must be contiguous float32");
  Tensor y = at::empty({pictures, x.size(1) / stride, x.size(2) / stride, channels}, x.options());
  Tensor z = at::empty_like(y);
  const int64_t in = x.numel() / pictures, out = y.numel() / pictures;
  auto partial = moments_per_thread(channels);
  at::parallel_for(0, pictures, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> padded;
    double* sum = partial[at::get_thread_num()].data();
    const float *from = x.data_ptr<float>(), *w = weight.data_ptr<float>();
    for (int64_t n = begin; n < end; ++n)
      for_each_block(dilations, [&](int64_t first, int64_t dilation, bool twice) {
        const Block block = make_block(x, first, dilation, stride);
        float* to = y.data_ptr<float>() + n * out;
        if (twice)
          convolve_block<16>(block, from + n * in, w, to, padded, sum);
        else
          convolve_block<8>(block, from + n * in, w, to, padded, sum);
      });
  });
  auto [mean, variance, norm] =
      normalize_by(total(partial, 2 * channels), y.numel() / channels, gamma, beta, eps, low, high);
  clamp_rows(y, z, norm);
  return {y, z, mean, variance};
}

// -> dx, dweight 9 x C, dgamma, dbeta.
std::vector<Tensor> depthwise_backward(const Tensor& dz, const Tensor& x, const Tensor& y, const Tensor& weight,
                                       std::vector<int64_t> dilations, int64_t stride, const Tensor& gamma,
                                       const Tensor& beta, const Tensor& mean, const Tensor& variance, double eps,
                                       double low, double high) {
  const int64_t pictures = x.size(0), in = x.numel() / pictures, out = y.numel() / pictures;
  const Tensor scale = gamma * (variance + eps).rsqrt();
  const Normalization norm{scale, beta - mean * scale, float(low), float(high)};
  const Backward back = differentiate(dz, y, gamma, mean, variance, eps, norm);
  Tensor dx = at::empty_like(x);
  std::vector<Tensor> dweight(at::get_num_threads());
  for (auto& one : dweight) one = at::zeros_like(weight);
  at::parallel_for(0, pictures, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> padded, gradient;
    float* mine = dweight[at::get_thread_num()].data_ptr<float>();
    const float *g = dz.data_ptr<float>(), *from = x.data_ptr<float>(), *v = y.data_ptr<float>();
    for (int64_t n = begin; n < end; ++n)
      for_each_block(dilations, [&](int64_t first, int64_t dilation, bool twice) {
        const Block block = make_block(x, first, dilation, stride);
        float* to = dx.data_ptr<float>() + n * in;
        const auto run = twice ? convolve_block_backward<16> : convolve_block_backward<8>;
        run(block, g + n * out, from + n * in, v + n * out, weight.data_ptr<float>(), norm, back, to, mine, padded,
            gradient);
      });
  });
  Tensor sum = dweight[0];
  for (size_t i = 1; i < dweight.size(); ++i) sum.add_(dweight[i]);
  return {dx, sum, back.gamma, back.beta};
}
