"""From the logits of a run to numbers with intervals, a report and a model card."""
