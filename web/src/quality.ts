/** An upright photo -> a few numbers, and what they say against using it, as Python's `quality.py`, to the bit. */

import { BILINEAR, BOX, nearest, type Pixels, resize } from "./resize.ts";

const SIDE = 128;
const SKIM = 1024;
const SMOOTHED = 256; // what `smooth` multiplies grey levels by: both sums of its weights

/** A square or narrower grid of whole numbers. */
interface Grid {
  width: number;
  height: number;
  values: Int32Array;
}

/** What a photo is like at 128 x 128; grey levels are 0..255, shares 0..1. Python's docstring says what each is. */
export function measure(image: Pixels) {
  const { data } = workingColours(image);
  const grey = grid(SIDE, SIDE, (x, y) => {
    const [red, green, blue] = data.subarray(3 * (y * SIDE + x));
    return Math.floor((299 * red + 587 * green + 114 * blue + 500) / 1000);
  });
  const sorted = Int32Array.from(grey.values).sort();
  const grain = deviation(laplacian(grey).values);
  return {
    shadows: percentile(sorted, 2),
    highlights: percentile(sorted, 98),
    blown: grey.values.filter((_, at) => Math.min(...data.subarray(3 * at, 3 * at + 3)) > 250).length / grey.values.length,
    contrast: Math.max(...[0, 1, 2].map((channel) => deviation(data.filter((_, at) => at % 3 === channel)))),
    sharpness: deviation(laplacian(smooth(grey)).values) / SMOOTHED,
    grain,
    roughness: grain / Math.max(deviation(grey.values), 0.1),
    flat: flatness(grey),
    few_colours: shareOfCommonest(data, 8),
  };
}

/** Why no model should be asked of a photo of that size: a reason and what to do; null where nothing speaks against it. */
export function whyUnusable(quality: ReturnType<typeof measure>, width: number, height: number): string | null {
  if (Math.min(width, height) < 64) {
    const reason = `The photo is too small: ${width}x${height} pixels.`;
    return `${reason} Send the photo as the camera took it, not a thumbnail.`;
  }
  const drawn = quality.few_colours > 0.95 && quality.flat > 0.75;
  const text = quality.grain > 75 && quality.roughness > 2 && quality.few_colours > 0.85;
  if (quality.highlights < 36) return "The photo is too dark. Take it again in daylight, without flash.";
  if (quality.shadows > 235 || quality.blown > 0.9) {
    return "The photo is too bright. Take it again without flash, out of direct sun.";
  }
  if (quality.contrast < 4) return "The photo shows one colour only. Take a photo of the skin.";
  if (drawn || text || quality.roughness > 3.5) {
    return "This does not look like a photo. Send a photo of the skin: no drawing, screenshot or page of text.";
  }
  if (quality.sharpness >= 0.65) return null;
  return "The photo is blurred. Hold the camera still, a hand's breadth away, and wait until it has focused.";
}

function workingColours(image: Pixels): Pixels {
  const large = Math.max(image.width, image.height) > SKIM;
  const skimmed = large ? nearest(image, Math.min(image.width, SKIM), Math.min(image.height, SKIM)) : image;
  const enlarging = Math.min(skimmed.width, skimmed.height) < SIDE;
  return resize(skimmed, SIDE, SIDE, enlarging ? BILINEAR : BOX, 2);
}

function laplacian({ width, height, values }: Grid): Grid {
  return grid(width - 2, height - 2, (x, y) => {
    const at = (y + 1) * width + x + 1;
    return values[at + 1] + values[at - 1] + values[at + width] + values[at - width] - 4 * values[at];
  });
}

/** By the binomial weights 1, 4, 6, 4, 1 along both axes: a Gaussian of one pixel, times 256. */
function smooth(grey: Grid): Grid {
  const along = (from: Grid, step: number, width: number, height: number): Grid =>
    grid(width, height, (x, y) => {
      const [a, b, c, d, e] = [0, 1, 2, 3, 4].map((shift) => from.values[y * from.width + x + shift * step]);
      return a + e + 4 * (b + d) + 6 * c;
    });
  const rows = along(grey, 1, grey.width - 4, grey.height);
  return along(rows, rows.width, rows.width, rows.height - 4);
}

function flatness({ width, height, values }: Grid): number {
  const flat = grid(width - 1, height - 1, (x, y) => {
    const at = y * width + x;
    return values[at + 1] === values[at] && values[at + width] === values[at] ? 1 : 0;
  });
  return sum(flat.values) / flat.values.length;
}

/** Share of the pixels in the commonest of the 16^3 coarse colours. */
function shareOfCommonest(data: Uint8Array, count: number): number {
  const held = new Int32Array(4096);
  for (let at = 0; at < data.length; at += 3) {
    held[((data[at] >> 4) << 8) | ((data[at + 1] >> 4) << 4) | (data[at + 2] >> 4)]++;
  }
  const commonest = held.sort().slice(-count);
  return commonest.reduce((sum, one) => sum + one, 0) / (data.length / 3);
}

function grid(width: number, height: number, value: (x: number, y: number) => number): Grid {
  const values = new Int32Array(width * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) values[y * width + x] = value(x, y);
  return { width, height, values };
}

function sum(values: Int32Array | Uint8Array, of = (value: number) => value): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}

/** The standard deviation of whole numbers; only its root is rounded, so that no order of summing shows. */
function deviation(values: Int32Array | Uint8Array): number {
  const [count, total, squares] = [values.length, sum(values), sum(values, (value) => value * value)].map(BigInt);
  return Math.sqrt(Number(count * squares - total * total)) / values.length;
}

/** Between the two nearest of sorted values, as NumPy's default. */
function percentile(sorted: Int32Array, percent: number): number {
  const place = (percent / 100) * (sorted.length - 1);
  const [below, above] = [Math.floor(place), Math.ceil(place)].map((at) => sorted[at]);
  return below + (above - below) * (place % 1);
}
