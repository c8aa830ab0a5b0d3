/** A file's bytes -> upright red, green and blue, by the browser's own decoders. */

import { readHeader } from "./header.ts";
import { damaged, SpectraDermError, unreadable } from "./model.ts";
import { checkSize, decodingScale } from "./preprocessing.ts";
import { type Pixels, reduce } from "./resize.ts";

const QUALITY = 0.92; // of the JPEG that a large photo becomes
const HDR = new Set([8, 16, 18]); // linear, PQ and HLG, as a PNG numbers them
const BAND = 4_000_000; // pixels read at once: some browsers have no larger canvas

/**
 * Decode the first frame of a photo, for an input of `size` x `size` pixels: turned as its EXIF data says, in sRGB, its
 * transparent parts laid over white. Throws `UnreadablePhoto` where it can't be decoded safely.
 */
export async function decode(data: Uint8Array<ArrayBuffer>, size: number): Promise<Pixels> {
  const { type, width, height } = readHeader(data);
  const bitmap = await open(data, type);
  try {
    checkSize(bitmap.width, bitmap.height);
    return read(bitmap, type === "image/jpeg" ? decodingScale(width, height, size) : 1);
  } finally {
    bitmap.close();
  }
}

/** All of a photo's pixels, upright. Throws `UnreadablePhoto` where this browser can't decode it. */
async function open(data: Uint8Array<ArrayBuffer>, type: string): Promise<ImageBitmap> {
  refuseAlteredReading();
  const file = new Blob(type === "image/png" ? withUsualColours(data) : [data], { type });
  return createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" }).catch(() => {
    throw damaged();
  });
}

/**
 * A photo whose longest side is more than `longest`, turned and scaled down to it, as a JPEG without metadata. Any other
 * comes back as it is, and so does one that this browser can't decode or would alter: then a server has to judge it.
 */
export async function shrink(photo: Blob, longest: number): Promise<Blob> {
  const data = new Uint8Array(await photo.arrayBuffer().catch(() => {
    throw unreadable("can't be read", "Choose the file of a photo, not a folder");
  }));
  try {
    const { type, width, height } = readHeader(data);
    const scale = longest / Math.max(width, height);
    if (scale >= 1) return photo;
    const bitmap = await open(data, type);
    const context = canvas(Math.round(scale * bitmap.width), Math.round(scale * bitmap.height));
    context.fillStyle = "#fff";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    [context.imageSmoothingEnabled, context.imageSmoothingQuality] = [true, "high"];
    context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
    bitmap.close();
    return await context.canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  } catch {
    return photo;
  }
}

/**
 * A PNG less the chunks by which browsers, unlike Python's decoder, change its colours or show a moving picture in its
 * place. A gamma that is not sRGB's stays: both go by it. Throws `UnreadablePhoto` for light levels of HDR, as Python's
 * decoder does.
 */
function withUsualColours(data: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const parts = [data.subarray(0, 8)];
  for (let at = 8; at + 12 <= data.length; ) {
    const next = at + 12 + view.getUint32(at);
    const kind = String.fromCharCode(...data.subarray(at + 4, at + 8));
    if (kind === "IDAT") return [...parts, data.subarray(at)];
    if (kind === "cICP" && HDR.has(data[at + 9])) throw unreadable("a PNG of HDR light levels", "Save it in sRGB");
    const usual = kind === "gAMA" && Math.abs(view.getUint32(at + 8) * 2.2e-5 - 1) <= 0.05;
    if (!usual && !["cHRM", "cICP", "acTL"].includes(kind)) parts.push(data.subarray(at, next));
    at = next;
  }
  return parts;
}

/** The pixels, averaged over squares of `block` x `block`. */
function read(bitmap: ImageBitmap, block: number): Pixels {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.ceil(side / block));
  const rows = Math.max(block, Math.min(bitmap.height, block * Math.floor(BAND / bitmap.width / block)));
  const context = canvas(bitmap.width, rows);
  context.fillStyle = "#fff";
  const data = new Uint8Array(width * height * 3);
  for (let top = 0, filled = 0; top < bitmap.height; top += rows) {
    const band = { width: bitmap.width, height: Math.min(rows, bitmap.height - top), channels: 3 };
    context.fillRect(0, 0, band.width, band.height);
    context.drawImage(bitmap, 0, -top);
    const rgba = context.getImageData(0, 0, band.width, band.height).data;
    const opaque = new Uint8Array(band.width * band.height * 3);
    for (let from = 0, to = 0; to < opaque.length; from += from % 4 === 2 ? 2 : 1) opaque[to++] = rgba[from];
    const reduced = reduce({ ...band, data: opaque }, block, block).data;
    data.set(reduced, filled);
    filled += reduced.length;
  }
  return { width, height, channels: 3, data };
}

/** Some browsers add noise to pictures that pages read, against fingerprinting: the answer would be about the noise. */
function refuseAlteredReading(): void {
  const context = canvas(16, 16);
  const painted = context.createImageData(16, 16);
  painted.data.forEach((_, at) => (painted.data[at] = at % 4 === 3 ? 255 : (at * 89) % 256));
  context.putImageData(painted, 0, 0);
  const read = context.getImageData(0, 0, 16, 16).data;
  if (painted.data.every((level, at) => level === read[at])) return;
  throw new SpectraDermError(
    "AlteredReading",
    "This browser alters pictures before a page can read them, so the answer would be wrong",
    "Allow this page to read canvas data, or use another browser",
  );
}

function canvas(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new SpectraDermError("NoCanvas", "This browser gives no room to decode the photo", "Scale it down");
  context.imageSmoothingEnabled = false;
  return context;
}
