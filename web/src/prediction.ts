/** What a model says of one photo: the fields, names and meanings of Python's `Prediction`. */

import type { Verdict } from "./calibration.ts";

export interface Prediction {
  verdict: Verdict;
  reason: string;
  label: string | null;
  display_name: string;
  probability: number | null;
  probabilities: Record<string, number>;
  prediction_set: string[];
  coverage: number;
  novelty: number | null;
  in_training: boolean;
  heatmap: number[][];
  model_id: string;
}

/** Of a photo that no model was asked about. */
export function unusable(reason: string, coverage: number, model_id: string): Prediction {
  return {
    verdict: "unusable_photo",
    reason,
    label: null,
    display_name: "",
    probability: null,
    probabilities: {},
    prediction_set: [],
    coverage,
    novelty: null,
    in_training: false,
    heatmap: [],
    model_id,
  };
}
