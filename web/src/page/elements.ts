/** HTML elements in few words, and the photo with where the evidence lies over it. */

import type { Facts, Prediction } from "../model.ts";

export type Child = Node | string;

const FAINT = [33, 102, 255];
const STRONG = [120, 255, 240]; // blue to cyan: what no skin has
const OPACITY = 0.7;

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

/** A photo, with its heatmap, a slider for its opacity and a caption where there is a heatmap. */
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
    figure.append(element("figcaption", {}, caption), element("label", { class: "slider" }, facts.words.page.opacity, input));
  }
  image.addEventListener("load", () => {
    URL.revokeObjectURL(image.src);
    if (heat) place(heat, image.naturalWidth, image.naturalHeight, facts);
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

/** Over the part of the photo that the model's input shows. */
function place(heat: HTMLElement, width: number, height: number, { preprocessing }: Facts): void {
  const side = preprocessing.crop_fraction * Math.min(width, height);
  const [across, down] = preprocessing.resize === "squash" ? [100, 100] : [(100 * side) / width, (100 * side) / height];
  const box = { left: (100 - across) / 2, top: (100 - down) / 2, width: across, height: down };
  for (const [name, share] of Object.entries(box)) heat.style.setProperty(name, `${share}%`);
}
