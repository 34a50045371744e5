import assert from "node:assert/strict";
import { test } from "node:test";
import { LocalIndexes, peerOfIndex, slotOfIndex } from "../../../host/core/wg/index.ts";
import { seededRandom, steadyRandom } from "./randoms.ts";

const free = (): boolean => false;

test("an index carries the peer in bits 8 to 18 and the handshake number in bits 0 to 7", () => {
  for (const peer of [0, 1, 255, 256, 2047]) {
    const indexes = new LocalIndexes(peer, seededRandom(peer));
    const index = indexes.next(free);
    assert.equal(peerOfIndex(index), peer);
    assert.equal(index & 0xff, 1);
    assert.ok(index >= 0 && index < 2 ** 32);
  }
});

test("the upper 13 bits are drawn once per connection", () => {
  const draw = (uniform: number): number => new LocalIndexes(3, steadyRandom(1, uniform)).next(free) >>> 19;
  assert.equal(draw(0), 0);
  assert.equal(draw(0.5), 0x1000);
  assert.equal(draw(0.99999), 0x1fff);

  const indexes = new LocalIndexes(3, seededRandom(8));
  const uppers = new Set(Array.from({ length: 300 }, () => indexes.next(free) >>> 8));
  assert.equal(uppers.size, 1);
});

test("handshake numbers start at 1 and wrap after 255", () => {
  const indexes = new LocalIndexes(3, seededRandom(8));
  const numbers = Array.from({ length: 258 }, () => indexes.next(free) & 0xff);
  assert.deepEqual([...numbers.slice(0, 3), ...numbers.slice(254)], [1, 2, 3, 255, 0, 1, 2]);
});

test("a number whose slot is taken is passed over", () => {
  const indexes = new LocalIndexes(3, seededRandom(8));
  const taken = new Set([1, 2, 4]);
  const numbers = Array.from({ length: 4 }, () => indexes.next((slot) => taken.has(slot)) & 0xff);
  assert.deepEqual(numbers, [3, 5, 6, 7]);
  assert.equal(slotOfIndex(0xffff_ff0b), 3);
});
