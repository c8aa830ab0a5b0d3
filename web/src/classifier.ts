/** The site's model, loaded -> a `Prediction` for a photo, as Python's `serving/classifier.py`. */

import { judge, novelty, ranking } from "./calibration.ts";
import { type Answer, loadNetwork, type Network } from "./engine.ts";
import { MAX_DISTANCE, nearestHash, turnedHashes } from "./hashing.ts";
import { type Facts, type Learned, readFacts, readFile, readLearned } from "./model.ts";
import { type Prediction, unusable } from "./prediction.ts";
import { preprocess } from "./preprocessing.ts";
import { measure, whyUnusable } from "./quality.ts";
import { reason } from "./reasons.ts";
import type { Pixels } from "./resize.ts";

export class Classifier {
  readonly facts: Facts;
  readonly #network: Network;
  readonly #learned: Learned;

  private constructor(facts: Facts, network: Network, learned: Learned) {
    this.facts = facts;
    this.#network = network;
    this.#learned = learned;
  }

  /** Load the model of the site at `site`. Throws `ModelFolderError` where it is incomplete or altered. */
  static async load(site: URL): Promise<Classifier> {
    const folder = new URL("model/", site);
    const facts = await readFacts(folder);
    const onnx = readFile(folder, "model.onnx", facts);
    const [network, learned] = await Promise.all([
      loadNetwork(onnx, new URL("runtime/", site), facts.preprocessing.size),
      readLearned(folder, facts),
    ]);
    return new Classifier(facts, network, learned);
  }

  /** Answer once for nothing: a browser makes the model's code quick only while it runs. */
  async warmUp(): Promise<void> {
    await this.#network(new Uint8Array(3 * this.facts.preprocessing.size ** 2));
  }

  async predict(photo: Pixels): Promise<Prediction> {
    const { calibration, model_id, preprocessing } = this.facts;
    const why = whyUnusable(measure(photo), photo.width, photo.height);
    if (why !== null) return unusable(why, calibration.coverage, model_id);
    const answer = await this.#network(preprocess(photo, preprocessing));
    const seen = nearestHash(turnedHashes(photo), this.#learned.known) <= MAX_DISTANCE;
    return this.#judge(answer, seen);
  }

  #judge(answer: Answer, in_training: boolean): Prediction {
    const { calibration, display_names, labels, model_id } = this.facts;
    const strange = novelty(answer.features, this.#learned.references);
    const { probabilities, fits, verdict } = judge(calibration, answer.logits, strange);
    const order = ranking(probabilities);
    const fitting = order.filter((number) => fits[number]).map((number) => labels[number]);
    const label = labels[order[0]];
    const probability = probabilities[order[0]];
    const names = fitting.map((one) => display_names[one]);
    return {
      verdict,
      reason: reason(verdict, names, probability, calibration, labels.length),
      label,
      display_name: display_names[label],
      probability,
      probabilities: Object.fromEntries(order.map((number) => [labels[number], probabilities[number]])),
      prediction_set: fitting,
      coverage: calibration.coverage,
      novelty: strange,
      in_training,
      heatmap: heatmap(answer, order[0]),
      model_id,
    };
  }
}

function heatmap({ maps, rows, columns }: Answer, label: number): number[][] {
  const evidence = maps.subarray(label * rows * columns, (label + 1) * rows * columns);
  const peak = Math.max(...evidence, 0) || 1;
  const shares = Array.from(evidence, (value) => Math.round((Math.max(value, 0) / peak) * 1e4) / 1e4);
  return Array.from({ length: rows }, (_, row) => shares.slice(row * columns, (row + 1) * columns));
}
