"""From a model folder and a photo to a `Prediction`, by one chain. Never torch."""
