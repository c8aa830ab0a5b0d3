/** What the page and its worker say to each other. */

import type { Failure } from "./errors.ts";
import type { Facts } from "./model.ts";
import type { Prediction } from "./prediction.ts";

export interface Request {
  id: number;
  task: "predict" | "pixels";
  photo: ArrayBuffer;
}

export type Reply =
  | { kind: "ready"; facts: Facts }
  | { kind: "broken"; failure: Failure }
  | { kind: "prediction"; id: number; prediction: Prediction; preview: ImageBitmap }
  | { kind: "pixels"; id: number; pixels: Uint8Array }
  | { kind: "refused"; id: number; failure: Failure };
