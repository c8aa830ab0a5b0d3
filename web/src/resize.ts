/** Pillow's `Image.resize` and `Image.reduce` on 8-bit pictures, to the bit: the model saw pictures made by them. */

/** A picture, row by row; each pixel has `channels` bytes: red, green, blue, or grey alone. */
export interface Pixels {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array;
}

/** What each old pixel counts for a new one, by its distance; `support` is half its width, in new pixels. */
export interface Filter {
  support: number;
  weigh(distance: number): number;
}

export const BOX: Filter = { support: 0.5, weigh: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
export const BILINEAR: Filter = { support: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x)) };
export const LANCZOS: Filter = { support: 3, weigh: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) };

const PRECISION = 22; // bits after the point: 32, less 8 of the result and 2 for sums out of range

/**
 * Resize by convolution, first along the rows, then along the columns, rounding to 8 bits after each.
 *
 * @param gap Pillow's `reducing_gap`: first average whole blocks of pixels, down to `gap` times the size asked for.
 */
export function resize(image: Pixels, width: number, height: number, filter: Filter, gap = 0): Pixels {
  if (image.width === width && image.height === height) return image;
  const block = (scale: number): number => (gap ? Math.trunc(scale / gap) || 1 : 1);
  const [right, down] = [block(image.width / width), block(image.height / height)];
  const small = reduce(image, right, down);
  const rows = pass(small, width, image.width / right, filter, true);
  return pass(rows, height, image.height / down, filter, false);
}

/** Take the pixel under each new pixel's middle. */
export function nearest(image: Pixels, width: number, height: number): Pixels {
  const { channels, data } = image;
  const columns = middles(image.width, width);
  const result = new Uint8Array(width * height * channels);
  let to = 0;
  for (const row of middles(image.height, height)) {
    for (const column of columns) {
      const from = (row * image.width + column) * channels;
      for (let channel = 0; channel < channels; channel++) result[to++] = data[from + channel];
    }
  }
  return { width, height, channels, data: result };
}

/** `Image.convert("L")` of red, green, blue. */
export function grey({ width, height, data }: Pixels): Pixels {
  const result = new Uint8Array(width * height);
  for (let to = 0, from = 0; to < result.length; to++, from += 3) {
    result[to] = (data[from] * 19595 + data[from + 1] * 38470 + data[from + 2] * 7471 + 0x8000) >> 16;
  }
  return { width, height, channels: 1, data: result };
}

/** Average blocks of `across` x `down` pixels; those at the right and lower edges may be smaller. */
export function reduce(image: Pixels, across: number, down: number): Pixels {
  if (across === 1 && down === 1) return image;
  const { channels, data } = image;
  const [width, height] = [Math.ceil(image.width / across), Math.ceil(image.height / down)];
  const result = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    const [top, bottom] = [y * down, Math.min((y + 1) * down, image.height)];
    for (let x = 0; x < width; x++) {
      const [left, right] = [x * across, Math.min((x + 1) * across, image.width)];
      const count = (bottom - top) * (right - left);
      const share = Math.trunc(Math.fround(2 ** 32 / (256 * count)));
      for (let channel = 0; channel < channels; channel++) {
        let sum = count >> 1;
        for (let row = top; row < bottom; row++) {
          for (let column = left; column < right; column++) sum += data[(row * image.width + column) * channels + channel];
        }
        result[to++] = Math.floor((sum * share) / 2 ** 24);
      }
    }
  }
  return { width, height, channels, data: result };
}

/** Make rows, or else columns, `size` pixels long; the old ones count as `length` long. */
function pass(image: Pixels, size: number, length: number, filter: Filter, rows: boolean): Pixels {
  const { channels, data, width, height } = image;
  const count = rows ? width : height;
  if (count === size && length === size) return image;
  const weights = Array.from({ length: size }, (_, at) => weigh(at, count, Math.fround(length) / size, filter));
  const made = rows ? { width: size, height } : { width, height: size };
  const result = new Uint8Array(made.width * made.height * channels);
  const step = rows ? channels : channels * width;
  for (let y = 0, to = 0; y < made.height; y++) {
    for (let x = 0; x < made.width; x++) {
      const { start, values } = weights[rows ? x : y];
      const first = start * step + (rows ? y * width : x) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 1 << (PRECISION - 1);
        for (let k = 0, from = first + channel; k < values.length; k++, from += step) sum += data[from] * values[k];
        result[to++] = Math.min(Math.max(sum >> PRECISION, 0), 255);
      }
    }
  }
  return { ...made, channels, data: result };
}

/** What the old pixels from `start` on, of `count`, count for the new one at `at`: whole numbers. */
function weigh(at: number, count: number, scale: number, filter: Filter): { start: number; values: Int32Array } {
  const wide = Math.max(scale, 1);
  const support = filter.support * wide;
  const centre = (at + 0.5) * scale;
  const start = Math.max(Math.trunc(centre - support + 0.5), 0);
  const length = Math.min(Math.trunc(centre + support + 0.5), count) - start;
  const shares = Array.from({ length }, (_, x) => filter.weigh((x + start - centre + 0.5) * (1 / wide)));
  const sum = shares.reduce((total, share) => total + share, 0) || 1;
  const values = shares.map((share) => Math.trunc((share / sum) * 2 ** PRECISION + (share < 0 ? -0.5 : 0.5)));
  return { start, values: Int32Array.from(values) };
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function middles(count: number, size: number): Int32Array {
  const scale = count / size;
  const places = new Int32Array(size);
  for (let at = 0, middle = scale / 2; at < size; at++, middle += scale) places[at] = middle;
  return places;
}
