import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeCheck } from "../../../host/core/ice/binding.ts";
import {
  type CheckTimings,
  CLIENT_IDLE_TIMINGS,
  CLIENT_TIMINGS,
  GATEWAY_IDLE_TIMINGS,
  GATEWAY_TIMINGS,
} from "../../../host/core/ice/pair.ts";
import { AgentHarness, CLIENT_ICE, GATEWAY_ICE, remote } from "./harness.ts";

const HOST = "10.0.0.1:52625";
const PEER = "203.0.113.9:40000";

interface Row {
  readonly name: string;
  readonly timings: CheckTimings;
  /** First sends, then a step that repeats until the pair is given up. */
  readonly ramp: readonly number[];
  readonly dark: readonly number[];
  readonly step: number;
  readonly attempts: number;
  readonly silentUntil: number;
  readonly darkUntil: number;
}

// connectivity 8.5, second table
const TABLE: readonly Row[] = [
  {
    name: "client",
    timings: CLIENT_TIMINGS,
    ramp: [0, 250, 750, 1750, 3250],
    dark: [0, 1500, 2000, 3000, 4500],
    step: 1500,
    attempts: 12,
    silentUntil: 15_250,
    darkUntil: 16_500,
  },
  {
    name: "idle client",
    timings: CLIENT_IDLE_TIMINGS,
    ramp: [0],
    dark: [0],
    step: 25_000,
    attempts: 4,
    silentUntil: 100_000,
    darkUntil: 100_000,
  },
  {
    name: "gateway",
    timings: GATEWAY_TIMINGS,
    ramp: [0, 250, 750, 1750, 3750, 7750, 15_750],
    dark: [0, 15_000, 15_500, 16_500, 18_500, 22_500, 30_500],
    step: 15_000,
    attempts: 45,
    silentUntil: 600_750,
    darkUntil: 615_500,
  },
  {
    name: "idle gateway",
    timings: GATEWAY_IDLE_TIMINGS,
    ramp: [0],
    dark: [0],
    step: 25_000,
    attempts: 40,
    silentUntil: 1_000_000,
    darkUntil: 1_000_000,
  },
];

for (const row of TABLE) {
  test(`${row.name}: checks a silent peer on its schedule, then gives up (connectivity 17.21)`, () => {
    const harness = withPair(row.timings);
    harness.runTo(row.silentUntil - 1);
    assert.equal(harness.agent.pairs.length, 1);
    harness.runTo(row.silentUntil);

    assert.deepEqual(harness.checkTimes(PEER), extended(row.ramp, row));
    assert.equal(harness.agent.state, "disconnected");
    assert.equal(harness.agent.pollTimeout(), undefined);
  });

  test(`${row.name}: checks a pair that goes dark on its schedule, then gives up (connectivity 17.22)`, () => {
    let isDark = false;
    const harness = withPair(row.timings, () => !isDark);
    harness.runTo(1_500_000);
    assert.equal(harness.agent.state, "connected");

    isDark = true;
    const before = harness.checks.length;
    harness.runTo(3_500_000);
    const times = harness.checkTimes(PEER).slice(before);
    const zero = times[0] ?? 0;

    assert.deepEqual(
      times.map((at) => at - zero),
      extended(row.dark, row),
    );
    assert.equal(harness.agent.state, "disconnected");
    assert.equal(goneAt(row, zero), zero + row.darkUntil);
  });
}

test("an answered pair walks the same ramp and settles at the largest interval", () => {
  const harness = withPair(CLIENT_TIMINGS, () => true);
  harness.runTo(9_000);
  // The nominating check follows the first success at once.
  assert.deepEqual(harness.checkTimes(PEER), [0, 0, 500, 1500, 3000, 4500, 6000, 7500, 9000]);
});

test("a request of the peer keeps a pair for 15 s, whatever its own checks say", () => {
  const harness = withPair(CLIENT_TIMINGS);
  harness.runTo(10_000);
  harness.request(peerCheck(), HOST, PEER);
  harness.runTo(24_999);
  assert.equal(harness.agent.pairs.length, 1);
  harness.runTo(27_000);
  assert.equal(harness.agent.pairs.length, 0);
});

test("a change of timings reschedules from the last attempt", () => {
  const harness = withPair(CLIENT_TIMINGS, () => true);
  harness.runTo(30_000);
  const before = harness.checks.length;
  harness.agent.setTimings(CLIENT_IDLE_TIMINGS, harness.now);
  harness.runTo(130_000);
  assert.deepEqual(harness.checkTimes(PEER).slice(before), [55_000, 80_000, 105_000, 130_000]);

  harness.agent.setTimings(CLIENT_TIMINGS, harness.now);
  harness.runTo(133_000);
  assert.deepEqual(harness.checkTimes(PEER).slice(before + 4), [131_500, 133_000]);
});

function withPair(timings: CheckTimings, answers: AgentHarness["answers"] = () => false): AgentHarness {
  const harness = new AgentHarness("controlling", timings);
  harness.answers = answers;
  harness.addLocal("host", HOST);
  harness.addRemote(remote("server-reflexive", PEER));
  return harness;
}

function extended(start: readonly number[], row: Row): number[] {
  const times = [...start];
  while (times.length < row.attempts) times.push((times.at(-1) ?? 0) + row.step);
  return times;
}

/** When the pair vanished, found by running the same story again up to the instant before and up to it. */
function goneAt(row: Row, zero: number): number | undefined {
  const harness = withPair(row.timings, (check) => check.at < zero);
  harness.runTo(zero + row.darkUntil - 1);
  if (harness.agent.pairs.length === 0) return undefined;
  harness.runTo(zero + row.darkUntil);
  return harness.agent.pairs.length === 0 ? harness.elapsed : undefined;
}

function peerCheck(): Uint8Array {
  return encodeCheck({
    transactionId: new Uint8Array(12).fill(9),
    local: GATEWAY_ICE,
    remote: CLIENT_ICE,
    role: "controlled",
    tieBreaker: new Uint8Array(8),
    priority: 1,
    nominates: false,
  });
}
