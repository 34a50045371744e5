import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { testSeed } from "../sim/random.ts";
import { runMany } from "./pool.ts";
import { perform, type Run, report, shrink, TRANSITIONS_PER_RUN } from "./session.ts";

const RUNS = 2_000;
const JOBS = 2;
const FIRST_SEED = 1;
const REGRESSIONS = new URL("regressions/", import.meta.url);

for (const file of readdirSync(REGRESSIONS).filter((name) => name.endsWith(".json"))) {
  test(`what failed once does not fail again: ${file}`, () => {
    const run = JSON.parse(readFileSync(new URL(file, REGRESSIONS), "utf8")) as Run;
    const failure = perform(run);
    assert.equal(failure && report(failure), undefined);
  });
}

test(`client, gateway and portal do what the reference says in ${RUNS} random runs`, async () => {
  // The same runs every time, so that a change is judged by itself; `run.ts` explores new ones.
  const firstSeed = process.env["SEED"] === undefined ? FIRST_SEED : testSeed();
  const { failure, runs } = await runMany({ firstSeed, runs: RUNS, length: TRANSITIONS_PER_RUN, jobs: JOBS });
  assert.equal(failure && report(shrink(failure)), undefined);
  assert.equal(runs, RUNS);
});
