/** The site's model, loaded -> a `Prediction` for a photo, as Python's `inference/classifier.py`. ONNX Runtime's door. */

import type * as ort from "onnxruntime-web/wasm";
import { MAX_DISTANCE, nearestHash, turnedHashes } from "./hashing.ts";
import { ARRIVED, arrivedAs, download, type ModelFacts, type Prediction, unusableModel } from "./model.ts";
import { normalised, type Preprocessing, preprocess } from "./preprocessing.ts";
import { measure, whyUnusable } from "./quality.ts";
import type { Pixels } from "./resize.ts";
import { choose, judge, novelty, OTHER, ranking, reason } from "./verdict.ts";

export type Classifier = (photo: Pixels) => Promise<Prediction>;
/** Takes the model's input; gives logits, features and, for each class, maps: how much each place counts. */
type Network = (pixels: Uint8Array) => Promise<Record<"logits" | "features" | "maps", ort.Tensor>>;

const THREADS = 4;

/** Hears of bytes. */
type Arrived = (bytes: number) => void;
const WASM = "ort-wasm-simd-threaded.wasm";

/** Load the model of the site at `site`. Throws `ModelFolderError` where it is incomplete or altered. */
export async function loadClassifier(facts: ModelFacts, site: URL, arrived: Arrived): Promise<Classifier> {
  const { calibration, display_names, labels, model_id, preprocessing } = facts;
  const known = labels.filter((label) => label !== OTHER);
  const read = (name: string, folder = "model") => readFile(new URL(`${folder}/${name}`, site), facts.sha256[name], arrived);
  const [network, references, hashes] = await Promise.all([
    loadNetwork(read("model.onnx"), read(WASM, "runtime"), new URL("runtime/", site), preprocessing),
    read("references.bin").then(halves), // features of training photos, one after the other
    read("training_photos.bin"), // hashes, 8 bytes each
  ]);
  return async (photo) => {
    const unusable: Prediction = {
      verdict: "unusable_photo",
      reason: whyUnusable(measure(photo), photo.width, photo.height) ?? "",
      label: null,
      display_name: "",
      probability: null,
      probabilities: {},
      prediction_set: [],
      coverage: choose(calibration, false)[1].coverage,
      calibrated_on: choose(calibration, false)[0],
      novelty: null,
      in_training: false,
      heatmap: [],
      model_id,
    };
    if (unusable.reason) return unusable;
    const { logits, features, maps } = await network(preprocess(photo, preprocessing));
    const distance = novelty(floats(features), references);
    const in_training = nearestHash(turnedHashes(photo), hashes) <= MAX_DISTANCE;
    const [calibrated_on, settings] = choose(calibration, in_training);
    const { probabilities, fits, verdict } = judge(settings, floats(logits), distance, labels.indexOf(OTHER));
    const order = ranking(probabilities);
    const [label, probability] = [labels[order[0]], probabilities[order[0]]];
    const prediction_set = order.filter((number) => fits[number]).map((number) => labels[number]);
    const named = prediction_set.map((one): [string, number] => [display_names[one], probabilities[labels.indexOf(one)]]);
    return {
      ...unusable,
      verdict,
      reason: reason(verdict, named, settings, known.length, !calibration.elsewhere, label === OTHER),
      label,
      display_name: display_names[label],
      probability,
      probabilities: Object.fromEntries(order.map((number) => [labels[number], probabilities[number]])),
      prediction_set,
      coverage: settings.coverage,
      calibrated_on,
      novelty: distance,
      in_training,
      heatmap: heatmap(maps, order[0]),
    };
  };
}

async function loadNetwork(
  model: Promise<Uint8Array>,
  wasm: Promise<Uint8Array<ArrayBuffer>>,
  runtime: URL,
  settings: Preprocessing,
): Promise<Network> {
  const { env, InferenceSession, Tensor } = (await import(new URL("ort.wasm.min.mjs", runtime).href)) as typeof ort;
  env.wasm.wasmPaths = runtime.href;
  env.wasm.wasmBinary = (await wasm).buffer;
  env.wasm.numThreads = self.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency) : 1;
  void InferenceSession.create(new Uint8Array()).catch(() => null); // starts the runtime while the model comes
  const bytes = await model;
  const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"] }).catch((error) => {
    throw unusableModel(`model.onnx can't be loaded (${error instanceof Error ? error.message : error})`);
  });
  const { size } = settings;
  const network: Network = async (pixels) => {
    const pixel_values = new Tensor("float32", normalised(pixels, settings), [1, 3, size, size]);
    return (await session.run({ pixel_values })) as Awaited<ReturnType<Network>>;
  };
  await network(new Uint8Array(3 * size ** 2)); // a browser makes the code quick only while it runs
  return network;
}

function floats(tensor: ort.Tensor): Float32Array {
  const values = tensor.data as Float32Array;
  if (values.every(Number.isFinite)) return values;
  throw unusableModel("The model answers with what is no number");
}

function heatmap(maps: ort.Tensor, label: number): number[][] {
  const [, , rows, columns] = maps.dims;
  const evidence = floats(maps).subarray(label * rows * columns, (label + 1) * rows * columns);
  const peak = Math.max(...evidence, 0) || 1;
  const shares = Array.from(evidence, (value) => Math.round((Math.max(value, 0) / peak) * 1e4) / 1e4);
  return Array.from({ length: rows }, (_, row) => shares.slice(row * columns, (row + 1) * columns));
}

/** A file of the model. Throws `ModelFolderError` where it can't be had or its SHA-256 is another. */
async function readFile(url: URL, expected: string, arrived: Arrived): Promise<Uint8Array<ArrayBuffer>> {
  const data = await download(url, arrived);
  if (!globalThis.crypto?.subtle) return data; // not on https
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === expected) {
    const cache = await self.caches?.open(ARRIVED).catch(() => null);
    await cache?.put(arrivedAs(url.href, expected), new Response(data)).catch(() => undefined); // where there is room
    return data;
  }
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
