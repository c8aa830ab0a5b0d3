/** What a file says of itself before a pixel is decoded: its format and size, and that they are within bounds. */

import { damaged, unreadable } from "./errors.ts";
import { checkPixels, checkSize, MAX_BYTES } from "./preprocessing.ts";

export interface Header {
  type: "image/jpeg" | "image/png" | "image/webp" | "image/gif" | "image/bmp";
  width: number;
  height: number;
}

const HEIC = new Set(["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"]);
const PROGRESSIVE = new Set([0xc2, 0xc6, 0xca, 0xce]);
const MAX_SCANS = 64;
const MAX_SCANNED_PIXELS = 640_000_000;
const MAX_KEPT_VALUES = 96_000_000;

/** Read it. Throws `UnreadablePhoto` for what is too large, no photo, damaged, or beyond what browsers open. */
export function readHeader(data: Uint8Array): Header {
  refuseWhatBrowsersCannotOpen(data);
  if (data.length > MAX_BYTES) {
    throw unreadable(`${(data.length / 1e6).toFixed(0)} MB is more than ${MAX_BYTES / 1e6} MB`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  try {
    const header = read(data, view);
    checkSize(header.width, header.height);
    checkPixels(header.width * header.height, header.type.slice("image/".length).toUpperCase());
    return header;
  } catch (error) {
    if (error instanceof RangeError) throw damaged();
    throw error;
  }
}

function read(data: Uint8Array, view: DataView): Header {
  if (starts(data, "\xff\xd8\xff")) return jpeg(data, view);
  if (starts(data, "\x89PNG\r\n\x1a\n")) return { type: "image/png", width: view.getUint32(16), height: view.getUint32(20) };
  if (starts(data, "GIF8")) return { type: "image/gif", width: view.getUint16(6, true), height: view.getUint16(8, true) };
  if (starts(data, "RIFF") && text(data, 8) === "WEBP") return webp(data, view);
  if (starts(data, "BM")) return bmp(view);
  throw unreadable("not a photo in a known format", "Use JPEG, PNG, WEBP, GIF or BMP");
}

function refuseWhatBrowsersCannotOpen(data: Uint8Array): void {
  const tiff = starts(data, "II*\0") || starts(data, "MM\0*");
  if (!tiff && !(text(data, 4) === "ftyp" && HEIC.has(text(data, 8)))) return;
  throw unreadable(`browsers can't open ${tiff ? "TIFF" : "HEIC"} files`, "Save it as JPEG or PNG");
}

/** From segment to segment to the first scan. */
function jpeg(data: Uint8Array, view: DataView): Header {
  let frame = 0;
  for (let at = 2; ; ) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff || marker === 0xff) at++;
    else if (marker === 0xda) {
      if (!frame) throw damaged();
      const header: Header = { type: "image/jpeg", width: view.getUint16(frame + 7), height: view.getUint16(frame + 5) };
      checkScans(data, view, { frame, scan: at }, header);
      return header;
    } else if (isBare(marker)) at += 2;
    else {
      if (isFrame(marker)) frame = at;
      at += 2 + Math.max(view.getUint16(at + 2), 2);
    }
  }
}

function isBare(marker: number): boolean {
  return marker === 0 || marker === 1 || marker === 0xc8 || (marker >= 0xd0 && marker <= 0xd9) || (marker >= 0xf0 && marker <= 0xfd);
}

function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
}

/** A scan of all colours ends a JPEG, unless it is progressive; else any number of them may follow. */
function checkScans(data: Uint8Array, view: DataView, at: { frame: number; scan: number }, { width, height }: Header): void {
  const colours = view.getUint8(at.frame + 9);
  if (!PROGRESSIVE.has(view.getUint8(at.frame + 1)) && view.getUint8(at.scan + 4) >= colours) return;
  const scans = countScans(data);
  if (scans > MAX_SCANS || scans * width * height > MAX_SCANNED_PIXELS) {
    const problem = `a JPEG of ${scans} scans of ${width}x${height} pixels is more than is decoded`;
    throw unreadable(problem, "Save it again with another program");
  }
  if (width * height * colours > MAX_KEPT_VALUES) {
    const most = Math.floor(MAX_KEPT_VALUES / colours / 1e6);
    const remedy = "Scale it down, or save it without `progressive`";
    throw unreadable(`a progressive JPEG of more than ${most} megapixels`, remedy);
  }
}

function countScans(data: Uint8Array): number {
  let count = 0;
  for (let at = data.indexOf(0xff); at >= 0; at = data.indexOf(0xff, at + 1)) count += data[at + 1] === 0xda ? 1 : 0;
  return count;
}

function webp(data: Uint8Array, view: DataView): Header {
  const type = "image/webp";
  const kind = text(data, 12);
  if (kind === "VP8X") {
    const side = (at: number): number => 1 + (view.getUint16(at, true) | (view.getUint8(at + 2) << 16));
    return { type, width: side(24), height: side(27) };
  }
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return { type, width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
  }
  if (kind !== "VP8 ") throw damaged();
  return { type, width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
}

function bmp(view: DataView): Header {
  const type = "image/bmp";
  if (view.getUint32(14, true) === 12) return { type, width: view.getUint16(18, true), height: view.getUint16(20, true) };
  return { type, width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)) };
}

function text(data: Uint8Array, at: number): string {
  return String.fromCharCode(...data.subarray(at, at + 4));
}

function starts(data: Uint8Array, with_: string): boolean {
  return [...with_].every((letter, at) => data[at] === letter.charCodeAt(0));
}
