/** What goes wrong and what to do about it, worded as Python's errors are. */

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
export function unreadable(problem: string, remedy = ""): SpectraDermError {
  return new SpectraDermError("UnreadablePhoto", `photo: ${problem}`, remedy);
}

export function damaged(): SpectraDermError {
  return unreadable("damaged or incomplete", "Save or download it again");
}

/** The site's model is incomplete or altered. */
export function unusableModel(problem: string, remedy = "Load the page again"): SpectraDermError {
  return new SpectraDermError("ModelFolderError", problem, remedy);
}
