/** An upright photo -> the pixels a model reads, as Python's `preprocessing.py`; and the limits that both share. */

import { unreadable } from "./model.ts";
import { BILINEAR, type Pixels, resize } from "./resize.ts";

const MAX_PIXELS = 64_000_000;
const MAX_PIXELS_OF: Record<string, number> = { PNG: 25_000_000, BMP: 25_000_000, GIF: 25_000_000, WEBP: 12_500_000 };
const MAX_DECODED_PIXELS = 16_000_000;
const SHORTEST_SIDE = 672;
const MIN_SIDE = 16;
const MAX_ASPECT = 20;

export interface Preprocessing {
  size: number;
  resize: "squash" | "crop";
  crop_fraction: number;
  /** Of red, green and blue, where 1 is the brightest. */
  mean: number[];
  std: number[];
}

/** The model's input: `size` x `size` pixels, red, green, blue. */
export function preprocess(image: Pixels, settings: Preprocessing): Uint8Array {
  const { size } = settings;
  if (settings.resize === "squash") return resize(image, size, size, BILINEAR).data;
  const short = Math.trunc(size / settings.crop_fraction);
  const shortest = Math.min(image.width, image.height);
  const [width, height] = [image.width, image.height].map((side) => Math.floor((short * side) / shortest));
  const [left, top] = [width, height].map((side) => Math.floor((side - size) / 2));
  const { channels, data } = resize(image, width, height, BILINEAR);
  const result = new Uint8Array(size * size * channels);
  for (let row = 0; row < size; row++) {
    const from = ((top + row) * width + left) * channels;
    result.set(data.subarray(from, from + size * channels), row * size * channels);
  }
  return result;
}

/** Pixels -> the network's input, 3 planes, as Python's `Preprocessing.normalised`: each step rounded to 32 bits. */
export function normalised(pixels: Uint8Array, settings: Preprocessing): Float32Array {
  const plane = pixels.length / 3;
  const result = new Float32Array(pixels.length);
  const [means, stds] = [settings.mean, settings.std].map((values) =>
    values.map((value) => Math.fround(Math.fround(value) * 255)),
  );
  for (let channel = 0; channel < 3; channel++) {
    const values = Float32Array.from({ length: 256 }, (_, value) => Math.fround(value - means[channel]) / stds[channel]);
    for (let place = 0; place < plane; place++) result[channel * plane + place] = values[pixels[3 * place + channel]];
  }
  return result;
}

/** By how much a JPEG is scaled down before all else: Python's decoder does so while it decodes. 1, 2, 4 or 8. */
export function decodingScale(width: number, height: number, size: number): number {
  const shortest = Math.max(SHORTEST_SIDE, 3 * size);
  const halves = (scale: number) =>
    Math.min(width, height) >= 2 * scale * shortest || width * height > MAX_DECODED_PIXELS * scale ** 2;
  return [1, 2, 4].find((scale) => !halves(scale)) ?? 8;
}

/** Throw `UnreadablePhoto` for what is too large, too small or too narrow to be looked at, or to be decoded in memory. */
export function checkSize(width: number, height: number, type = ""): void {
  const [pixels, format] = [width * height, type.slice("image/".length).toUpperCase()];
  if (pixels > MAX_PIXELS) {
    throw unreadable(`${width}x${height} is more than ${MAX_PIXELS / 1e6} megapixels`, "Scale it down");
  }
  if (Math.min(width, height) < MIN_SIDE) {
    throw unreadable(`${width}x${height} is too small`, `Both sides need ${MIN_SIDE} pixels`);
  }
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw unreadable(`${width}x${height} is a strip, not a photo`, "Crop it to the skin");
  }
  if (pixels > MAX_PIXELS_OF[format]) {
    const most = MAX_PIXELS_OF[format] / 1e6;
    throw unreadable(`a ${format} of more than ${most} megapixels`, "Scale it down, or save it as a JPEG");
  }
}
