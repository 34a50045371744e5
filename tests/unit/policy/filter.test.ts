import assert from "node:assert/strict";
import { test } from "node:test";
import type { FilterId, FilterRule } from "../../../host/core/packet-core.ts";
import { FilterPool, sameFilters } from "../../../host/core/policy/filter.ts";

const HTTPS: FilterRule = { kind: "tcp", firstPort: 443, lastPort: 443 };
const PING: FilterRule = { kind: "icmp", firstPort: 0, lastPort: 0 };

/** A store of the given size that counts what is in use. */
function storeOf(capacity: number) {
  const used = new Set<FilterId>();
  let next = 1;
  return {
    used,
    addFilter: () => {
      if (used.size >= capacity) throw new RangeError("filter pool exhausted");
      used.add(next);
      return next++;
    },
    removeFilter: (filter: FilterId) => void used.delete(filter),
  };
}

test("equal rules share one handle until the last holder lets go", () => {
  const store = storeOf(10);
  const pool = new FilterPool(store);

  const first = pool.acquire([HTTPS, PING]);
  const second = pool.acquire([PING, HTTPS]);
  assert.equal(first, second);
  assert.equal(store.used.size, 1);

  pool.release(first ?? 0);
  assert.equal(store.used.size, 1);
  pool.release(second ?? 0);
  assert.equal(store.used.size, 0);
});

test("no rules need no handle", () => {
  const store = storeOf(0);
  assert.equal(new FilterPool(store).acquire([]), 0);
});

test("an exhausted pool gives nothing rather than too much", () => {
  const pool = new FilterPool(storeOf(1));
  assert.equal(pool.acquire([HTTPS]), 1);
  assert.equal(pool.acquire([PING]), undefined);
});

test("filters compare without regard to their order", () => {
  assert.equal(sameFilters([HTTPS, PING], [PING, HTTPS]), true);
  assert.equal(sameFilters([HTTPS], [PING]), false);
  assert.equal(sameFilters([HTTPS], [HTTPS, PING]), false);
});
