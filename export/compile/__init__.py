"""ONNX → engine, one file a backend, named as in runtime/engines."""
