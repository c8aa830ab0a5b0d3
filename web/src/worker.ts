/** The thread in which photos are decoded and the model runs, so that the page never stands still. */

import { Classifier } from "./classifier.ts";
import { decode } from "./decoding.ts";
import { SpectraDermError } from "./errors.ts";
import type { ModelFacts } from "./model.ts";
import { preprocess } from "./preprocessing.ts";

/** `load` comes first, and once; then photos. The answer, `{ result }` or `{ error }`, goes to the message's port. */
export type Task = { load: ModelFacts } | { predict: ArrayBuffer } | { pixels: ArrayBuffer };

let loading: Promise<Classifier>;
let waiting = 0;
let last: Promise<unknown> = Promise.resolve(); // one photo at a time

self.addEventListener("message", ({ data, ports: [port] }: MessageEvent<Task>) => {
  if ("load" in data) {
    loading = Classifier.load(data.load, new URL(".", self.location.href));
    answer(port, loading.then(() => undefined));
    loading.then((classifier) => {
      if (!waiting) last = classifier.warmUp();
    }, () => undefined);
  } else {
    waiting++;
    last = last.catch(() => undefined).then(() => answer(port, look(data)));
  }
});

async function look(task: Exclude<Task, { load: ModelFacts }>): Promise<unknown> {
  const classifier = await loading;
  const { preprocessing } = classifier.facts;
  if ("pixels" in task) return preprocess(await decode(new Uint8Array(task.pixels), preprocessing.size), preprocessing);
  return classifier.predict(await decode(new Uint8Array(task.predict), preprocessing.size));
}

/** A class of error doesn't survive the way to another thread: its parts do. */
function answer(port: MessagePort, found: Promise<unknown>): Promise<void> {
  return found.then(
    (result) => port.postMessage({ result }),
    (error) => {
      const { name, problem, remedy } = error instanceof SpectraDermError ? error : new SpectraDermError("Error", String(error));
      port.postMessage({ error: { name, problem, remedy } });
    },
  );
}
