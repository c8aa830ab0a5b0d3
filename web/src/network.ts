/** The exported network and a photo's pixels -> logits, features and maps. ONNX Runtime's door. */

import type * as ort from "onnxruntime-web/wasm";
import { unusableModel } from "./errors.ts";

const THREADS = 4;

export interface Outputs {
  logits: Float32Array;
  features: Float32Array;
  /** For each class `rows` x `columns` numbers: how much each place counts. */
  maps: Float32Array;
  rows: number;
  columns: number;
}

/** Takes `size` x `size` pixels, red, green, blue. */
export type Network = (pixels: Uint8Array) => Promise<Outputs>;

/** Fetch the runtime and the model. Throws `ModelFolderError` where they can't be loaded. */
export async function loadNetwork(model: Promise<Uint8Array>, runtime: URL, size: number): Promise<Network> {
  const { env, InferenceSession, Tensor } = (await import(new URL("ort.wasm.min.mjs", runtime).href)) as typeof ort;
  env.wasm.wasmPaths = runtime.href;
  env.wasm.numThreads = self.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency) : 1;
  void InferenceSession.create(new Uint8Array()).catch(() => null); // starts the runtime while the model comes
  const bytes = await model;
  const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"] }).catch((error) => {
    throw unusableModel(`model.onnx can't be loaded (${error instanceof Error ? error.message : error})`);
  });
  return async (pixels) => {
    const { logits, features, maps } = await session.run({ pixels: new Tensor("uint8", pixels, [1, size, size, 3]) });
    const [, , rows, columns] = maps.dims;
    return { logits: floats(logits), features: floats(features), maps: floats(maps), rows, columns };
  };
}

function floats(tensor: ort.Tensor): Float32Array {
  const values = tensor.data as Float32Array;
  if (values.every(Number.isFinite)) return values;
  throw unusableModel("The model answers with what is no number");
}
