/** The page's side of the worker: asks, and gets promises. */

import { fromFailure, SpectraDermError } from "../errors.ts";
import type { Reply, Request } from "../messages.ts";
import type { Facts } from "../model.ts";
import type { Prediction } from "../prediction.ts";

export interface Seen {
  prediction: Prediction;
  preview: ImageBitmap;
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class Client {
  /** The model is loaded; rejects where it can't be. */
  readonly ready: Promise<Facts>;
  readonly #worker = new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  readonly #waiting = new Map<number, Waiting>();
  #count = 0;

  constructor() {
    this.ready = new Promise((resolve, reject) => {
      this.#worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
        if (data.kind === "ready") resolve(data.facts);
        else if (data.kind === "broken") reject(fromFailure(data.failure));
        else this.#settle(data);
      });
      this.#worker.addEventListener("error", (event) => {
        event.preventDefault();
        const error = new SpectraDermError("Error", "The page could not start", "Load it again in a current browser");
        reject(error);
        for (const waiting of this.#waiting.values()) waiting.reject(error);
      });
    });
    this.ready.catch(() => undefined);
  }

  /** What the model says of a photo's bytes, and the photo for the eye. */
  look(photo: ArrayBuffer): Promise<Seen> {
    return this.#ask("predict", photo) as Promise<Seen>;
  }

  /** The model's input for a photo's bytes. */
  pixels(photo: ArrayBuffer): Promise<Uint8Array> {
    return this.#ask("pixels", photo) as Promise<Uint8Array>;
  }

  #ask(task: Request["task"], photo: ArrayBuffer): Promise<unknown> {
    const id = this.#count++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, task, photo } satisfies Request);
    });
  }

  #settle(reply: Exclude<Reply, { kind: "ready" | "broken" }>): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.kind === "refused") waiting?.reject(fromFailure(reply.failure));
    else waiting?.resolve(reply.kind === "pixels" ? reply.pixels : reply);
  }
}
