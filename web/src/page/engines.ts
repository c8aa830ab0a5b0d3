/** What answers for a photo: the model in this browser, or the server that handed out the page. */

import { shrink } from "../decoding.ts";
import { type Facts, type ModelFacts, type Prediction, SpectraDermError, unreadable } from "../model.ts";
import type { Reply, Task } from "../worker.ts";

/** Of a model that arrives, or a photo that is sent. */
export interface Bytes {
  done: number;
  total: number;
}
export type Progress = (bytes: Bytes) => void;

export interface Engine {
  /** The model is loaded; rejects where it can't be. */
  ready: Promise<void>;
  /** Rejects with an `AbortError` where `signal` says so before the answer comes. */
  predict(photo: Blob, sent?: Progress, signal?: AbortSignal): Promise<Prediction>;
  /** The model's input for a photo, as Python's `Classifier.pixels`. */
  pixels(photo: Blob): Promise<Uint8Array>;
}

const LONGEST = 2048; // of the sides of a photo that is sent

export function openEngine(facts: Facts, loaded: Progress): Engine {
  return facts.engine === "server" ? onServer(facts) : inBrowser(facts as ModelFacts, loaded);
}

function inBrowser(facts: ModelFacts, loaded: Progress): Engine {
  const worker = new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  const broken = new Promise<never>((_, reject) => {
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      reject(new SpectraDermError("Error", "The page could not start", "Load it again in a current browser"));
    });
  });
  broken.catch(() => undefined);
  let bytes = 0;
  const ask = <T>(task: Task): Promise<T> => {
    const { port1, port2 } = new MessageChannel();
    const answer = new Promise<T>((resolve, reject) => {
      port1.onmessage = ({ data: { result, error, arrived } }: MessageEvent<Reply>) => {
        if (arrived) return loaded({ done: (bytes += arrived), total: facts.bytes });
        port1.close();
        if (error) reject(new SpectraDermError(error.name, error.problem, error.remedy));
        else resolve(result as T);
      };
    });
    worker.postMessage(task, [port2]);
    return Promise.race([answer, broken]);
  };
  const read = (photo: Blob) => {
    checkBytes(photo, facts);
    return photo.arrayBuffer().catch(() => {
      throw unreadable("can't be read", "Choose the file of a photo, not a folder");
    });
  };
  return {
    ready: ask({ load: facts }),
    async predict(photo, _, signal) {
      const predict = await read(photo);
      signal?.throwIfAborted();
      return ask({ predict });
    },
    pixels: async (photo) => ask({ pixels: await read(photo) }),
  };
}

function onServer(facts: Facts): Engine {
  return {
    ready: Promise.resolve(),
    async predict(photo, sent, signal) {
      const small = await shrink(photo, LONGEST);
      checkBytes(small, facts);
      signal?.throwIfAborted();
      const { status, response } = await post(new URL("predict?heatmap=true", document.baseURI), small, sent, signal);
      signal?.throwIfAborted();
      if (status === 200 && response) return response as Prediction;
      const lost = { type: "Error", problem: "The server does not answer", remedy: "Try again in a moment" };
      const { type, problem, remedy } = response?.error ?? lost;
      throw new SpectraDermError(type, problem, remedy);
    },
    pixels: () => Promise.reject(new SpectraDermError("Error", "Only a model in this browser tells its input")),
  };
}

function checkBytes(photo: Blob, { max_bytes }: Facts): void {
  if (photo.size > max_bytes) throw unreadable(`more than ${max_bytes / 1e6} MB`, "Scale it down");
}

/** The finished request, its `response` parsed; `fetch` could not tell how much of a photo has been sent. */
function post(url: URL, photo: Blob, sent?: Progress, signal?: AbortSignal): Promise<XMLHttpRequest> {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.responseType = "json";
    request.setRequestHeader("Content-Type", photo.type.startsWith("image/") ? photo.type : "application/octet-stream");
    request.upload.addEventListener("progress", ({ loaded, total }) => sent?.({ done: loaded, total }));
    request.addEventListener("loadend", () => resolve(request));
    signal?.addEventListener("abort", () => request.abort());
    request.send(photo);
  });
}
