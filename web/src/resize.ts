/** Pillow's `Image.resize` and `Image.reduce` on 8-bit pictures, to the bit: the model saw pictures made by them. */

/** A picture, row by row; each pixel has `channels` bytes: red, green, blue, or grey alone. */
export interface Pixels {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array;
}

export interface Filter {
  /** Half its width, in pixels of the smaller picture. */
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
  let [small, across, down] = [image, image.width, image.height];
  if (gap) {
    const blocks = [image.width / width, image.height / height].map((scale) => Math.trunc(scale / gap) || 1);
    [small, across, down] = [reduce(image, blocks[0], blocks[1]), across / blocks[0], down / blocks[1]];
  }
  if (small.width !== width || across !== width) {
    small = pass(small, weights(small.width, across, width, filter), { width, height: small.height }, true);
  }
  if (small.height !== height || down !== height) {
    small = pass(small, weights(small.height, down, height, filter), { width, height }, false);
  }
  return small;
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

interface Weights {
  starts: Int32Array;
  counts: Int32Array;
  /** `stride` whole numbers for each new pixel. */
  values: Int32Array;
  stride: number;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Of each of `size` new pixels, the old ones that it is made of; the old picture counts as `length` of `count`. */
function weights(count: number, length: number, size: number, filter: Filter): Weights {
  const scale = Math.fround(length) / size;
  const wide = Math.max(scale, 1);
  const support = filter.support * wide;
  const stride = Math.ceil(support) * 2 + 1;
  const result = { starts: new Int32Array(size), counts: new Int32Array(size), stride };
  const values = new Int32Array(size * stride);
  for (let at = 0; at < size; at++) {
    const centre = (at + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const held = Math.min(Math.trunc(centre + support + 0.5), count) - start;
    const shares = Array.from({ length: held }, (_, x) => filter.weigh((x + start - centre + 0.5) * (1 / wide)));
    const sum = shares.reduce((total, share) => total + share, 0) || 1;
    shares.forEach((share, x) => {
      const scaled = (share / sum) * 2 ** PRECISION;
      values[at * stride + x] = Math.trunc(share < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    result.starts[at] = start;
    result.counts[at] = held;
  }
  return { ...result, values };
}

function pass(image: Pixels, by: Weights, size: { width: number; height: number }, rows: boolean): Pixels {
  const { channels, data } = image;
  const result = new Uint8Array(size.width * size.height * channels);
  const step = rows ? channels : channels * image.width;
  for (let y = 0, to = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++) {
      const at = rows ? x : y;
      const first = by.starts[at] * step + (rows ? y * image.width * channels : x * channels);
      for (let channel = 0; channel < channels; channel++) {
        let sum = 1 << (PRECISION - 1);
        let from = first + channel;
        const end = at * by.stride + by.counts[at];
        for (let k = at * by.stride; k < end; k++, from += step) sum += data[from] * by.values[k];
        const level = sum >> PRECISION;
        result[to++] = level < 0 ? 0 : level > 255 ? 255 : level;
      }
    }
  }
  return { ...size, channels, data: result };
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

function middles(count: number, size: number): Int32Array {
  const scale = count / size;
  const found = new Int32Array(size);
  for (let at = 0, middle = scale / 2; at < size; at++, middle += scale) found[at] = middle;
  return found;
}
