/** A DCT hash (Zauner 2010) in all turns and flips, as Python's `perceptual_hash.py`, in whole numbers, to the bit. */

import { grey, LANCZOS, type Pixels, reduce, resize } from "./resize.ts";

/** Two photos are copies where at most this many of the 64 bits differ, in any turn. */
export const MAX_DISTANCE = 6;

const SIDE = 32;
const KEPT = 8;
const ENOUGH = 512;
/** In units of 2^-20, as in Python. */
const COSINES = Array.from({ length: KEPT }, (_, wave) =>
  Array.from({ length: SIDE }, (_, at) => Math.round(2 ** 20 * Math.cos((Math.PI / (2 * SIDE)) * wave * (2 * at + 1)))),
);

/**
 * The turns: whether a turned picture's frequencies, 8 down and 8 across, are the picture's transposed, and whether
 * those of odd `down` and of odd `across` have the other sign, as a flip gives them.
 */
const TURNS = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 0, 0], [1, 1, 1]];

/** The hashes, 8 bytes each, of a photo in all turns: 64 bytes. */
export function turnedHashes(image: Pixels): Uint8Array {
  const factor = Math.max(1, Math.floor(Math.min(image.width, image.height) / ENOUGH));
  const low = lowFrequencies(resize(grey(reduce(image, factor, factor)), SIDE, SIDE, LANCZOS).data);
  const hashes = new Uint8Array(TURNS.length * KEPT);
  TURNS.forEach((turn, number) => hashes.set(hash(low, turn), number * KEPT));
  return hashes;
}

/** How many bits a photo in its best turn differs from the nearest of others, 8 bytes each; 65 without any. */
export function nearestHash(hashes: Uint8Array, others: Uint8Array): number {
  let least = 65;
  for (let at = 0; at < hashes.length; at += 8) {
    for (let other = 0; other < others.length; other += 8) {
      let bits = 0;
      for (let byte = 0; byte < 8; byte++) bits += BITS[hashes[at + byte] ^ others[other + byte]];
      if (bits < least) least = bits;
    }
  }
  return least;
}

const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

function hash(low: bigint[], [transposed, flipDown, flipAcross]: number[]): Uint8Array {
  const turned = low.map((_, at) => {
    const [down, across] = [at >> 3, at & 7];
    const value = low[transposed ? across * KEPT + down : at];
    return (down * flipDown + across * flipAcross) & 1 ? -value : value;
  });
  const sorted = BigInt64Array.from(turned).sort();
  const twiceMedian = sorted[31] + sorted[32];
  const bytes = new Uint8Array(KEPT);
  turned.forEach((value, at) => {
    if (2n * value > twiceMedian) bytes[at >> 3] |= 0x80 >> (at & 7);
  });
  return bytes;
}

/** The 8 x 8 lowest frequencies, down and across, in units of 2^-40: too many digits for `number`. */
function lowFrequencies(small: Uint8Array): bigint[] {
  const rows = COSINES.map((wave) =>
    Array.from({ length: SIDE }, (_, x) => BigInt(wave.reduce((sum, value, y) => sum + value * small[y * SIDE + x], 0))),
  );
  const waves = COSINES.map((wave) => wave.map(BigInt));
  return rows.flatMap((row) => waves.map((wave) => wave.reduce((sum, value, x) => sum + value * row[x], 0n)));
}
