/** The page: takes a photo, shows what the model in the worker says of it, and gives embedders `window.spectraderm`. */

import { SpectraDermError } from "../errors.ts";
import { type Facts, readFacts } from "../model.ts";
import type { Prediction } from "../prediction.ts";
import { MAX_BYTES } from "../preprocessing.ts";
import { answer, conditions, refusal, sentences, spoken } from "./answer.ts";
import { Client } from "./client.ts";
import { element, find } from "./elements.ts";
import { offerPaintings, openIntake } from "./intake.ts";
import { picture } from "./picture.ts";

/** A photo's file: its bytes as they are on disk, never pixels. */
type Bytes = ArrayBuffer | Uint8Array<ArrayBuffer> | Blob;

/**
 * `window.spectraderm`, for embedders and tests. Nothing given to it leaves the device.
 *
 * `ready` holds when the model is loaded. `predict` gives what the model says, with the names of Python's
 * `Prediction`; `pixels` gives the model's input, as Python's `Classifier.pixels`. They reject with an error whose
 * `name` is `UnreadablePhoto` or `ModelFolderError`, with `problem` and `remedy`.
 */
interface SpectraDerm {
  ready: Promise<void>;
  predict(photo: Bytes): Promise<Prediction>;
  pixels(photo: Bytes): Promise<Uint8Array>;
}

declare global {
  interface Window {
    spectraderm: SpectraDerm;
  }
}

const client = new Client();
let asked = 0;

window.spectraderm = {
  ready: client.ready.then(() => undefined),
  predict: async (photo) => {
    const { prediction, preview } = await client.look(await bytesOf(photo));
    preview.close();
    return prediction;
  },
  pixels: async (photo) => client.pixels(await bytesOf(photo)),
};
window.spectraderm.ready.catch(broken);

readFacts(new URL("model/", document.baseURI)).then((facts) => {
  find("conditions").append(...conditions(facts));
  offerPaintings(facts.paintings, show);
}, () => undefined); // then `ready` fails, too, and says why
client.ready.then(() => {
  navigator.serviceWorker?.register("sw.js").catch(() => undefined); // without it the page works, but not offline
});
openIntake(show);

async function show(photo: Blob): Promise<void> {
  const own = ++asked; // an answer to an earlier photo must not replace a later one's
  waiting();
  try {
    const [facts, data] = await Promise.all([client.ready, bytesOf(photo)]);
    const { prediction, preview } = await client.look(data);
    if (own === asked) present(prediction, preview, facts);
    preview.close();
  } catch (error) {
    if (own === asked) await refuse(error);
  }
}

function waiting(): void {
  const text = find("answer").dataset.waiting ?? "";
  say([element("p", { class: "waiting" }, text)], text);
  document.body.classList.add("done");
  find("answer").scrollIntoView({ block: "nearest" });
}

function present(said: Prediction, preview: ImageBitmap, facts: Facts): void {
  const judged = said.verdict === "predicted" || said.verdict === "unsure";
  const seen = element("figure", {}, ...picture(preview, judged ? said.heatmap : [], said.display_name, facts));
  say(answer(said, seen, facts), spoken(said, facts));
  if (find("answer").getBoundingClientRect().top > innerHeight / 2) find("answer").scrollIntoView();
}

async function refuse(error: unknown): Promise<void> {
  const facts = await client.ready.catch(() => null);
  if (facts) say(refusal(error, facts), sentences(error));
  else broken(error);
}

function broken(error: unknown): void {
  say([element("h2", {}, sentences(error))], sentences(error));
}

function say(parts: Node[], aloud: string): void {
  find("answer").replaceChildren(...parts);
  find("status").textContent = aloud;
}

function bytesOf(photo: Bytes): Promise<ArrayBuffer> | ArrayBuffer {
  if (!(photo instanceof Blob)) return photo instanceof ArrayBuffer ? photo : photo.slice().buffer;
  if (photo.size <= MAX_BYTES) return photo.arrayBuffer();
  throw new SpectraDermError("UnreadablePhoto", `photo: more than ${MAX_BYTES / 1e6} MB`, "Scale it down");
}
