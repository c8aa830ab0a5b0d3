/** A prediction, or a refusal, as people read it. The order is that of all of SpectraDerm's pages. */

import { SpectraDermError } from "../errors.ts";
import type { Condition, Facts, Prediction } from "../model.ts";
import { general, percent } from "../verdict.ts";
import { type Child, element } from "./elements.ts";

/** What a screen reader is told at once. */
export function spoken(said: Prediction, { words }: Facts): string {
  return `${words.verdicts[said.verdict].title}${name(said, ": ")}. ${said.reason} ${words.notice}`;
}

/** The whole answer; `seen` is the photo. */
export function answer(said: Prediction, seen: HTMLElement, facts: Facts): Node[] {
  const judged = said.verdict === "predicted" || said.verdict === "unsure";
  const condition = said.verdict === "predicted" && said.label !== null ? facts.conditions[said.label] : null;
  const parts: Node[] = [verdict(said, facts)];
  if (condition?.urgent) parts.push(element("p", { class: "care" }, condition.urgent));
  parts.push(seen);
  if (judged) parts.push(fitting(said, facts), bars(said, facts));
  if (condition) {
    const title = facts.words.page.about.replace("{condition}", condition.name);
    parts.push(part("", element("h3", {}, title), ...lines(condition)));
  }
  return [...parts, notice(facts)];
}

/** Why there is no answer: an error's problem and remedy as sentences. */
export function refusal(error: unknown, { words }: Pick<Facts, "words">): Node[] {
  const refused = error instanceof SpectraDermError && error.name === "UnreadablePhoto";
  const title = refused ? words.page.refused : words.page.no_answer;
  return [part("verdict", element("h2", {}, title), element("p", {}, sentences(error))), notice({ words })];
}

export function sentences(error: unknown): string {
  const parts = error instanceof SpectraDermError ? [error.problem.replace(/^photo: /, ""), error.remedy] : [String(error)];
  const found = parts.map((text) => text.trim().replace(/\.$/, "")).filter(Boolean);
  return found.map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`).join(" ");
}

/** Each condition that the model knows, to unfold. */
export function conditions({ labels, conditions, display_names }: Facts): Node[] {
  return labels.map((label) => {
    const condition = conditions[label];
    if (!condition) return element("p", {}, display_names[label]);
    return element("details", {}, element("summary", {}, condition.name), ...about(condition));
  });
}

function verdict(said: Prediction, { words }: Facts): HTMLElement {
  const { title, means } = words.verdicts[said.verdict];
  const heading = element("h2", {}, title);
  if (said.verdict === "predicted") {
    const share = element("span", { class: "share" }, percent(said.probability ?? 0));
    heading.replaceChildren(element("span", { class: "before" }, title), ` ${said.display_name} `, share);
  }
  const lines: Child[] = [heading, element("p", {}, said.reason), element("p", { class: "hint" }, means)];
  if (said.in_training) lines.push(element("p", { class: "care" }, words.in_training));
  return part("verdict", ...lines);
}

function bars(said: Prediction, { words, display_names }: Facts): HTMLElement {
  const ranked = Object.entries(said.probabilities).sort(([, a], [, b]) => b - a);
  const list = element("ul", { class: "bars" }, ...ranked.map(([label, share]) => {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${100 * share}%`;
    return element(
      "li",
      { class: said.prediction_set.includes(label) ? "fits" : "" },
      element("span", {}, display_names[label]),
      element("span", { class: "track", "aria-hidden": "true" }, fill),
      element("span", { class: "number" }, percent(share)),
    );
  }));
  const means = element("p", { class: "hint" }, words.page.probabilities_mean);
  return part("beside", element("h3", {}, words.page.probabilities), list, means);
}

function fitting(said: Prediction, { words, display_names }: Facts): HTMLElement {
  const list = element("ul", { class: "set" }, ...said.prediction_set.map((label) => element("li", {}, display_names[label])));
  const means = words.set.replace("{coverage}", general(100 * said.coverage));
  return part("beside", element("h3", {}, words.page.set), list, element("p", { class: "hint" }, means));
}

function about(condition: Condition): Node[] {
  const parts = lines(condition);
  if (condition.urgent) parts.splice(1, 0, element("p", { class: "care" }, condition.urgent));
  return parts;
}

function lines({ name, lines, links }: Condition): Node[] {
  const anchors = links.map(([who, href]) => {
    const attributes = { href, target: "_blank", rel: "noopener noreferrer" };
    return element("a", attributes, who, element("span", { class: "unseen" }, ` on ${name}`));
  });
  return [element("p", { class: "lines" }, lines.join(" ")), element("p", { class: "links" }, ...anchors)];
}

function notice({ words }: Pick<Facts, "words">): HTMLElement {
  const link = element("a", { href: "#doctor" }, words.doctor.title);
  return element("p", { class: "notice" }, element("strong", {}, words.notice), " ", link);
}

function part(kind: string, ...children: Child[]): HTMLElement {
  return element("div", kind ? { class: kind } : {}, ...children);
}

function name(said: Prediction, before: string): string {
  return said.verdict === "predicted" ? `${before}${said.display_name}` : "";
}
