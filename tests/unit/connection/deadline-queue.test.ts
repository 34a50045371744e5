import assert from "node:assert/strict";
import { test } from "node:test";
import { DeadlineQueue } from "../../../host/core/connection/deadline-queue.ts";
import { SeededRandom, testSeed } from "../../sim/random.ts";

test("hands out keys in the order of their latest deadlines, like a sorted list would", () => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const queue = new DeadlineQueue<number>();
  const naive = new Map<number, number>();
  let now = 0;
  for (let step = 0; step < 20_000; step++) {
    const key = Math.floor(random.uniform() * 50);
    if (random.uniform() < 0.1) {
      queue.set(key, undefined);
      naive.delete(key);
    } else if (random.uniform() < 0.8) {
      const at = now + Math.floor(random.uniform() * 100);
      queue.set(key, at);
      naive.set(key, at);
    } else {
      now += Math.floor(random.uniform() * 20);
      for (let due = queue.takeDue(now); due !== undefined; due = queue.takeDue(now)) {
        assert.equal(naive.get(due), Math.min(...naive.values()), `SEED=${seed}`);
        naive.delete(due);
      }
      assert.ok(
        [...naive.values()].every((at) => at > now),
        `SEED=${seed}`,
      );
    }
    const first = queue.first();
    assert.equal(first?.at, naive.size === 0 ? undefined : Math.min(...naive.values()), `SEED=${seed}`);
  }
});

test("a removed key is never due, and one that was taken can be set again", () => {
  const queue = new DeadlineQueue<string>();
  queue.set("a", 5);
  queue.set("b", 6);
  queue.set("a", undefined);
  assert.equal(queue.takeDue(10), "b");
  assert.equal(queue.takeDue(10), undefined);
  queue.set("b", 6);
  assert.equal(queue.takeDue(10), "b");
  assert.equal(queue.first(), undefined);
});
