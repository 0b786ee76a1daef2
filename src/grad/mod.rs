//! Reverse-mode differentiation from ONNX to ONNX; optimisers as graphs.
