/** The thread in which photos are decoded and the model runs, so that the page never stands still. */

import { Classifier } from "./classifier.ts";
import { decode } from "./decoding.ts";
import { toFailure } from "./errors.ts";
import type { Reply, Request } from "./messages.ts";
import { preprocess } from "./preprocessing.ts";

const loading = Classifier.load(new URL(".", self.location.href));

let asked = false;
let last: Promise<void> = Promise.resolve(); // one photo at a time

loading.then(
  (classifier) => {
    say({ kind: "ready", facts: classifier.facts });
    if (!asked) last = classifier.warmUp().catch(() => undefined);
  },
  (error) => say({ kind: "broken", failure: toFailure(error) }),
);

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  asked = true;
  last = last.then(() => answer(data)).catch((error) => say({ kind: "refused", id: data.id, failure: toFailure(error) }));
});

async function answer({ id, task, photo }: Request): Promise<void> {
  const classifier = await loading;
  const { pixels, preview } = await decode(new Uint8Array(photo), classifier.facts.preprocessing.size);
  if (task === "pixels") {
    say({ kind: "pixels", id, pixels: preprocess(pixels, classifier.facts.preprocessing) });
  } else {
    say({ kind: "prediction", id, prediction: await classifier.predict(pixels), preview }, [preview]);
  }
}

function say(reply: Reply, moved: Transferable[] = []): void {
  self.postMessage(reply, { transfer: moved });
}
