import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeTai64n, isLaterTai64n, Tai64nClock } from "../../../host/core/wg/tai64n.ts";
import { toHex, vectors } from "./vectors.ts";

test("seconds count from 2^62 + 37 and nanoseconds follow, big-endian", () => {
  const nanos = BigInt(vectors.unixSeconds) * 1_000_000_000n + BigInt(vectors.nanoseconds);
  assert.equal(toHex(encodeTai64n(nanos)), vectors.timestamp);
  assert.equal(toHex(encodeTai64n(0n)), "400000000000002500000000");
});

test("the clock is wall time at construction plus monotonic time", () => {
  const clock = new Tai64nClock(1_700_000_000_250, 5_000);
  const expected = 1_700_000_001_000n * 1_000_000n;
  assert.deepEqual(clock.stamp(5_750), encodeTai64n(expected));
});

test("stamps grow even within one instant, and when an instant is earlier", () => {
  const clock = new Tai64nClock(1_700_000_000_999.9, 10);
  let last = clock.stamp(20);
  for (const now of [20, 20, 19, 20, 20.0001]) {
    const next = clock.stamp(now);
    assert.ok(isLaterTai64n(next, last));
    last = next;
  }
});

test("later means strictly later, by seconds first", () => {
  const stamp = (seconds: number, nanos: number): Uint8Array =>
    encodeTai64n(BigInt(seconds) * 1_000_000_000n + BigInt(nanos));
  assert.equal(isLaterTai64n(stamp(5, 7), stamp(5, 7)), false);
  assert.equal(isLaterTai64n(stamp(5, 8), stamp(5, 7)), true);
  assert.equal(isLaterTai64n(stamp(5, 6), stamp(5, 7)), false);
  assert.equal(isLaterTai64n(stamp(6, 0), stamp(5, 999_999_999)), true);
  assert.equal(isLaterTai64n(stamp(255, 0), stamp(256, 0)), false);
});
