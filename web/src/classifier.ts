/** The site's model, loaded -> a `Prediction` for a photo, as Python's `inference/classifier.py`. */

import { unusableModel } from "./errors.ts";
import { MAX_DISTANCE, nearestHash, turnedHashes } from "./hashing.ts";
import { download, type ModelFacts, type Prediction } from "./model.ts";
import { loadNetwork, type Network, type Outputs } from "./network.ts";
import { preprocess } from "./preprocessing.ts";
import { measure, whyUnusable } from "./quality.ts";
import type { Pixels } from "./resize.ts";
import { judge, novelty, ranking, reason } from "./verdict.ts";

export class Classifier {
  readonly facts: ModelFacts;
  readonly #network: Network;
  /** Features of training photos, one after the other. */
  readonly #references: Float32Array;
  /** Hashes of all training photos, 8 bytes each. */
  readonly #hashes: Uint8Array;

  private constructor(facts: ModelFacts, network: Network, references: Float32Array, hashes: Uint8Array) {
    this.facts = facts;
    this.#network = network;
    this.#references = references;
    this.#hashes = hashes;
  }

  /** Load the model of the site at `site`. Throws `ModelFolderError` where it is incomplete or altered. */
  static async load(facts: ModelFacts, site: URL): Promise<Classifier> {
    const read = (name: string) => readFile(new URL(`model/${name}`, site), facts.sha256[name]);
    const [network, references, hashes] = await Promise.all([
      loadNetwork(read("model.onnx"), new URL("runtime/", site), facts.preprocessing.size),
      read("references.bin"),
      read("training_photos.bin"),
    ]);
    return new Classifier(facts, network, halves(references), hashes);
  }

  /** Run once for nothing: a browser makes the model's code quick only while it runs. */
  async warmUp(): Promise<void> {
    await this.#network(new Uint8Array(3 * this.facts.preprocessing.size ** 2));
  }

  async predict(photo: Pixels): Promise<Prediction> {
    const { calibration, display_names, labels, model_id } = this.facts;
    const unknown: Prediction = {
      verdict: "unusable_photo",
      reason: "",
      label: null,
      display_name: "",
      probability: null,
      probabilities: {},
      prediction_set: [],
      coverage: calibration.coverage,
      novelty: null,
      in_training: false,
      heatmap: [],
      model_id,
    };
    const why = whyUnusable(measure(photo), photo.width, photo.height);
    if (why !== null) return { ...unknown, reason: why };
    const outputs = await this.#network(preprocess(photo, this.facts.preprocessing));
    const distance = novelty(outputs.features, this.#references);
    const { probabilities, fits, verdict } = judge(calibration, outputs.logits, distance);
    const order = ranking(probabilities);
    const [label, probability] = [labels[order[0]], probabilities[order[0]]];
    const prediction_set = order.filter((number) => fits[number]).map((number) => labels[number]);
    const names = prediction_set.map((one) => display_names[one]);
    return {
      ...unknown,
      verdict,
      reason: reason(verdict, names, probability, calibration, labels.length),
      label,
      display_name: display_names[label],
      probability,
      probabilities: Object.fromEntries(order.map((number) => [labels[number], probabilities[number]])),
      prediction_set,
      novelty: distance,
      in_training: nearestHash(turnedHashes(photo), this.#hashes) <= MAX_DISTANCE,
      heatmap: heatmap(outputs, order[0]),
    };
  }
}

function heatmap({ maps, rows, columns }: Outputs, label: number): number[][] {
  const evidence = maps.subarray(label * rows * columns, (label + 1) * rows * columns);
  const peak = Math.max(...evidence, 0) || 1;
  const shares = Array.from(evidence, (value) => Math.round((Math.max(value, 0) / peak) * 1e4) / 1e4);
  return Array.from({ length: rows }, (_, row) => shares.slice(row * columns, (row + 1) * columns));
}

/** A file of the model. Throws `ModelFolderError` where it can't be had or its SHA-256 is another. */
async function readFile(url: URL, expected: string): Promise<Uint8Array<ArrayBuffer>> {
  const data = await download(url);
  if (!globalThis.crypto?.subtle) return data; // not on https
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === expected) return data;
  throw unusableModel(`${url.pathname.split("/").pop()} was altered: its SHA-256 is not the one in model.json`);
}

/** 16-bit floating point numbers, little endian, as 32-bit ones. */
function halves(data: Uint8Array<ArrayBuffer>): Float32Array {
  const values = Float32Array.from({ length: 65536 }, (_, bits) => {
    const [exponent, fraction] = [(bits >> 10) & 31, (bits & 1023) / 1024];
    return (bits >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  });
  return Float32Array.from(new Uint16Array(data.buffer), (bits) => values[bits]);
}
