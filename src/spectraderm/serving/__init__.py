"""From a model folder and a photo to a prediction. onnxruntime, never torch."""
