/** What transformers.js makes of a model folder's `onnx/model.onnx`; `benchmarks/hub.py` calls it with a task, JSON. */

import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { AutoModelForImageClassification, AutoProcessor, env, pipeline, RawImage, Tensor } from "@huggingface/transformers";

const { classes, folder, photos, shape, pixel_values } = JSON.parse(readFileSync(process.argv[2], "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const [name, settings] = [basename(folder), { dtype: "fp32" }];
const model = await AutoModelForImageClassification.from_pretrained(name, settings);
const processor = await AutoProcessor.from_pretrained(name);
const classify = await pipeline("image-classification", name, settings);

const bytes = readFileSync(pixel_values);
const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const { logits } = await model({ pixel_values: new Tensor("float32", values, shape) });
const [own, scores] = [[], []];
for (const photo of photos) {
  own.push(...(await model(await processor(await RawImage.read(photo)))).logits.tolist());
  scores.push(Object.fromEntries((await classify(photo, { top_k: classes })).map(({ label, score }) => [label, score])));
}
const result = { tool: `transformers.js ${env.version}`, same: logits.tolist(), own, scores };
process.stdout.write(`${JSON.stringify([result])}\n`, () => process.exit(0));
