/** What a file says of itself before a pixel is decoded: its format and size, and that they are within bounds. */

import { damaged, unreadable } from "./model.ts";
import { checkSize } from "./preprocessing.ts";

export interface Header {
  type: "image/jpeg" | "image/png" | "image/webp" | "image/gif" | "image/bmp";
  width: number;
  height: number;
}

const MAX_BYTES = 100_000_000;
const HEIC = new Set(["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"]);
const PROGRESSIVE = new Set([0xc2, 0xc6, 0xca, 0xce]);
const MAX_SCANS = 64;
const MAX_SCANNED_PIXELS = 640_000_000;
const MAX_KEPT_VALUES = 96_000_000;

/** Read it. Throws `UnreadablePhoto` for what is too large, no photo, damaged, or beyond what browsers open. */
export function readHeader(data: Uint8Array): Header {
  const text = (from: number, to: number) => String.fromCharCode(...data.subarray(from, to));
  const tiff = ["II*\0", "MM\0*"].includes(text(0, 4));
  if (tiff || (text(4, 8) === "ftyp" && HEIC.has(text(8, 12)))) {
    throw unreadable(`browsers can't open ${tiff ? "TIFF" : "HEIC"} files`, "Save it as JPEG or PNG");
  }
  if (data.length > MAX_BYTES) {
    throw unreadable(`${(data.length / 1e6).toFixed(0)} MB is more than ${MAX_BYTES / 1e6} MB`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  try {
    if (text(0, 3) === "\xff\xd8\xff") return jpeg(data, view);
    if (text(0, 8) === "\x89PNG\r\n\x1a\n") return checked("image/png", view.getUint32(16), view.getUint32(20));
    if (text(0, 4) === "GIF8") return checked("image/gif", view.getUint16(6, true), view.getUint16(8, true));
    if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return webp(view, text(12, 16));
    if (text(0, 2) === "BM") {
      const short = view.getUint32(14, true) === 12; // sides of 16 bits; else of 32, negative where it is upside down
      const sides = short ? [18, 20].map((at) => view.getUint16(at, true)) : [18, 22].map((at) => view.getInt32(at, true));
      return checked("image/bmp", Math.abs(sides[0]), Math.abs(sides[1]));
    }
  } catch (error) {
    throw error instanceof RangeError ? damaged() : error;
  }
  throw unreadable("not a photo in a known format", "Use JPEG, PNG, WEBP, GIF or BMP");
}

function checked(type: Header["type"], width: number, height: number): Header {
  checkSize(width, height, type);
  return { type, width, height };
}

/** By the kind of its first chunk: sides less one of 24 or 14 bits, or sides of 14 bits. */
function webp(view: DataView, kind: string): Header {
  if (kind === "VP8X") {
    const [width, height] = [24, 27].map((at) => 1 + (view.getUint16(at, true) | (view.getUint8(at + 2) << 16)));
    return checked("image/webp", width, height);
  }
  if (kind === "VP8 ") return checked("image/webp", view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  if (kind !== "VP8L") throw damaged();
  const bits = view.getUint32(21, true);
  return checked("image/webp", 1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff));
}

/** From segment to segment to the first scan. */
function jpeg(data: Uint8Array, view: DataView): Header {
  let [frame, space] = [0, "RGB "];
  for (let at = 2; ; ) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff || marker === 0xff) at++;
    else if (marker === 0xda) {
      if (!frame) throw damaged();
      const header = checked("image/jpeg", view.getUint16(frame + 7), view.getUint16(frame + 5));
      checkScans(data, view, { frame, scan: at }, header);
      if (!["RGB ", "GRAY"].includes(space) && (space !== "CMYK" || view.getUint8(frame + 9) === 4)) {
        throw unreadable(`browsers can't go by its profile of ${space.trim()} colours`, "Save it as 8-bit RGB in sRGB");
      }
      return header;
    } else if (marker < 2 || marker === 0xc8 || (marker >= 0xd0 && marker <= 0xd9) || (marker >= 0xf0 && marker < 0xfe)) {
      at += 2; // stands alone
    } else {
      if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xcc) frame = at;
      const text = marker === 0xe2 ? String.fromCharCode(...data.subarray(at + 4, at + 58)) : "";
      if (text.startsWith("ICC_PROFILE\0\x01") && text.slice(50, 54) === "acsp") space = text.slice(30, 34);
      at += 2 + Math.max(view.getUint16(at + 2), 2);
    }
  }
}

/** A scan of all colours ends a JPEG, unless it is progressive; else any number of them may follow. */
function checkScans(data: Uint8Array, view: DataView, at: { frame: number; scan: number }, { width, height }: Header): void {
  const colours = view.getUint8(at.frame + 9);
  if (!PROGRESSIVE.has(view.getUint8(at.frame + 1)) && view.getUint8(at.scan + 4) >= colours) return;
  let scans = 0;
  for (let byte = data.indexOf(0xff); byte >= 0; byte = data.indexOf(0xff, byte + 1)) scans += Number(data[byte + 1] === 0xda);
  if (scans > MAX_SCANS || scans * width * height > MAX_SCANNED_PIXELS) {
    const problem = `a JPEG of ${scans} scans of ${width}x${height} pixels is more than is decoded`;
    throw unreadable(problem, "Save it again with another program");
  }
  if (width * height * colours > MAX_KEPT_VALUES) {
    const most = Math.floor(MAX_KEPT_VALUES / colours / 1e6);
    throw unreadable(`a progressive JPEG of more than ${most} megapixels`, "Scale it down, or save it without `progressive`");
  }
}
