"""From a split to a checkpoint and an exported model. The only folder that imports torch."""
