"""Put trained portrait-matting networks on phones: verified TFLite, ncnn and ONNX artifacts."""

__version__ = "0.1.0"
