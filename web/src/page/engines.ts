/** What answers for a photo: the model in this browser, or the server that handed out the page. */

import { type Facts, type ModelFacts, type Prediction, SpectraDermError } from "../model.ts";
import type { Reply, Task } from "../worker.ts";

export interface Engine {
  /** The model is loaded; rejects where it can't be. */
  ready: Promise<void>;
  predict(photo: Blob): Promise<Prediction>;
  /** The model's input for a photo, as Python's `Classifier.pixels`. */
  pixels(photo: Blob): Promise<Uint8Array>;
}

export function openEngine(facts: Facts): Engine {
  return facts.engine === "server" ? onServer() : inBrowser(facts as ModelFacts);
}

function inBrowser(facts: ModelFacts): Engine {
  const worker = new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  const broken = new Promise<never>((_, reject) => {
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      reject(new SpectraDermError("Error", "The page could not start", "Load it again in a current browser"));
    });
  });
  broken.catch(() => undefined);
  const ask = <T>(task: Task): Promise<T> => {
    const { port1, port2 } = new MessageChannel();
    const answer = new Promise<T>((resolve, reject) => {
      port1.onmessage = ({ data: { result, error } }: MessageEvent<Reply>) => {
        port1.close();
        if (error) reject(new SpectraDermError(error.name, error.problem, error.remedy));
        else resolve(result as T);
      };
    });
    worker.postMessage(task, [port2]);
    return Promise.race([answer, broken]);
  };
  return {
    ready: ask({ load: facts }),
    predict: async (photo) => ask({ predict: await photo.arrayBuffer() }),
    pixels: async (photo) => ask({ pixels: await photo.arrayBuffer() }),
  };
}

function onServer(): Engine {
  return {
    ready: Promise.resolve(),
    async predict(photo) {
      const headers = { "Content-Type": photo.type.startsWith("image/") ? photo.type : "application/octet-stream" };
      const url = new URL("predict?heatmap=true", document.baseURI);
      const response = await fetch(url, { method: "POST", headers, body: photo }).catch(() => null);
      const content = await response?.json().catch(() => null);
      if (response?.ok && content) return content as Prediction;
      const lost = { type: "Error", problem: "The server does not answer", remedy: "Try again in a moment" };
      const { type, problem, remedy } = content?.error ?? lost;
      throw new SpectraDermError(type, problem, remedy);
    },
    pixels: () => Promise.reject(new SpectraDermError("Error", "Only a model in this browser tells its input")),
  };
}
