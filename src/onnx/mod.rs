//! An ONNX graph in memory: read, check, infer shapes, edit, build, write.
