/** An upright photo -> the pixels a model reads, as Python's `preprocessing.py`; and the limits that both share. */

import { unreadable } from "./errors.ts";
import { BILINEAR, type Pixels, resize } from "./resize.ts";

export const MAX_PIXELS = 64_000_000;
const SHORTEST_SIDE = 672;
const MAX_DECODED_PIXELS = 16_000_000;
const MAX_PIXELS_OF: Record<string, number> = { PNG: 25_000_000, BMP: 25_000_000, GIF: 25_000_000, WEBP: 12_500_000 };
export const MAX_BYTES = 100_000_000;
export const MIN_SIDE = 16;
export const MAX_ASPECT = 20;

export interface Preprocessing {
  size: number;
  resize: "squash" | "crop";
  crop_fraction: number;
}

/** The model's input: `size` x `size` pixels, red, green, blue. */
export function preprocess(image: Pixels, settings: Preprocessing): Uint8Array {
  const { size } = settings;
  if (settings.resize === "squash") return resize(image, size, size, BILINEAR).data;
  const short = Math.trunc(size / settings.crop_fraction);
  const shortest = Math.min(image.width, image.height);
  const [width, height] = [image.width, image.height].map((side) => Math.floor((short * side) / shortest));
  const left = Math.floor((width - size) / 2);
  const top = Math.floor((height - size) / 2);
  return crop(resize(image, width, height, BILINEAR), left, top, size);
}

/** By how much a JPEG is scaled down before all else: Python's decoder does so while it decodes. 1, 2, 4 or 8. */
export function decodingScale(width: number, height: number, size: number): number {
  const shortest = Math.max(SHORTEST_SIDE, 3 * size);
  let scale = 1;
  while (
    scale < 8 &&
    (Math.min(width, height) >= 2 * scale * shortest || width * height > MAX_DECODED_PIXELS * scale ** 2)
  ) {
    scale *= 2;
  }
  return scale;
}

/** Throw `UnreadablePhoto` for what is too large, too small or too narrow to be looked at. */
export function checkSize(width: number, height: number): void {
  if (width * height > MAX_PIXELS) {
    throw unreadable(`${width}x${height} is more than ${MAX_PIXELS / 1e6} megapixels`, "Scale it down");
  }
  if (Math.min(width, height) < MIN_SIDE) {
    throw unreadable(`${width}x${height} is too small`, `Both sides need ${MIN_SIDE} pixels`);
  }
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw unreadable(`${width}x${height} is a strip, not a photo`, "Crop it to the skin");
  }
}

/** Throw `UnreadablePhoto` where a photo of that format would need too much memory. */
export function checkPixels(pixels: number, format: string): void {
  const most = MAX_PIXELS_OF[format] ?? MAX_PIXELS;
  if (pixels <= most) return;
  const problem = `a ${format} of more than ${most / 1e6} megapixels`;
  throw unreadable(problem, "Scale it down, or save it as a JPEG");
}

function crop({ width, channels, data }: Pixels, left: number, top: number, size: number): Uint8Array {
  const result = new Uint8Array(size * size * channels);
  for (let row = 0; row < size; row++) {
    const from = ((top + row) * width + left) * channels;
    result.set(data.subarray(from, from + size * channels), row * size * channels);
  }
  return result;
}
