/** The page: takes a photo, shows what the model says of it, and gives embedders `window.spectraderm`. */

import { ARRIVED, download, type Facts, type Prediction, unreadable } from "../model.ts";
import { answer, conditions, refusal, sentences, spoken } from "./answer.ts";
import { element, find } from "./elements.ts";
import { type Bytes, type Engine, openEngine, type Progress } from "./engines.ts";
import { type Row, Rows } from "./rows.ts";
import { Waiting } from "./waiting.ts";

/** A photo's file: its bytes as they are on disk, never pixels. */
type Photo = ArrayBuffer | Uint8Array<ArrayBuffer> | Blob;

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
      predict(photo: Photo): Promise<Prediction>;
      pixels(photo: Photo): Promise<Uint8Array>;
    };
  }
}

const { looking = "", sending = "", loading = "" } = find("answer").dataset;
const texts = { looking, sending, loading };
/** Of the model, while it loads. */
let arrived: Bytes | undefined;
/** Of the photos that are looked at; aborted where others take their place. */
let current = new AbortController();
let waiting: Waiting | undefined;

const opened = download(new URL("model/model.json", document.baseURI)).then((data): [Facts, Engine] => {
  const facts = JSON.parse(new TextDecoder().decode(data)) as Facts;
  return [facts, openEngine(facts, loadBar())];
});

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
    button.addEventListener("click", () => show(fetch(url).then((response) => response.blob())));
    return button;
  });
  find("paintings").querySelector(".buttons")?.replaceChildren(...buttons);
  find("paintings").hidden = !buttons.length;
  if (facts.engine === "server") return;
  engine.ready.then(() => keep(facts)).catch(() => undefined); // else it needs a connection
}, () => undefined); // then `ready` fails, too, and says why

for (const [button, input] of [["choose", "file"], ["camera", "shot"]]) {
  const files = find<HTMLInputElement>(input);
  find(button).addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const photos = [...(files.files ?? [])];
    files.value = ""; // so that the same photo can be chosen again
    if (photos.length) take(photos);
  });
}
find("camera").hidden = navigator.maxTouchPoints === 0; // elsewhere it would only choose a file
for (const kind of ["dragover", "dragleave", "drop", "paste"] as const) {
  document.addEventListener(kind, (event) => {
    const photos = [...((event instanceof DragEvent ? event.dataTransfer : event.clipboardData)?.files ?? [])];
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" || kind === "paste") take(photos);
  });
}

/** The bar of a model that loads: gives what it hears how much has arrived. */
function loadBar(): Progress {
  const bar = new Waiting(texts);
  find("loading").replaceChildren(...bar.nodes);
  return (bytes) => {
    arrived = bytes.done < bytes.total ? bytes : undefined;
    bar.at("loading", bytes);
    waiting?.at(arrived === undefined ? "looking" : "loading", arrived);
    find("loading").hidden = arrived === undefined;
  };
}

/** Keep the site on this device, and say so. */
async function keep({ words }: Facts): Promise<void> {
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register("sw.js");
  await navigator.serviceWorker.ready;
  await caches.delete(ARRIVED);
  find("loading").replaceChildren(element("p", { class: "hint" }, words.page.loaded));
  find("loading").hidden = false;
}

async function ask<T>(photo: Photo, how: (engine: Engine, file: Blob) => Promise<T>): Promise<T> {
  const [, engine] = await opened;
  await engine.ready;
  return how(engine, photo instanceof Blob ? photo : new Blob([photo]));
}

/** Clear what stood there; what comes of photos of before is not shown any more. */
function begin(): AbortSignal {
  current.abort();
  current = new AbortController();
  document.body.classList.add("done");
  return current.signal;
}

function take(photos: File[]): void {
  if (photos.length > 1) void showAll(photos);
  else void show(photos[0] ?? Promise.reject(unreadable("no photo came with that", "Save the picture, then choose its file")));
}

/** What the engine says, with its progress in a view that is on the page. */
function predict(photo: Blob, view: Waiting, signal: AbortSignal): Promise<Prediction> {
  waiting = view;
  if (arrived !== undefined) view.at("loading", arrived);
  const sent = (bytes: Bytes) => (bytes.done < bytes.total ? view.at("sending", bytes) : view.at("looking"));
  return ask(photo, (engine, file) => engine.predict(file, sent, signal));
}

async function show(given: Blob | Promise<Blob>): Promise<void> {
  const signal = begin();
  let photo = given instanceof Blob ? given : null;
  let view = new Waiting(texts, photo ?? undefined);
  say(view.nodes, texts.looking);
  find("answer").scrollIntoView({ block: "nearest" });
  try {
    if (!photo) {
      photo = await given;
      if (signal.aborted) return;
      view = new Waiting(texts, photo);
      say(view.nodes, texts.looking);
    }
    const prediction = await predict(photo, view, signal);
    const [facts] = await opened;
    if (signal.aborted) return;
    say(answer(prediction, photo, facts), spoken(prediction, facts));
    if (find("answer").getBoundingClientRect().top > innerHeight / 2) find("answer").scrollIntoView();
  } catch (error) {
    const [facts] = await opened.catch(() => []);
    const why = sentences(error);
    if (!signal.aborted) say(facts ? refusal(error, photo, facts) : [element("h2", {}, why)], why);
  }
}

/** One after the other, so that none waits for a turn on the server longer than it must. */
async function showAll(photos: File[]): Promise<void> {
  const signal = begin();
  say([], texts.looking);
  const opening = await opened.catch((error) => (say([element("h2", {}, sentences(error))], sentences(error)), null));
  if (!opening || signal.aborted) return;
  const results = photos.map((photo): Row => ({ path: photo.webkitRelativePath || photo.name, photo }));
  const rows = new Rows(results, opening[0]);
  say(rows.nodes, texts.looking);
  for (const [number, row] of results.entries()) {
    const view = new Waiting(texts);
    rows.wait(number, view);
    try {
      row.prediction = await predict(row.photo, view, signal);
    } catch (error) {
      row.error = error;
    }
    if (signal.aborted) return;
    rows.done(number);
  }
  find("status").textContent = rows.tell();
}

function say(parts: Node[], aloud: string): void {
  find("answer").replaceChildren(...parts);
  find("status").textContent = aloud;
}
