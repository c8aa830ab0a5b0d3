/** The site's `model/` folder -> what the page needs to know, checked. */

import type { Calibration } from "./calibration.ts";
import { ModelFolderError } from "./errors.ts";
import type { Preprocessing } from "./preprocessing.ts";

export interface Condition {
  name: string;
  lines: string[];
  urgent: string;
  links: [string, string][];
}

/** The words that all of SpectraDerm's pages share. */
export interface Words {
  notice: string;
  doctor: { title: string; now: string; soon: string };
  verdicts: Record<string, { title: string; means: string }>;
  set: string;
  in_training: string;
  heatmap: string;
  page: Record<
    "about" | "no_answer" | "opacity" | "probabilities" | "probabilities_mean" | "refused" | "set" | "waiting",
    string
  >;
}

/** `model.json`. */
export interface Facts {
  model_id: string;
  labels: string[];
  display_names: Record<string, string>;
  conditions: Record<string, Condition | null>;
  calibration: Calibration;
  preprocessing: Preprocessing;
  words: Words;
  /** Names of painted photos to try. */
  paintings: string[];
  sha256: Record<string, string>;
}

/** Features of training photos, one after the other, and hashes of all training photos, 8 bytes each. */
export interface Learned {
  references: Float32Array;
  known: Uint8Array;
}

export async function readFacts(folder: URL): Promise<Facts> {
  return JSON.parse(new TextDecoder().decode(await download(new URL("model.json", folder)))) as Facts;
}

export async function readLearned(folder: URL, facts: Facts): Promise<Learned> {
  const [references, known] = await Promise.all([
    readFile(folder, "references.bin", facts),
    readFile(folder, "training_photos.bin", facts),
  ]);
  return { references: halves(references), known };
}

/** A file of the folder. Throws `ModelFolderError` where it can't be had or its SHA-256 is another. */
export async function readFile(folder: URL, name: string, facts: Facts): Promise<Uint8Array<ArrayBuffer>> {
  const data = await download(new URL(name, folder));
  const expected = facts.sha256[name];
  if (globalThis.crypto?.subtle && (await sha256(data)) !== expected) {
    throw new ModelFolderError(`${name} was altered: its SHA-256 is not the one in model.json`);
  }
  return data;
}

async function download(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url).catch(() => null);
  if (response?.ok) return new Uint8Array(await response.arrayBuffer());
  const name = url.pathname.split("/").pop();
  throw new ModelFolderError(`${name} can't be loaded`, "Check the connection and load the page again");
}

async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** 16-bit floating point numbers, little endian, as 32-bit ones. */
function halves(data: Uint8Array<ArrayBuffer>): Float32Array {
  const values = Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
  return Float32Array.from(new Uint16Array(data.buffer), (bits) => values[bits]);
}

function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  return (bits >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}
