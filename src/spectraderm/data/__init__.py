"""From a folder of photos to a manifest, its findings, and a split that keeps photo groups together."""
