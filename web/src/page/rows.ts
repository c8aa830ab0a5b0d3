/** Several photos: a row each, and all of them as a CSV file. */

import type { Facts, Prediction } from "../model.ts";
import { NAMED, percent } from "../verdict.ts";
import { sentences } from "./answer.ts";
import { element, thumbnail } from "./elements.ts";
import type { Waiting } from "./waiting.ts";

/** What became of a photo: nothing yet, a prediction, or why there is none. */
export interface Row {
  path: string;
  photo: Blob;
  prediction?: Prediction;
  error?: unknown;
}

/** The rows on the page. */
export class Rows {
  readonly nodes: Node[];
  readonly #rows: Row[];
  readonly #facts: Facts;
  readonly #items: HTMLElement[];
  readonly #count = element("h2", {});
  readonly #save = element("button", { type: "button", hidden: "" });

  constructor(rows: Row[], facts: Facts) {
    [this.#rows, this.#facts] = [rows, facts];
    this.#items = rows.map(({ path, photo }) => {
      const name = element("p", { class: "path" }, path);
      return element("li", {}, thumbnail(photo), element("div", {}, name, element("div")));
    });
    this.#save.textContent = facts.words.page.save;
    this.#save.addEventListener("click", () => save(csv(rows, facts.labels)));
    const list = element("ol", { class: "rows" }, ...this.#items);
    this.nodes = [this.#count, this.#save, list, element("p", { class: "notice" }, facts.words.notice)];
    this.tell();
  }

  /** Show that a photo is looked at. */
  wait(number: number, waiting: Waiting): void {
    this.#place(number, waiting.nodes);
  }

  /** Show what became of a photo. */
  done(number: number): void {
    const { prediction, error } = this.#rows[number];
    this.#place(number, prediction ? short(prediction, this.#facts) : [element("p", { class: "failed" }, sentences(error))]);
    this.tell();
  }

  /** How many are done, for the heading and screen readers. */
  tell(): string {
    const done = this.#rows.filter(({ prediction, error }) => prediction || error).length;
    const text = this.#facts.words.page.done.replace("{done}", String(done)).replace("{count}", String(this.#rows.length));
    this.#count.textContent = text;
    this.#save.hidden = done < this.#rows.length;
    return text;
  }

  #place(number: number, nodes: Node[]): void {
    this.#items[number].querySelector("div > div")?.replaceChildren(...nodes);
  }
}

/** The verdict, and the likeliest where there are any. */
function short(prediction: Prediction, { words, display_names }: Facts): Node[] {
  const { verdict, display_name, prediction_set, probabilities, in_training, reason } = prediction;
  const { title } = words.verdicts[verdict];
  if (verdict === "predicted") {
    const care = in_training ? ` ${words.in_training}` : "";
    return [element("p", { class: "judged" }, `${title} ${display_name}`), element("p", { class: "hint" }, reason + care)];
  }
  const named = prediction_set.slice(0, NAMED).map((label) => `${display_names[label]} (${percent(probabilities[label])})`);
  const why = verdict === "unsure" ? named.join(", ") : reason;
  return [element("p", { class: "judged" }, title), element("p", { class: verdict === "unsure" ? "" : "hint" }, why)];
}

/** The columns of `spectraderm predict --format csv`, then `error` and `remedy`, which are empty where there is none. */
export function csv(rows: Row[], labels: string[]): string {
  const fields = ["verdict", "reason", "label", "display_name", "probability", "prediction_set", "coverage"] as const;
  const more = ["calibrated_on", "novelty", "in_training"] as const;
  const head = ["path", ...fields, ...more, ...labels.map((label) => `probability:${label}`), "model_id", "error", "remedy"];
  const lines = rows.map(({ path, prediction, error }) => {
    const value = (name: keyof Prediction) => prediction?.[name];
    const shares = labels.map((label) => prediction?.probabilities[label]);
    const { problem, remedy } = (error ?? {}) as { problem?: string; remedy?: string };
    const failed = error ? (problem ?? String(error)).replace(/^photo: /, "") : "";
    return [path, ...fields.map(value), ...more.map(value), ...shares, value("model_id"), failed, remedy];
  });
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\n`).join("");
}

/** What a spreadsheet would take for a formula becomes text, and what is no letter is spelled: as `printable.cell`. */
function cell(value: unknown): string {
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean") return value ? "True" : "False"; // as Python writes them
  const text = Array.isArray(value) ? value.map((one) => quoted(one, /[";\n\r]/)).join(";") : String(value ?? "");
  const spelled = text.replace(/(?![\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]/gu, (letter) => {
    const code = letter.codePointAt(0) ?? 0;
    const hex = code.toString(16);
    if (code < 256) return { 9: "\\t", 10: "\\n", 13: "\\r" }[code] ?? `\\x${hex.padStart(2, "0")}`;
    return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
  });
  const number = /^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$/.test(spelled);
  const safe = number ? spelled : spelled.replace(/(^|;)(?=[\s'"]*[=+\-@\uff1d\uff0b\uff0d\uff20]\s*\S)/g, "$1'");
  return quoted(safe, /[",\n\r]/);
}

function quoted(text: string, ending: RegExp): string {
  return ending.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(text: string): void {
  const blob = new Blob(["\ufeff", text], { type: "text/csv" }); // with the mark by which spreadsheets know UTF-8
  const link = element("a", { href: URL.createObjectURL(blob), download: "predictions.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
