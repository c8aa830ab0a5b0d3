/** The exported model and a photo's pixels -> logits, features and maps. ONNX Runtime's door. */

import * as ort from "onnxruntime-web/wasm";
import { ModelFolderError } from "./errors.ts";

const THREADS = 4;

export interface Answer {
  logits: Float32Array;
  features: Float32Array;
  /** For each class `rows` x `columns` numbers: how much each place counts. */
  maps: Float32Array;
  rows: number;
  columns: number;
}

export class Engine {
  readonly #session: ort.InferenceSession;
  readonly #size: number;

  private constructor(session: ort.InferenceSession, size: number) {
    this.#session = session;
    this.#size = size;
  }

  /** Fetch the runtime and the model. Throws `ModelFolderError` where they can't be loaded. */
  static async load(model: Promise<Uint8Array>, runtime: URL, size: number): Promise<Engine> {
    ort.env.wasm.wasmPaths = runtime.href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency) : 1;
    void ort.InferenceSession.create(new Uint8Array()).catch(() => null); // starts the runtime while the model comes
    const bytes = await model;
    try {
      return new Engine(await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }), size);
    } catch (error) {
      throw new ModelFolderError(`model.onnx can't be loaded (${error instanceof Error ? error.message : error})`);
    }
  }

  /** Answer for `size` x `size` pixels, red, green, blue. */
  async answer(pixels: Uint8Array): Promise<Answer> {
    const input = new ort.Tensor("uint8", pixels, [1, this.#size, this.#size, 3]);
    const { logits, features, maps } = await this.#session.run({ pixels: input });
    const [, , rows, columns] = maps.dims;
    return { logits: floats(logits), features: floats(features), maps: floats(maps), rows, columns };
  }
}

function floats(tensor: ort.Tensor): Float32Array {
  const values = tensor.data as Float32Array;
  if (values.every(Number.isFinite)) return values;
  throw new ModelFolderError("The model answers with what is no number");
}
