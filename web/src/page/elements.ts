/** HTML elements in few words, and the photo with where the evidence lies over it. */

import type { Facts, Prediction } from "../model.ts";

export type Child = Node | string;

const FAINT = [33, 102, 255];
const STRONG = [120, 255, 240]; // blue to cyan: what no skin has
const OPACITY = 0.7;
const EDGE = 0.08; // of a photo's width and height

type Box = Record<"left" | "top" | "width" | "height", number>;

/** An element with attributes (`class`, `aria-label`, ...) and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The element of the page with this id. */
export function find<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** A photo, small; nothing where this browser can't show its format. */
export function thumbnail(photo: Blob): HTMLElement {
  const image = element("img", { alt: "", src: URL.createObjectURL(photo), decoding: "async" });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  image.addEventListener("error", () => image.remove());
  return element("div", { class: "thumbnail" }, image);
}

/** A photo, with its heatmap and what its colours mean, a slider for its opacity and a caption where there is a heatmap. */
export function picture(photo: Blob, { heatmap, display_name }: Prediction, facts: Facts): HTMLElement {
  const image = element("img", { class: "picture", alt: "Your photo", src: URL.createObjectURL(photo) });
  const layers = element("div", { class: "layers" }, image);
  const figure = element("figure", {}, layers);
  const heat = heatmap.length ? draw(heatmap) : null;
  if (heat) {
    const input = element("input", { type: "range", min: "0", max: "100", step: "5", value: String(100 * OPACITY) });
    input.addEventListener("input", () => (heat.style.opacity = String(Number(input.value) / 100)));
    const caption = facts.words.heatmap.replace("{condition}", display_name);
    layers.append(heat);
    figure.append(element("figcaption", {}, caption), legend(facts));
    figure.append(element("label", { class: "slider" }, facts.words.page.opacity, input));
  }
  image.addEventListener("load", () => {
    URL.revokeObjectURL(image.src);
    if (!heat) return;
    const box = place(image.naturalWidth, image.naturalHeight, facts);
    for (const [name, share] of Object.entries(box)) heat.style.setProperty(name, `${100 * share}%`);
    if (peakDistance(heatmap, box) < EDGE) layers.after(element("p", { class: "edge" }, facts.words.page.edge));
  });
  image.addEventListener("error", () => figure.remove()); // a server reads formats that some browsers don't
  return figure;
}

/** One pixel for each place of the map: the browser draws it smooth. */
function draw(heatmap: number[][]): HTMLCanvasElement {
  const canvas = element("canvas", { class: "heat", "aria-hidden": "true" });
  [canvas.width, canvas.height] = [heatmap[0].length, heatmap.length];
  const pixels = new ImageData(canvas.width, canvas.height);
  heatmap.flat().forEach((share, at) => {
    const colour = FAINT.map((faint, channel) => faint + share * (STRONG[channel] - faint));
    pixels.data.set([...colour, 255 * share], 4 * at);
  });
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  canvas.style.opacity = String(OPACITY);
  return canvas;
}

/** What the colours mean, from little evidence to much. */
function legend({ words }: Facts): HTMLElement {
  const scale = element("span", { class: "scale", "aria-hidden": "true" });
  const colour = ([red, green, blue]: number[], share: number) => `rgb(${red} ${green} ${blue} / ${share * OPACITY})`;
  scale.style.backgroundImage = `linear-gradient(to right, ${colour(FAINT, 0)}, ${colour(STRONG, 1)})`;
  return element("p", { class: "legend" }, words.page.little, scale, words.page.much);
}

/** The part of the photo that the model's input shows, as shares of its width and height. */
function place(width: number, height: number, { preprocessing }: Facts): Box {
  const side = preprocessing.crop_fraction * Math.min(width, height);
  const [across, down] = preprocessing.resize === "squash" ? [1, 1] : [side / width, side / height];
  return { left: (1 - across) / 2, top: (1 - down) / 2, width: across, height: down };
}

/** How far a map's peak is from the nearest edge of the photo, as a share of its width or height. */
function peakDistance(heatmap: number[][], { left, top, width, height }: Box): number {
  const at = heatmap.flat().indexOf(Math.max(...heatmap.flat()));
  const [row, column] = [Math.floor(at / heatmap[0].length), at % heatmap[0].length];
  const x = left + (width * (column + 0.5)) / heatmap[0].length;
  const y = top + (height * (row + 0.5)) / heatmap.length;
  return Math.min(x, 1 - x, y, 1 - y);
}
