/** The page: takes a photo, shows what the model says of it, and gives embedders `window.spectraderm`. */

import { download, type Facts, type Prediction, unreadable } from "../model.ts";
import { answer, conditions, refusal, sentences, spoken } from "./answer.ts";
import { element, find } from "./elements.ts";
import { type Engine, openEngine } from "./engines.ts";

/** A photo's file: its bytes as they are on disk, never pixels. */
type Bytes = ArrayBuffer | Uint8Array<ArrayBuffer> | Blob;

declare global {
  interface Window {
    /**
     * For embedders and tests. Nothing given to it goes anywhere but to the page's engine. `ready` holds when the model
     * is loaded; `predict` gives what the model says, with the names of Python's `Prediction`; `pixels` gives the
     * model's input, where the model runs in the browser. They reject with an error whose `name` is `UnreadablePhoto`
     * or `ModelFolderError`, with `problem` and `remedy`.
     */
    spectraderm: {
      ready: Promise<void>;
      predict(photo: Bytes): Promise<Prediction>;
      pixels(photo: Bytes): Promise<Uint8Array>;
    };
  }
}

const opened = download(new URL("model/model.json", document.baseURI)).then((data): [Facts, Engine] => {
  const facts = JSON.parse(new TextDecoder().decode(data)) as Facts;
  return [facts, openEngine(facts)];
});
let shown = 0;

window.spectraderm = {
  ready: opened.then(([, engine]) => engine.ready),
  predict: (photo) => ask(photo, (engine, file) => engine.predict(file)),
  pixels: (photo) => ask(photo, (engine, file) => engine.pixels(file)),
};
window.spectraderm.ready.catch((error) => say([element("h2", {}, sentences(error))], sentences(error)));

opened.then(([facts, engine]) => {
  find("conditions").append(...conditions(facts));
  const buttons = facts.paintings.map((url, number) => {
    const image = element("img", { src: url, alt: `Painting ${number + 1}`, loading: "lazy" });
    const button = element("button", { type: "button" }, image);
    button.addEventListener("click", async () => show(await (await fetch(url)).blob()));
    return button;
  });
  find("paintings").querySelector(".buttons")?.replaceChildren(...buttons);
  find("paintings").hidden = !buttons.length;
  if (facts.engine === "server") return;
  engine.ready.then(() => navigator.serviceWorker?.register("sw.js")).catch(() => undefined); // else it needs a connection
}, () => undefined); // then `ready` fails, too, and says why

for (const [button, input] of [["choose", "file"], ["camera", "shot"]]) {
  const files = find<HTMLInputElement>(input);
  find(button).addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const photo = files.files?.[0];
    files.value = ""; // so that the same photo can be chosen again
    if (photo) show(photo);
  });
}
find("camera").hidden = navigator.maxTouchPoints === 0; // elsewhere it would only choose a file
for (const kind of ["dragover", "dragleave", "drop", "paste"] as const) {
  document.addEventListener(kind, (event) => {
    const photo = (event instanceof DragEvent ? event.dataTransfer : event.clipboardData)?.files[0];
    if (photo || kind !== "paste") event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (photo && kind !== "dragover" && kind !== "dragleave") show(photo);
  });
}

async function ask<T>(photo: Bytes, how: (engine: Engine, file: Blob) => Promise<T>): Promise<T> {
  const [{ max_bytes }, engine] = await opened;
  const file = photo instanceof Blob ? photo : new Blob([photo]);
  if (file.size > max_bytes) throw unreadable(`more than ${max_bytes / 1e6} MB`, "Scale it down");
  await engine.ready;
  return how(engine, file);
}

async function show(photo: Blob): Promise<void> {
  const number = ++shown; // an answer to an earlier photo must not replace a later one's
  const wait = find("answer").dataset.waiting ?? "";
  say([element("p", { class: "waiting" }, wait)], wait);
  document.body.classList.add("done");
  find("answer").scrollIntoView({ block: "nearest" });
  try {
    const prediction = await window.spectraderm.predict(photo);
    const [facts] = await opened;
    if (number !== shown) return;
    say(answer(prediction, photo, facts), spoken(prediction, facts));
    if (find("answer").getBoundingClientRect().top > innerHeight / 2) find("answer").scrollIntoView();
  } catch (error) {
    const [facts] = await opened.catch(() => []);
    if (number === shown) say(facts ? refusal(error, facts) : [element("h2", {}, sentences(error))], sentences(error));
  }
}

function say(parts: Node[], aloud: string): void {
  find("answer").replaceChildren(...parts);
  find("status").textContent = aloud;
}
