"""One photo: from its bytes to upright pixels, model input, quality and hash. Knows nothing of data sets or models."""
