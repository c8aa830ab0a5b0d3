/** Perceptual hashes, as Python's `hashing.py`: a DCT hash (Zauner 2010) in all eight turns and flips. */

import { grey, LANCZOS, type Pixels, reduce, resize } from "./resize.ts";

/** Two photos are copies where at most this many of the 64 bits differ, in any turn. */
export const MAX_DISTANCE = 6;

const SIDE = 32;
const KEPT = 8;
const ENOUGH = 512;
const COSINES = Array.from({ length: KEPT }, (_, k) =>
  Array.from({ length: SIDE }, (_, n) => 2 * Math.cos((k * Math.PI * (2 * n + 1)) / (2 * SIDE))),
);

/** From a place in a turned picture to the place in the picture as it is, the first leaving it there. */
const TURNS: ((x: number, y: number) => [number, number])[] = [
  (x, y) => [x, y],
  (x, y) => [SIDE - 1 - x, y],
  (x, y) => [x, SIDE - 1 - y],
  (x, y) => [SIDE - 1 - y, x],
  (x, y) => [SIDE - 1 - x, SIDE - 1 - y],
  (x, y) => [y, SIDE - 1 - x],
  (x, y) => [y, x],
  (x, y) => [SIDE - 1 - y, SIDE - 1 - x],
];

/** The hashes, 8 bytes each, of a photo in all turns: 64 bytes. */
export function turnedHashes(image: Pixels): Uint8Array {
  const factor = Math.max(1, Math.floor(Math.min(image.width, image.height) / ENOUGH));
  const small = resize(grey(reduce(image, factor, factor)), SIDE, SIDE, LANCZOS).data;
  const hashes = new Uint8Array(TURNS.length * 8);
  TURNS.forEach((turn, number) => hashes.set(hash(small, turn), number * 8));
  return hashes;
}

/** How many bits a photo in its best turn differs from the nearest of known photos, 8 bytes each; 65 without any. */
export function nearestHash(hashes: Uint8Array, known: Uint8Array): number {
  let least = 65;
  for (let own = 0; own < hashes.length; own += 8) {
    for (let other = 0; other < known.length; other += 8) {
      let bits = 0;
      for (let byte = 0; byte < 8; byte++) bits += BITS[hashes[own + byte] ^ known[other + byte]];
      if (bits < least) least = bits;
    }
  }
  return least;
}

const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

function hash(small: Uint8Array, turn: (x: number, y: number) => [number, number]): Uint8Array {
  const low = lowFrequencies((x, y) => {
    const [column, row] = turn(x, y);
    return small[row * SIDE + column];
  });
  const sorted = Float64Array.from(low).sort();
  const middle = (sorted[31] + sorted[32]) / 2;
  const bytes = new Uint8Array(8);
  low.forEach((value, at) => {
    if (value > middle) bytes[at >> 3] |= 0x80 >> (at & 7);
  });
  return bytes;
}

/** The 8 x 8 lowest frequencies, down and across, rounded: rounding errors are no pattern. */
function lowFrequencies(level: (x: number, y: number) => number): Float64Array {
  const rows = COSINES.map((wave) =>
    Array.from({ length: SIDE }, (_, x) => wave.reduce((sum, value, y) => sum + value * level(x, y), 0)),
  );
  const low = rows.flatMap((row) => COSINES.map((wave) => wave.reduce((sum, value, x) => sum + value * row[x], 0)));
  return Float64Array.from(low, (value) => Math.round(value * 1e6) / 1e6);
}
