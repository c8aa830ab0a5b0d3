/** What went wrong and what to do about it, worded as Python's errors are. */

export interface Failure {
  name: string;
  problem: string;
  remedy: string;
}

/** An expected failure. Its message is the problem and, where there is one, the remedy. */
export class SpectraDermError extends Error {
  readonly problem: string;
  readonly remedy: string;

  constructor(name: string, problem: string, remedy = "") {
    super(remedy ? `${problem}. ${remedy}` : problem);
    this.name = name;
    this.problem = problem;
    this.remedy = remedy;
  }
}

/** These bytes are not a photo that can be decoded safely here. */
export class UnreadablePhoto extends SpectraDermError {
  constructor(problem: string, remedy = "") {
    super("UnreadablePhoto", problem, remedy);
  }
}

/** The site's model is incomplete or altered. */
export class ModelFolderError extends SpectraDermError {
  constructor(problem: string, remedy = "Load the page again") {
    super("ModelFolderError", problem, remedy);
  }
}

/** An error as a message between threads. */
export function toFailure(error: unknown): Failure {
  if (error instanceof SpectraDermError) {
    return { name: error.name, problem: error.problem, remedy: error.remedy };
  }
  return { name: "Error", problem: error instanceof Error ? error.message : String(error), remedy: "" };
}

export function fromFailure({ name, problem, remedy }: Failure): SpectraDermError {
  return new SpectraDermError(name, problem, remedy);
}
