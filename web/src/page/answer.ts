/** A prediction, or a refusal, as people read it: the verdict, the photo, the likeliest, the rest folded, the condition. */

import { type Condition, type Facts, type Prediction, SpectraDermError } from "../model.ts";
import { general, NAMED, OTHER, percent } from "../verdict.ts";
import { type Child, element, picture, thumbnail } from "./elements.ts";

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
  if (verdict === "unsure") parts.push(likeliest(prediction, facts));
  if (judged) parts.push(all(prediction, facts));
  if (condition) {
    const title = facts.words.page.about.replace("{condition}", condition.name);
    parts.push(element("div", {}, element("h3", {}, title), ...about(condition)));
  }
  return [...parts, notice(facts)];
}

/** Why there is no answer. */
export function refusal(error: unknown, photo: Blob | null, facts: Facts): Node[] {
  const refused = error instanceof SpectraDermError && error.name === "UnreadablePhoto";
  const { page } = facts.words;
  const why = part("verdict", element("h2", {}, refused ? page.refused : page.no_answer), sentences(error));
  return [...(photo ? [thumbnail(photo)] : []), why, notice(facts)];
}

/** An error's problem and remedy, as sentences. */
export function sentences(error: unknown): string {
  const text = (error instanceof Error ? error.message : String(error)).replace(/^photo: /, "").replace(/\.$/, "");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** The classes that are conditions. */
function known(labels: string[]): string[] {
  return labels.filter((label) => label !== OTHER);
}

/** Each condition that the model knows, to unfold. */
export function conditions({ labels, conditions, display_names }: Facts): Node[] {
  return known(labels).map((label) => {
    const condition = conditions[label];
    if (!condition) return element("p", {}, display_names[label]);
    const [lines, links] = about(condition);
    const urgent = condition.urgent ? [care(condition.urgent)] : [];
    return element("details", {}, element("summary", {}, condition.name), lines, ...urgent, links);
  });
}

/** The verdict and why, in words. Of percentages it has none: those of a promise and of a guess would compete. */
function heading(prediction: Prediction, { words, judged }: Facts): HTMLElement {
  const { verdict, display_name, reason, in_training, calibrated_on } = prediction;
  const { title, means } = words.verdicts[verdict];
  const heading = element("h2", {}, title);
  if (verdict === "predicted") heading.replaceChildren(element("span", { class: "before" }, title), ` ${display_name}`);
  const why = verdict === "unsure" ? means : reason; // its reason has the numbers that stand beside the bars
  const rests = verdict === "unusable_photo" ? words.verdicts[verdict].means : judged[calibrated_on];
  return part("verdict", heading, why, hint(rests), ...(in_training ? [care(words.in_training)] : []));
}

/** The two or three likeliest, and the list that holds the right one as often as its coverage says. */
function likeliest(prediction: Prediction, { words, display_names }: Facts): HTMLElement {
  const { prediction_set, coverage, calibrated_on } = prediction;
  const names = prediction_set.map((label) => display_names[label]).join(", ");
  const means = words.set[calibrated_on].replace("{coverage}", general(100 * coverage)).replace("{list}", names);
  const title = element("h3", {}, words.page.likeliest);
  const shown = bars(prediction, prediction_set.slice(0, NAMED), display_names);
  return part("beside", title, shown, hint(words.chances[calibrated_on]), element("p", { class: "set" }, means));
}

/** Every condition, to unfold. */
function all(prediction: Prediction, { words, labels, display_names }: Facts): HTMLElement {
  const title = words.page.probabilities.replace("{count}", String(known(labels).length));
  const list = bars(prediction, Object.keys(prediction.probabilities), display_names);
  const summary = element("summary", {}, title);
  return part("beside", element("details", {}, summary, list, hint(words.chances[prediction.calibrated_on])));
}

function bars({ probabilities, prediction_set }: Prediction, shown: string[], names: Record<string, string>): HTMLElement {
  const ranked = shown.map((label): [string, number] => [label, probabilities[label]]).sort(([, a], [, b]) => b - a);
  const items = ranked.map(([label, share]) => {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${100 * share}%`;
    const track = element("span", { class: "track", "aria-hidden": "true" }, fill);
    const number = element("span", { class: "number" }, percent(share));
    const fits = prediction_set.includes(label) ? "fits" : "";
    return element("li", { class: fits }, element("span", {}, names[label]), track, number);
  });
  return element("ul", { class: "bars" }, ...items);
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
