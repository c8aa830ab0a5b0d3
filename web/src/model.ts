/** What the page knows of a model, what a model says of a photo, and what goes wrong, worded as in Python. */

import type { Calibrations, Place, Verdict } from "./verdict.ts";
import type { Preprocessing } from "./preprocessing.ts";

/** What all of SpectraDerm's doors say: a word that lacks there doesn't compile. */
type Words = typeof import("../../src/spectraderm/serving/words.json");
export type Condition = Words["conditions"][number];

/** `model.json`. */
export interface Facts {
  engine: "server" | "browser";
  max_bytes: number;
  model_id: string;
  labels: string[];
  display_names: Record<string, string>;
  conditions: Record<string, Condition | null>;
  preprocessing: Preprocessing;
  words: Omit<Words, "conditions">;
  /** By `calibrated_on`, what a verdict rests on, in words. */
  judged: Record<Place, string>;
  /** Names of painted photos to try. */
  paintings: string[];
}

/** The same, where the model runs in the browser. */
export interface ModelFacts extends Facts {
  calibration: Calibrations;
  sha256: Record<string, string>;
  /** Of all that a first visit loads before the model answers. */
  bytes: number;
}

/** What a model says of one photo: the fields, names and meanings of Python's `Prediction`. */
export interface Prediction {
  verdict: Verdict;
  reason: string;
  label: string | null;
  display_name: string;
  probability: number | null;
  probabilities: Record<string, number>;
  prediction_set: string[];
  coverage: number;
  calibrated_on: Place;
  novelty: number | null;
  in_training: boolean;
  heatmap: number[][];
  model_id: string;
}

/** The cache in which a first visit leaves what it loaded, for the service worker: it would load it again. */
export const ARRIVED = "spectraderm-arrived";

/** The name of a file in that cache. */
export function arrivedAs(url: string, sha256: string): string {
  return `${url}?${sha256}`;
}

/** Fetch a file; `arrived` hears of each piece's bytes. Throws `ModelFolderError` where it can't be had whole. */
export async function download(url: URL, arrived: (bytes: number) => void = () => undefined): Promise<Uint8Array<ArrayBuffer>> {
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, rest) {
      arrived(piece.length);
      rest.enqueue(piece);
    },
  });
  const response = await fetch(url).catch(() => null);
  const counted = response?.ok && response.body ? new Response(response.body.pipeThrough(counter)) : null;
  const data = await counted?.arrayBuffer().catch(() => null);
  if (data) return new Uint8Array(data);
  throw unusableModel(`${url.pathname.split("/").pop()} can't be loaded`, "Check the connection and load the page again");
}

/** An expected failure. Its message is the problem and, where there is one, the remedy. */
export class SpectraDermError extends Error {
  readonly problem: string;
  readonly remedy: string;

  constructor(name: string, problem: string, remedy = "") {
    super(remedy ? `${problem}. ${remedy}` : problem);
    this.name = name;
    this.problem = problem;
    this.remedy = remedy;
  }
}

/** These bytes are not a photo that can be decoded safely here. */
export function unreadable(problem: string, remedy = ""): SpectraDermError {
  return new SpectraDermError("UnreadablePhoto", `photo: ${problem}`, remedy);
}

export function damaged(): SpectraDermError {
  return unreadable("damaged or incomplete", "Save or download it again");
}

/** The site's model is incomplete or altered. */
export function unusableModel(problem: string, remedy = "Load the page again"): SpectraDermError {
  return new SpectraDermError("ModelFolderError", problem, remedy);
}
