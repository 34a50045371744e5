// node tests/model/run.ts [--runs N] [--length N] [--jobs N] [--replay FILE]; SEED=… starts the runs at that seed.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { testSeed } from "../sim/random.ts";
import { runMany } from "./pool.ts";
import { perform, type Run, report, shrink, TRANSITIONS_PER_RUN } from "./session.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "100" },
    length: { type: "string", default: String(TRANSITIONS_PER_RUN) },
    jobs: { type: "string", default: "2" },
    replay: { type: "string" },
  },
});

if (values.replay !== undefined) {
  const failure = perform(JSON.parse(readFileSync(values.replay, "utf8")) as Run);
  console.log(failure === undefined ? "passed" : report(failure));
  process.exit(failure === undefined ? 0 : 1);
}

const firstSeed = testSeed();
const startedAt = performance.now();
const { failure, runs } = await runMany({
  firstSeed,
  runs: Number(values.runs),
  length: Number(values.length),
  jobs: Number(values.jobs),
});
const seconds = (performance.now() - startedAt) / 1000;
console.log(`${runs} runs from seed ${firstSeed} in ${seconds.toFixed(1)} s`);
if (failure !== undefined) {
  console.log(`failed: seed ${failure.seed}: ${failure.problem}\nshrinking…`);
  console.log(report(shrink(failure)));
  process.exit(1);
}
