/** The thread in which photos are decoded and the model runs, so that the page never stands still. */

import { type Classifier, loadClassifier } from "./classifier.ts";
import { decode } from "./decoding.ts";
import { type ModelFacts, SpectraDermError } from "./model.ts";
import { preprocess } from "./preprocessing.ts";

/** `load` comes first, and once; then photos. The reply goes to the port that comes along. */
export type Task = { load: ModelFacts } | { predict: ArrayBuffer } | { pixels: ArrayBuffer };

/** `arrived` comes before the last, as often as bytes do. An error's class doesn't survive the way to another thread. */
export interface Reply {
  arrived?: number;
  result?: unknown;
  error?: { name: string; problem: string; remedy: string };
}

let facts: ModelFacts;
let loading: Promise<Classifier>;
let last: Promise<unknown> = Promise.resolve(); // one task at a time

self.addEventListener("message", ({ data, ports: [port] }: MessageEvent<Task>) => {
  last = last.then(() => perform(data, (arrived) => port.postMessage({ arrived } satisfies Reply))).then(
    (result) => port.postMessage({ result } satisfies Reply),
    (error) => {
      const { name, problem, remedy } = error instanceof SpectraDermError ? error : new SpectraDermError("Error", String(error));
      port.postMessage({ error: { name, problem, remedy } } satisfies Reply);
    },
  );
});

async function perform(task: Task, arrived: (bytes: number) => void): Promise<unknown> {
  if ("load" in task) {
    facts = task.load;
    loading = loadClassifier(facts, new URL(".", self.location.href), arrived);
    return void (await loading);
  }
  const classify = await loading;
  const photo = await decode(new Uint8Array("pixels" in task ? task.pixels : task.predict), facts.preprocessing.size);
  return "pixels" in task ? preprocess(photo, facts.preprocessing) : classify(photo);
}
