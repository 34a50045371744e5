import assert from "node:assert/strict";
import { test } from "node:test";
import {
  FILTER_SET_CAPACITY,
  KIND_ECHO,
  KIND_ICMP,
  KIND_OTHER,
  KIND_TCP,
  KIND_UDP,
} from "../../assembly/abi.ts";
import { loadNet } from "./net-kernels.ts";
import { permitsSlowly, type Rule, writeFilterSet } from "./twins/filter.ts";
import { withSeed } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const KINDS = [KIND_OTHER, KIND_TCP, KIND_UDP, KIND_ECHO, KIND_ICMP];
const RULE_KINDS = [KIND_TCP, KIND_UDP, KIND_ICMP] as const;

for (const variant of VARIANTS) {
  const net = loadNet(variant);
  const permits = (set: number, kind: number, port: number) => net.filterPermits(set, kind, port) !== 0;

  test(`${variant}: set 0 and an empty set permit everything, opaque protocols too`, () => {
    writeFilterSet(net.view, 5, 100, []);
    for (const kind of KINDS) {
      assert.ok(permits(0, kind, 80));
      assert.ok(permits(5, kind, 80));
    }
  });

  test(`${variant}: port ranges are inclusive at both ends and bound to their protocol`, () => {
    writeFilterSet(net.view, 6, 10, [{ kind: KIND_TCP, first: 20, last: 100 }]);
    for (const [port, expected] of [
      [19, false],
      [20, true],
      [100, true],
      [101, false],
    ] as const) {
      assert.equal(permits(6, KIND_TCP, port), expected);
      assert.equal(permits(6, KIND_UDP, port), false);
    }
    writeFilterSet(net.view, 7, 11, [{ kind: KIND_UDP, first: 0, last: 65535 }]);
    assert.deepEqual(
      [0, 65535].map((port) => permits(7, KIND_UDP, port)),
      [true, true],
    );
  });

  test(`${variant}: an ICMP rule permits echoes and every other ICMP type`, () => {
    writeFilterSet(net.view, 8, 12, [{ kind: KIND_ICMP, first: 0, last: 0 }]);
    assert.ok(permits(8, KIND_ECHO, 7777));
    assert.ok(permits(8, KIND_ICMP, 0));
    assert.equal(permits(8, KIND_TCP, 0), false);
  });

  test(`${variant}: opaque protocols never match a non-empty set`, () => {
    writeFilterSet(
      net.view,
      9,
      13,
      RULE_KINDS.map((kind) => ({ kind, first: 0, last: 65535 })),
    );
    assert.equal(permits(9, KIND_OTHER, 0), false);
  });

  test(`${variant}: random sets decide like the slow twin`, () => {
    withSeed((random) => {
      for (let round = 0; round < 2000; round++) {
        const rules = Array.from({ length: random.below(6) }, (): Rule => {
          const [a, b] = [random.below(40), random.below(40)];
          return { kind: random.pick(RULE_KINDS), first: Math.min(a, b), last: Math.max(a, b) };
        });
        const set = 1 + random.below(FILTER_SET_CAPACITY - 1);
        writeFilterSet(net.view, set, random.below(1000), rules);
        for (let i = 0; i < 10; i++) {
          const [kind, port] = [random.pick(KINDS), random.below(42)];
          assert.equal(permits(set, kind, port), permitsSlowly(rules, kind, port));
        }
      }
    });
  });
}
