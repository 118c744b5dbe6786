"""From finished runs to a bundle of ONNX files that were compared with Keras."""
