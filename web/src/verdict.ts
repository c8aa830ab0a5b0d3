/** Logits and features -> probabilities, prediction sets, novelty, verdicts and reasons, as Python's `inference`. */

/** The class of photos that show none of the others: never shown as a condition. */
export const OTHER = "other";

export type Verdict = "predicted" | "unsure" | "out_of_scope" | "unusable_photo";

/** The settings of a model that turn its logits into a verdict; Python's `Calibration` says what each is. */
export interface Calibration {
  temperature: number;
  coverage: number;
  set_method: "lac" | "raps";
  thresholds: number[];
  confidence_threshold: number;
  promised_accuracy: number | null;
  novelty_threshold: number;
  answered_others: number | null;
  places: number;
}

/** The settings of a model: for photos of the collection that it learned from, and, where set, for photos from elsewhere. */
export interface Calibrations {
  home: Calibration;
  elsewhere?: Calibration;
}
export type Place = keyof Calibrations;

/** The settings that judge a photo, as Python's `auto`: those of home where it is in training, or there are no others. */
export function choose(calibrations: Calibrations, inTraining: boolean): [Place, Calibration] {
  const { home, elsewhere } = calibrations;
  return inTraining || !elsewhere ? ["home", home] : ["elsewhere", elsewhere];
}

const UNIT = 2 ** 24;
const RAPS_PENALTY = 0.1;
const RAPS_FREE_RANKS = 1;
/** So many classes of a prediction set are named. */
export const NAMED = 3;

/**
 * Of a photo's logits and novelty: calibrated probabilities, which classes fit, and the verdict.
 *
 * @param other The number of the class `other`; -1 where there is none.
 */
export function judge(settings: Calibration, logits: ArrayLike<number>, novelty: number, other = -1) {
  const probabilities = softmax(logits, settings.temperature);
  const [best, second] = ranking(probabilities);
  const scores = nonconformityScores(probabilities, settings.set_method);
  const fits = scores.map((score, number) => score <= settings.thresholds[number] || number === best);
  const unsure = probabilities[best] < settings.confidence_threshold || fits.filter(Boolean).length > 1;
  const outside = novelty > settings.novelty_threshold || best === other;
  const verdict: Verdict = outside ? "out_of_scope" : unsure ? "unsure" : "predicted";
  if (verdict === "unsure" && second !== undefined) fits[second] = true; // never a set of one
  return { probabilities, fits, verdict };
}

/** Probabilities of logits divided by a temperature (Guo et al. 2017). */
function softmax(logits: ArrayLike<number>, temperature: number): number[] {
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

/** The nonconformity scores of split conformal sets: LAC (Sadinle et al. 2019) or RAPS (Angelopoulos et al. 2021). */
function nonconformityScores(probabilities: number[], method: "lac" | "raps"): number[] {
  if (method === "lac") return probabilities.map((probability) => 1 - probability);
  const result = new Array<number>(probabilities.length);
  let falling = 0;
  ranking(probabilities).forEach((number, rank) => {
    falling += probabilities[number];
    result[number] = falling + RAPS_PENALTY * Math.max(0, rank + 1 - RAPS_FREE_RANKS);
  });
  return result;
}

/** How unlike the training photos: cosine distance of the features to the nearest, 0 to 2 (Sun et al. 2022). */
export function novelty(features: Float32Array, references: Float32Array): number {
  const channels = features.length;
  const photo = unit(features, 0, channels);
  let nearest = -1;
  for (let start = 0; start < references.length; start += channels) {
    const reference = unit(references, start, channels);
    let product = 0;
    for (let at = 0; at < channels; at++) product += photo[at] * reference[at];
    nearest = Math.max(nearest, product / UNIT ** 2);
  }
  return Math.max(1 - nearest, 0);
}

/** Features brought to length one, in whole units of 2^-24, whose products add up exactly, as in Python. */
function unit(values: Float32Array, start: number, count: number): Float64Array {
  let sum = 0;
  for (let at = start; at < start + count; at++) sum += values[at] * values[at];
  const length = Math.max(Math.sqrt(sum), 1e-12);
  return Float64Array.from(values.subarray(start, start + count), (value) => Math.round((UNIT * value) / length));
}

/**
 * Why a verdict is what it is, in one sentence.
 *
 * @param likeliest The prediction set, most probable first: names for people, and probabilities.
 * @param settings What the verdict rests on.
 * @param classes How many conditions the model knows, `other` not among them.
 * @param onlyHome The model was never measured on photos from elsewhere.
 * @param noneOfThem The likeliest class is `other`.
 */
export function reason(
  verdict: Verdict,
  likeliest: [string, number][],
  settings: Calibration,
  classes: number,
  onlyHome: boolean,
  noneOfThem = false,
) {
  if (verdict === "out_of_scope" && noneOfThem)
    return `It looks most like the photos of none of the ${classes} conditions that the model was given as examples.`;
  if (verdict === "out_of_scope") {
    const none = `none of the ${classes} conditions it knows`;
    return `Unlike the photos the model learned from: another kind of photo, ${none}, or no skin at all.`;
  }
  if (verdict === "predicted") return `${promise(settings)}${onlyHome ? " (measured on its own collection only)" : ""}.`;
  const named = likeliest.slice(0, NAMED).map(([name, share]) => `${name} (${percent(share)})`);
  const others = named.length > 1 ? `, then ${named.slice(1).join(" or ")}` : "";
  return `Most likely ${named[0]}${others}: not sure enough to name one alone.`;
}

function promise({ promised_accuracy, answered_others, places }: Calibration): string {
  const right = `at least ${general(100 * (promised_accuracy ?? 0))} of 100 such answers`;
  if (!places) {
    const answered = answered_others === null ? "" : general(100 * answered_others);
    const most = answered && `, and at most ${answered} of 100 of its photos of none of them get one`;
    return `Of photos like those the model learned from, ${right} are right${most}`;
  }
  const where = places === 1 ? "a place" : `${places} places`;
  const others =
    answered_others === null
      ? "how often photos of other conditions get one was not measured"
      : `at most ${general(100 * answered_others)} of 100 photos of other conditions got one`;
  return `On photos from ${where} that it never saw in training, ${right} were right, and ${others}`;
}

/** A probability for people; what is not certain never reads as 100 % or 0 %. */
export function percent(share: number): string {
  if (share >= 0.995 && share < 1) return "over 99 %";
  return share > 0 && share < 0.005 ? "under 1 %" : `${(100 * share).toFixed(0)} %`;
}

/** A number to six digits, as Python's `:g`. */
export function general(value: number): string {
  return String(Number(value.toPrecision(6)));
}
