/** A prediction, or a refusal, as people read it: the verdict, the photo, what fits, each probability, the condition. */

import { type Condition, type Facts, type Prediction, SpectraDermError } from "../model.ts";
import { general, percent } from "../verdict.ts";
import { type Child, element, picture } from "./elements.ts";

/** What a screen reader says at once. */
export function spoken(prediction: Prediction, { words }: Facts): string {
  const name = prediction.verdict === "predicted" ? `: ${prediction.display_name}` : "";
  return `${words.verdicts[prediction.verdict].title}${name}. ${prediction.reason} ${words.notice}`;
}

/** The whole answer; no guess where the verdict gives none. */
export function answer(prediction: Prediction, photo: Blob, facts: Facts): Node[] {
  const { verdict, label } = prediction;
  const judged = verdict === "predicted" || verdict === "unsure";
  const condition = verdict === "predicted" && label !== null ? facts.conditions[label] : null;
  const parts: Node[] = [heading(prediction, facts)];
  if (condition?.urgent) parts.push(care(condition.urgent));
  parts.push(picture(photo, judged ? prediction : { ...prediction, heatmap: [] }, facts));
  if (judged) parts.push(predictionSet(prediction, facts), bars(prediction, facts));
  if (condition) {
    const title = facts.words.page.about.replace("{condition}", condition.name);
    parts.push(element("div", {}, element("h3", {}, title), ...about(condition)));
  }
  return [...parts, notice(facts)];
}

/** Why there is no answer. */
export function refusal(error: unknown, facts: Facts): Node[] {
  const refused = error instanceof SpectraDermError && error.name === "UnreadablePhoto";
  const { page } = facts.words;
  return [part("verdict", element("h2", {}, refused ? page.refused : page.no_answer), sentences(error)), notice(facts)];
}

/** An error's problem and remedy, as sentences. */
export function sentences(error: unknown): string {
  const text = (error instanceof Error ? error.message : String(error)).replace(/^photo: /, "").replace(/\.$/, "");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** Each condition that the model knows, to unfold. */
export function conditions({ labels, conditions, display_names }: Facts): Node[] {
  return labels.map((label) => {
    const condition = conditions[label];
    if (!condition) return element("p", {}, display_names[label]);
    const [lines, links] = about(condition);
    const urgent = condition.urgent ? [care(condition.urgent)] : [];
    return element("details", {}, element("summary", {}, condition.name), lines, ...urgent, links);
  });
}

function heading({ verdict, display_name, probability, reason, in_training }: Prediction, { words }: Facts): HTMLElement {
  const { title, means } = words.verdicts[verdict];
  const heading = element("h2", {}, title);
  if (verdict === "predicted") {
    const share = element("span", { class: "share" }, percent(probability ?? 0));
    heading.replaceChildren(element("span", { class: "before" }, title), ` ${display_name} `, share);
  }
  const known = in_training ? [care(words.in_training)] : [];
  return part("verdict", heading, reason, hint(means), ...known);
}

function predictionSet({ prediction_set, coverage }: Prediction, { words, display_names }: Facts): HTMLElement {
  const items = prediction_set.map((label) => element("li", {}, display_names[label]));
  const means = words.set.replace("{coverage}", general(100 * coverage));
  return part("beside", element("h3", {}, words.page.set), element("ul", { class: "set" }, ...items), hint(means));
}

function bars({ probabilities, prediction_set }: Prediction, { words, display_names }: Facts): HTMLElement {
  const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  const items = ranked.map(([label, share]) => {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${100 * share}%`;
    const track = element("span", { class: "track", "aria-hidden": "true" }, fill);
    const number = element("span", { class: "number" }, percent(share));
    const fits = prediction_set.includes(label) ? "fits" : "";
    return element("li", { class: fits }, element("span", {}, display_names[label]), track, number);
  });
  const { page } = words;
  const list = element("ul", { class: "bars" }, ...items);
  return part("beside", element("h3", {}, page.probabilities), list, hint(page.probabilities_mean));
}

function about({ name, lines, links }: Condition): [HTMLElement, HTMLElement] {
  const anchors = links.map(([who, href]) => {
    const attributes = { href, target: "_blank", rel: "noopener noreferrer" };
    return element("a", attributes, who, element("span", { class: "unseen" }, ` on ${name}`));
  });
  return [element("p", { class: "lines" }, lines.join(" ")), element("p", { class: "links" }, ...anchors)];
}

function notice({ words }: Facts): HTMLElement {
  const link = element("a", { href: "#doctor" }, words.doctor.title);
  return element("p", { class: "notice" }, element("strong", {}, words.notice), " ", link);
}

function care(text: string): HTMLElement {
  return element("p", { class: "care" }, text);
}

function hint(text: string): HTMLElement {
  return element("p", { class: "hint" }, text);
}

/** A part of the answer; bare text becomes a paragraph. */
function part(kind: string, ...children: Child[]): HTMLElement {
  return element("div", { class: kind }, ...children.map((one) => (typeof one === "string" ? element("p", {}, one) : one)));
}
