/** The photo, and over it where the evidence lies. */

import type { Facts } from "../model.ts";
import type { Preprocessing } from "../preprocessing.ts";
import { element } from "./elements.ts";

const SIDE = 192;
const FAINT = [33, 102, 255];
const STRONG = [120, 255, 240]; // blue to cyan: what no skin has
const OPACITY = 0.7;

/** A photo, with its heatmap, a slider for its opacity and a caption where `heatmap` has rows. */
export function picture(preview: ImageBitmap, heatmap: number[][], condition: string, facts: Facts): Node[] {
  const layers = element("div", { class: "layers" }, photo(preview));
  if (!heatmap.length) return [layers];
  const heat = draw(heatmap);
  place(heat, preview, facts.preprocessing);
  layers.append(heat);
  const caption = facts.words.heatmap.replace("{condition}", condition);
  return [layers, element("figcaption", {}, caption), slider(heat, facts.words.page.opacity)];
}

function photo(preview: ImageBitmap): HTMLCanvasElement {
  const { width, height } = preview;
  const canvas = element("canvas", { class: "picture", role: "img", "aria-label": "Your photo" });
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  if (context) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(preview, 0, 0);
  }
  return canvas;
}

/** Bilinear between the middles of the map's places. */
function draw(heatmap: number[][]): HTMLCanvasElement {
  const canvas = element("canvas", { class: "heat", "aria-hidden": "true" });
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const pixels = new ImageData(SIDE, SIDE);
  for (let at = 0; at < SIDE * SIDE; at++) {
    const share = between(heatmap, ((at % SIDE) + 0.5) / SIDE, (Math.floor(at / SIDE) + 0.5) / SIDE);
    FAINT.forEach((faint, channel) => {
      pixels.data[4 * at + channel] = faint + share * (STRONG[channel] - faint);
    });
    pixels.data[4 * at + 3] = 255 * share;
  }
  context?.putImageData(pixels, 0, 0);
  return canvas;
}

function between(heatmap: number[][], x: number, y: number): number {
  const [row, below, down] = neighbours(y * heatmap.length - 0.5, heatmap.length);
  const [column, right, across] = neighbours(x * heatmap[0].length - 0.5, heatmap[0].length);
  const upper = heatmap[row][column] * (1 - across) + heatmap[row][right] * across;
  const lower = heatmap[below][column] * (1 - across) + heatmap[below][right] * across;
  return upper * (1 - down) + lower * down;
}

function neighbours(place: number, count: number): [number, number, number] {
  const held = Math.min(Math.max(place, 0), count - 1);
  const first = Math.floor(held);
  return [first, Math.min(first + 1, count - 1), held - first];
}

/** Over the part of the photo that the model's input shows. */
function place(heat: HTMLCanvasElement, { width, height }: ImageBitmap, settings: Preprocessing): void {
  const side = settings.crop_fraction * Math.min(width, height);
  const [across, down] = settings.resize === "squash" ? [100, 100] : [(100 * side) / width, (100 * side) / height];
  Object.assign(heat.style, {
    left: `${(100 - across) / 2}%`,
    top: `${(100 - down) / 2}%`,
    width: `${across}%`,
    height: `${down}%`,
    opacity: String(OPACITY),
  });
}

function slider(heat: HTMLCanvasElement, name: string): HTMLElement {
  const input = element("input", { type: "range", min: "0", max: "100", step: "5", value: String(Math.round(100 * OPACITY)) });
  input.addEventListener("input", () => {
    heat.style.opacity = String(Number(input.value) / 100);
  });
  return element("label", { class: "slider" }, name, input);
}
