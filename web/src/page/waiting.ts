/** What stands in the answer's place until it comes: the photo, and how far it is. */

import { element, thumbnail } from "./elements.ts";
import type { Bytes } from "./engines.ts";

/** Texts by stage. */
export interface Stages {
  loading: string;
  sending: string;
  looking: string;
}

export class Waiting {
  readonly nodes: Node[];
  readonly #text = element("span", {});
  readonly #bar = element("progress", { max: "1" });
  readonly #texts: Stages;

  constructor(texts: Stages, photo?: Blob) {
    this.#texts = texts;
    const label = element("label", { class: "waiting" }, this.#text, this.#bar);
    this.nodes = photo ? [label, thumbnail(photo)] : [label];
    this.at("looking");
  }

  /** Show a stage, and how many of its bytes are done, where that is known. */
  at(stage: keyof Stages, bytes?: Bytes): void {
    const share = bytes && `${Math.floor((100 * bytes.done) / bytes.total)} % of ${(bytes.total / 1e6).toFixed(1)} MB`;
    this.#text.textContent = this.#texts[stage] + (share ? `: ${share}` : "");
    if (bytes) this.#bar.value = bytes.done / bytes.total;
    else this.#bar.removeAttribute("value");
  }
}
