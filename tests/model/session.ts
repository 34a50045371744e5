// One run: a seed and transitions in, nothing or a failure out. And how a failure gets short.
import { SeededRandom } from "../sim/random.ts";
import { Runner } from "./runner.ts";
import { randomTransition, type Transition } from "./transitions.ts";

export const TRANSITIONS_PER_RUN = 10;

export interface Run {
  readonly seed: number;
  readonly transitions: readonly Transition[];
}

export interface Failure extends Run {
  readonly problem: string;
  readonly stack: string | undefined;
}

export function randomRun(seed: number, length = TRANSITIONS_PER_RUN): Run {
  const random = new SeededRandom(seed ^ 0x7ca11);
  return { seed, transitions: Array.from({ length }, () => randomTransition(random)) };
}

/** Anything that throws is a failure: the reference's complaints, and what product code throws. */
export function perform({ seed, transitions }: Run): Failure | undefined {
  const done: Transition[] = [];
  try {
    const runner = new Runner(seed);
    for (const transition of transitions) {
      done.push(transition);
      runner.apply(transition);
    }
    runner.finish();
    return undefined;
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { seed, transitions: done, problem, stack: error instanceof Error ? error.stack : undefined };
  }
}

/** Leaves out transitions, first many, then one by one, as long as the run fails; with any problem. */
export function shrink(failure: Failure, budgetMs = 60_000): Failure {
  const end = performance.now() + budgetMs;
  let best = failure;
  for (
    let size = Math.ceil(best.transitions.length / 2);
    size >= 1;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    for (let at = best.transitions.length - size; at >= 0 && performance.now() < end; at -= size) {
      const shorter = perform({ seed: best.seed, transitions: best.transitions.toSpliced(at, size) });
      if (shorter !== undefined) best = shorter;
    }
  }
  return best;
}

export function report({ seed, transitions, problem, stack }: Failure): string {
  const list = transitions.map((transition) => `  ${JSON.stringify(transition)}`).join(",\n");
  return `seed ${seed}: ${problem}\n${stack ?? ""}\n{ "seed": ${seed}, "transitions": [\n${list}\n] }`;
}
