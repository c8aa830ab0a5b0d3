/** Logits and features -> probabilities, prediction sets, novelty, verdicts, as Python's `calibration.py`. */

export type Verdict = "predicted" | "unsure" | "out_of_scope" | "unusable_photo";

/** The settings of a model that turn its logits into a verdict; Python's `Calibration` says what each is. */
export interface Calibration {
  temperature: number;
  coverage: number;
  set_method: "lac" | "raps";
  thresholds: number[];
  sure_at: number;
  promised_accuracy: number;
  novelty_threshold: number;
}

export interface Judgement {
  probabilities: number[];
  /** For each class, whether it fits. */
  fits: boolean[];
  verdict: Verdict;
}

const UNIT = 2 ** 24;
const RAPS_PENALTY = 0.1;
const RAPS_FREE_RANKS = 1;

export function judge(settings: Calibration, logits: ArrayLike<number>, strange: number): Judgement {
  const probabilities = softmax(logits, settings.temperature);
  const fits = predictionSet(probabilities, settings);
  const unsure = Math.max(...probabilities) < settings.sure_at || fits.filter(Boolean).length > 1;
  const verdict = strange > settings.novelty_threshold ? "out_of_scope" : unsure ? "unsure" : "predicted";
  return { probabilities, fits, verdict };
}

/** Probabilities of logits divided by a temperature (Guo et al. 2017). */
export function softmax(logits: ArrayLike<number>, temperature: number): number[] {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const largest = Math.max(...scaled);
  const shifted = scaled.map((logit) => Math.exp(logit - largest));
  const sum = shifted.reduce((total, one) => total + one, 0);
  return shifted.map((one) => one / sum);
}

/** The numbers of the classes, most probable first; of equals, the first. */
export function ranking(probabilities: number[]): number[] {
  return probabilities.map((_, number) => number).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
}

/** How unlike the training photos: cosine distance of the features to the nearest, 0 to 2 (Sun et al. 2022). */
export function novelty(features: Float32Array, references: Float32Array): number {
  const channels = features.length;
  const own = unit(features, 0, channels);
  let nearest = -1;
  for (let start = 0; start < references.length; start += channels) {
    const known = unit(references, start, channels);
    let product = 0;
    for (let at = 0; at < channels; at++) product += own[at] * known[at];
    nearest = Math.max(nearest, product / UNIT ** 2);
  }
  return Math.max(1 - nearest, 0);
}

function predictionSet(probabilities: number[], settings: Calibration): boolean[] {
  const best = ranking(probabilities)[0];
  const strange = strangeness(probabilities, settings.set_method);
  return strange.map((value, number) => value <= settings.thresholds[number] || number === best);
}

/** The nonconformity score of split conformal sets: LAC (Sadinle et al. 2019) or RAPS (Angelopoulos et al. 2021). */
function strangeness(probabilities: number[], method: "lac" | "raps"): number[] {
  if (method === "lac") return probabilities.map((probability) => 1 - probability);
  const result = new Array<number>(probabilities.length);
  let falling = 0;
  ranking(probabilities).forEach((number, rank) => {
    falling += probabilities[number];
    result[number] = falling + RAPS_PENALTY * Math.max(0, rank + 1 - RAPS_FREE_RANKS);
  });
  return result;
}

/** Features brought to length one, in whole units of 2^-24, whose products add up exactly, as in Python. */
function unit(values: Float32Array, start: number, count: number): Float64Array {
  let sum = 0;
  for (let at = start; at < start + count; at++) sum += values[at] * values[at];
  const length = Math.max(Math.sqrt(sum), 1e-12);
  return Float64Array.from(values.subarray(start, start + count), (value) => Math.round((UNIT * value) / length));
}
