/** Why a verdict is what it is, in the same sentences as Python's `serving/reasons.py`. */

import type { Calibration, Verdict } from "./calibration.ts";

const NAMED = 3;

/**
 * One sentence.
 *
 * @param fitting The prediction set, in names for people, most probable first.
 * @param probability Of the first.
 * @param classes How many conditions the model knows.
 */
export function reason(
  verdict: Verdict,
  fitting: string[],
  probability: number,
  own: Calibration,
  classes: number,
): string {
  if (verdict === "out_of_scope") {
    const none = `none of the ${classes} conditions it knows`;
    return `Unlike the photos the model learned from: another kind of photo, ${none}, or no skin at all.`;
  }
  const promised = `${general(100 * own.promised_accuracy)} of 100 such answers`;
  if (verdict === "predicted") return `Of photos like those the model learned from, at least ${promised} are right.`;
  if (fitting.length > 1) return `It could be ${either(fitting, classes)}: the model can't tell which.`;
  if (own.sure_at > 1) {
    return `No probability was ever high enough for ${promised} to be right, so this model is never sure.`;
  }
  const below = (Math.floor(1000 * probability) / 10).toFixed(1);
  const needed = (Math.ceil(1000 * own.sure_at) / 10).toFixed(1);
  return `${fitting[0]} fits best, but ${below} % is below the ${needed} % from which ${promised} are right.`;
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

function either(names: string[], classes: number): string {
  if (names.length === classes && classes > 2) return `any of the ${classes} conditions it knows`;
  const named = names.length > NAMED + 1 ? [...names.slice(0, NAMED), `${names.length - NAMED} others`] : names;
  return `${named.slice(0, -1).join(", ")} or ${named[named.length - 1]}`;
}
