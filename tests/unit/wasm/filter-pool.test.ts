import assert from "node:assert/strict";
import { test } from "node:test";
import * as abi from "../../../assembly/abi.ts";
import type { FilterRule } from "../../../host/core/packet-core.ts";
import { FilterPool } from "../../../host/wasm/filter-pool.ts";

const rules = (count: number, port = 80): FilterRule[] =>
  Array.from({ length: count }, () => ({ kind: "tcp", firstPort: port, lastPort: port }));

test("rules of removed sets are used again, whatever the order of removal", () => {
  const { pool } = newPool();
  const half = abi.FILTER_RULE_CAPACITY / 4;
  const ids = [1, 2, 3, 4].map(() => pool.add(rules(half)));
  assert.throws(() => pool.add(rules(1)), RangeError);
  for (const i of [2, 0, 3, 1]) pool.remove(ids[i]!);
  assert.throws(() => pool.add(rules(abi.FILTER_RULE_CAPACITY + 1)), RangeError);
  const all = pool.add(rules(abi.FILTER_RULE_CAPACITY));
  pool.remove(all);
  assert.ok(pool.add(rules(1)) > 0);
});

test("gives out every set once, and refuses more", () => {
  const { pool } = newPool();
  const ids = Array.from({ length: abi.FILTER_SET_CAPACITY - 1 }, () => pool.add(rules(1)));
  assert.equal(new Set(ids).size, abi.FILTER_SET_CAPACITY - 1);
  assert.throws(() => pool.add(rules(1)), RangeError);
  pool.remove(ids[5]!);
  assert.equal(pool.add(rules(1)), ids[5]);
});

test("a refused or repeated removal changes nothing", () => {
  const { pool, view } = newPool();
  const kept = pool.add(rules(3, 443));
  const gone = pool.add(rules(2));
  pool.remove(gone);
  for (const id of [gone, 0, -1, abi.FILTER_SET_CAPACITY]) pool.remove(id);
  const at = abi.FILTER_SETS_BASE + kept * abi.FILTER_SET_BYTES;
  assert.equal(view.getUint32(at + 4, true), 3);
  const first = view.getUint32(at, true);
  assert.equal(view.getUint16(abi.FILTER_RULES_BASE + first * abi.FILTER_RULE_BYTES + 2, true), 443);
  assert.notEqual(pool.add(rules(1)), pool.add(rules(1)));
});

function newPool(): { pool: FilterPool; view: DataView } {
  const memory = { buffer: new ArrayBuffer(abi.KEYPAIRS_BASE) };
  return { pool: new FilterPool(memory), view: new DataView(memory.buffer) };
}
