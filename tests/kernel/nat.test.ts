import assert from "node:assert/strict";
import { test } from "node:test";
import {
  KIND_ECHO,
  KIND_TCP,
  KIND_UDP,
  NAT_BASE,
  NAT_BYTES,
  NAT_CAPACITY,
  NAT_ENTRY_BYTES,
  PEER_CAPACITY,
} from "../../assembly/abi.ts";
import * as layout from "../../assembly/nat/layout.ts";
import { NatDriver } from "./nat-driver.ts";
import { type NatKey, type SlowEntry, SlowNat } from "./twins/nat.ts";
import { type Seeded, withSeed } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const SECOND = 1000;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;
const PROXY_1 = "100.96.0.1";
const PROXY_2 = "100.96.0.2";
const REAL_1 = "10.0.0.1";
const REAL_2 = "10.0.0.2";

const udp = (value: number, address: string): NatKey => ({ owner: 1, kind: KIND_UDP, value, address });
const tcp = (value: number, address: string): NatKey => ({ owner: 1, kind: KIND_TCP, value, address });
const echo = (value: number, address: string): NatKey => ({ owner: 1, kind: KIND_ECHO, value, address });

for (const variant of VARIANTS) {
  const fresh = () => new NatDriver(variant);

  test(`${variant}: an entry keeps its real IP when its proxy stands for another one (tunnel-core 24.47)`, () => {
    const nat = fresh();
    const first = outgoing(nat, udp(1, PROXY_1), REAL_1, 0);
    assert.deepEqual(first.outside, udp(1, REAL_1));
    assert.deepEqual(outgoing(nat, udp(1, PROXY_1), REAL_2, 1), first);
    assert.deepEqual(inside(nat.incoming(udp(1, REAL_1), 2)), udp(1, PROXY_1));
    assert.deepEqual(outgoing(nat, udp(2, PROXY_1), REAL_2, 3).outside, udp(2, REAL_2));
  });

  test(`${variant}: two proxies of one real IP with one port get neighbouring ports (tunnel-core 24.58)`, () => {
    const nat = fresh();
    assert.deepEqual(outgoing(nat, tcp(5000, PROXY_1), REAL_1, 0).outside, tcp(5000, REAL_1));
    assert.deepEqual(outgoing(nat, tcp(5000, PROXY_2), REAL_1, 0).outside, tcp(5001, REAL_1));
    assert.deepEqual(inside(nat.incoming(tcp(5000, REAL_1), 1)), tcp(5000, PROXY_1));
    assert.deepEqual(inside(nat.incoming(tcp(5001, REAL_1), 1)), tcp(5000, PROXY_2));
  });

  test(`${variant}: a taken echo identifier 7 becomes 8 and returns as 7 (tunnel-core 24.63)`, () => {
    const nat = fresh();
    outgoing(nat, echo(7, PROXY_1), REAL_1, 0);
    assert.deepEqual(outgoing(nat, echo(7, PROXY_2), REAL_1, 0).outside, echo(8, REAL_1));
    assert.deepEqual(inside(nat.incoming(echo(8, REAL_1), 0)), echo(7, PROXY_2));
  });

  test(`${variant}: owners, protocols and IP versions do not share keys`, () => {
    const nat = fresh();
    for (const [i, key] of [udp(9, PROXY_1), tcp(9, PROXY_1), echo(9, PROXY_1)].entries()) {
      for (const owner of [1, 2, 2047]) {
        const { outside } = outgoing(nat, { ...key, owner }, REAL_1, i);
        assert.deepEqual(outside, { ...key, owner, address: REAL_1 });
      }
    }
    outgoing(nat, udp(9, "a"), "b", 0);
    assert.equal(nat.count, 10);
    assert.equal(nat.incoming({ ...udp(9, REAL_1), owner: 3 }, 5), "none");
  });

  test(`${variant}: a confirmed UDP entry passes replies for 119 s and drops them after 120 s (tunnel-core 24.59)`, () => {
    for (const [idle, expected] of [
      [119 * SECOND, "passes"],
      [120 * SECOND - 1, "passes"],
      [120 * SECOND, "expired"],
    ] as const) {
      const nat = fresh();
      outgoing(nat, udp(1, PROXY_1), REAL_1, 0);
      nat.incoming(udp(1, REAL_1), 10);
      tickUntil(nat, 10 + idle);
      const reply = nat.incoming(udp(1, REAL_1), 10 + idle);
      assert.equal(typeof reply === "string" ? reply : "passes", expected);
    }
  });

  test(`${variant}: TCP lives 60 s unconfirmed and 7440 s confirmed (tunnel-core 24.60)`, () => {
    const nat = fresh();
    outgoing(nat, tcp(1, PROXY_1), REAL_1, 0);
    outgoing(nat, tcp(2, PROXY_1), REAL_1, 0);
    nat.incoming(tcp(2, REAL_1), 0);
    tickUntil(nat, 60 * SECOND - 1);
    assert.equal(nat.count, 2);
    tickUntil(nat, 60 * SECOND);
    assert.equal(nat.incoming(tcp(1, REAL_1), 60 * SECOND), "expired");
    tickUntil(nat, 7439 * SECOND);
    assert.equal(nat.count, 1);
    tickUntil(nat, 7440 * SECOND - 1);
    assert.equal(nat.count, 1);
    tickUntil(nat, 7440 * SECOND);
    assert.equal(nat.count, 0);
  });

  test(`${variant}: outgoing packets keep an unconfirmed entry for 60 s more`, () => {
    const nat = fresh();
    for (let now = 0; now <= 300 * SECOND; now += 50 * SECOND) {
      outgoing(nat, tcp(1, PROXY_1), REAL_1, now);
      nat.tick(now);
      assert.equal(nat.count, 1);
    }
    assert.equal(nat.tick(360 * SECOND), 1);
  });

  test(`${variant}: FIN in both directions ends an entry after 5 s (tunnel-core 24.61)`, () => {
    const nat = fresh();
    const { entry } = outgoing(nat, tcp(1, PROXY_1), REAL_1, 0);
    nat.note(entry, "outgoing", FIN | ACK, 100);
    nat.tick(10 * SECOND);
    nat.note(entry, "incoming", FIN | ACK, 20_000);
    nat.note(entry, "outgoing", ACK, 21_000);
    assert.equal(nat.tick(25_999), 0);
    assert.equal(nat.tick(26_000), 1);
  });

  test(`${variant}: FIN in one direction alone ends nothing`, () => {
    const nat = fresh();
    const { entry } = outgoing(nat, tcp(1, PROXY_1), REAL_1, 0);
    nat.note(entry, "incoming", FIN | ACK, 0);
    nat.note(entry, "incoming", FIN | ACK, 1);
    tickUntil(nat, 600 * SECOND);
    assert.equal(nat.count, 1);
  });

  test(`${variant}: RST in either direction ends an entry at the next tick (tunnel-core 24.61)`, () => {
    for (const direction of ["outgoing", "incoming"] as const) {
      const nat = fresh();
      nat.tick(1_000_000);
      const { entry } = outgoing(nat, tcp(1, PROXY_1), REAL_1, 1_000_500);
      nat.note(entry, direction, RST, 1_000_600);
      assert.equal(nat.count, 1);
      assert.equal(nat.tick(1_000_600), 1);
      assert.equal(nat.incoming(tcp(1, REAL_1), 1_000_601), "expired");
    }
  });

  test(`${variant}: a new SYN takes back FIN and RST of the former connection`, () => {
    const nat = fresh();
    const { entry } = outgoing(nat, tcp(1, PROXY_1), REAL_1, 0);
    nat.note(entry, "outgoing", FIN, 0);
    nat.note(entry, "incoming", FIN, 0);
    nat.note(entry, "incoming", RST, 0);
    nat.note(entry, "outgoing", SYN, 1);
    tickUntil(nat, 100 * SECOND);
    assert.equal(nat.count, 1);
    nat.note(entry, "incoming", SYN | ACK, 100 * SECOND);
    nat.note(entry, "outgoing", FIN, 100 * SECOND);
    tickUntil(nat, 200 * SECOND);
    assert.equal(nat.count, 1);
  });

  test(`${variant}: flag bits mean nothing outside TCP`, () => {
    const nat = fresh();
    const { entry } = outgoing(nat, udp(1, PROXY_1), REAL_1, 0);
    nat.note(entry, "outgoing", RST | FIN, 0);
    nat.tick(1);
    assert.equal(nat.count, 1);
  });

  test(`${variant}: an expired key is forgotten when it is created anew`, () => {
    const nat = fresh();
    outgoing(nat, udp(1, PROXY_1), REAL_1, 0);
    nat.tick(60 * SECOND);
    assert.equal(nat.incoming(udp(1, REAL_1), 60 * SECOND), "expired");
    assert.deepEqual(outgoing(nat, udp(1, PROXY_2), REAL_1, 61 * SECOND).outside, udp(1, REAL_1));
    assert.deepEqual(inside(nat.incoming(udp(1, REAL_1), 61 * SECOND)), udp(1, PROXY_2));
  });

  test(`${variant}: a reset forgets entries and expired keys of its owner only (tunnel-core 13.7)`, () => {
    const nat = fresh();
    const other = { ...udp(1, PROXY_1), owner: 2 };
    outgoing(nat, udp(1, PROXY_1), REAL_1, 0);
    outgoing(nat, other, REAL_1, 0);
    nat.tick(60 * SECOND);
    const { entry } = outgoing(nat, udp(2, PROXY_1), REAL_1, 60 * SECOND);
    const generation = nat.net.natGeneration(entry);
    nat.net.natReset(1);
    assert.equal(nat.count, 0);
    assert.equal(nat.incoming(udp(1, REAL_1), 61 * SECOND), "none");
    assert.equal(nat.incoming(udp(2, REAL_1), 61 * SECOND), "none");
    assert.equal(nat.incoming({ ...other, address: REAL_1 }, 61 * SECOND), "expired");
    assert.notEqual(nat.net.natGeneration(entry), generation);
    nat.net.natReset(1);
  });

  test(`${variant}: notes on removed or impossible entries change nothing`, () => {
    const nat = fresh();
    const { entry } = outgoing(nat, tcp(1, PROXY_1), REAL_1, 0);
    nat.tick(60 * SECOND);
    for (const id of [entry, entry + 1, -1, NAT_CAPACITY, 0x7fffffff, -0x80000000]) {
      nat.note(id, "incoming", RST, 61 * SECOND);
      assert.equal(nat.net.natIsLive(id), 0);
    }
    assert.equal(nat.count, 0);
  });

  test(`${variant}: values wrap from 65535 to 1, and the 65,536th use of a real IP is refused`, () => {
    const nat = fresh();
    const proxyOf = (i: number) => `100.97.${i >> 8}.${i & 255}`;
    outgoing(nat, udp(65535, PROXY_1), REAL_1, 0);
    assert.equal(outgoing(nat, udp(65535, PROXY_2), REAL_1, 0).outside.value, 1);
    for (let i = 2; i < 65535; i++) {
      assert.equal(outgoing(nat, udp(65535, proxyOf(i)), REAL_1, 0).outside.value, i);
    }
    assert.equal(nat.outgoing(udp(65535, "100.98.0.1"), REAL_1, 0), undefined);
    // 0 is only used by a packet that already has it.
    assert.equal(outgoing(nat, udp(0, PROXY_1), REAL_1, 0).outside.value, 0);
    assert.equal(nat.outgoing(udp(0, PROXY_2), REAL_1, 0), undefined);
    assert.equal(outgoing(nat, tcp(65535, PROXY_1), REAL_1, 0).outside.value, 65535);
    assert.equal(outgoing(nat, udp(65535, "100.98.0.1"), REAL_2, 0).outside.value, 65535);
    assert.equal(nat.tick(60 * SECOND), 65538);
    assert.equal(outgoing(nat, udp(65535, "100.98.0.1"), REAL_1, 60 * SECOND).outside.value, 65535);
  });

  test(`${variant}: a value that was freed is chosen again before higher ones`, () => {
    const nat = fresh();
    for (let i = 0; i < 8; i++) outgoing(nat, tcp(100, `100.96.1.${i}`), REAL_1, 0);
    const { entry } = outgoing(nat, tcp(100, "100.96.1.3"), REAL_1, 0);
    assert.equal(outgoing(nat, tcp(100, "100.96.1.8"), REAL_1, 0).outside.value, 108);
    nat.note(entry, "outgoing", RST, 1);
    nat.tick(2);
    assert.equal(outgoing(nat, tcp(100, "100.96.1.9"), REAL_1, 3).outside.value, 103);
    assert.equal(outgoing(nat, tcp(100, "100.96.1.10"), REAL_1, 3).outside.value, 109);
  });

  test(`${variant}: 100,000 entries expire in one tick, and their slots serve again`, () => {
    const nat = fresh();
    for (let i = 0; i < 100_000; i++) {
      outgoing(nat, { ...udp(i & 0xffff, PROXY_1), owner: i >> 16 }, REAL_1, i >> 8);
    }
    assert.equal(nat.count, 100_000);
    assert.equal(nat.tick(59 * SECOND), 0);
    assert.equal(nat.tick(61 * SECOND), 100_000);
    assert.equal(nat.count, 0);
    for (let i = 0; i < 100_000; i++) {
      outgoing(nat, { ...udp(i & 0xffff, PROXY_2), owner: i >> 16 }, REAL_1, 61 * SECOND);
    }
    // The second lot took over the expired keys of the first, hence its entries.
    assert.ok(nat.net.natIsLive(0) && nat.net.natIsLive(99_999));
    assert.equal(nat.net.natIsLive(100_000), 0);
  });

  test(`${variant}: ticks wrap without losing or keeping entries`, () => {
    for (const start of [0xffff_ffff, 0x1_0000_0000 - 30 * SECOND, 0x8000_0000 - SECOND, 0x7fff_ffff]) {
      const nat = fresh();
      nat.tick(start - SECOND);
      outgoing(nat, udp(1, PROXY_1), REAL_1, start);
      outgoing(nat, tcp(1, PROXY_1), REAL_1, start);
      nat.incoming(tcp(1, REAL_1), start + 1);
      tickUntil(nat, start + 60 * SECOND - 1, start);
      assert.equal(nat.count, 2);
      assert.equal(nat.tick(start + 60 * SECOND), 1);
      tickUntil(nat, start + 7440 * SECOND, start + 60 * SECOND);
      assert.equal(nat.count, 1);
      assert.equal(nat.tick(start + 7440 * SECOND + 1), 1);
    }
  });

  test(`${variant}: ticks may pause for weeks while nothing is alive, or skip hours while something is`, () => {
    const nat = fresh();
    const weeks = 5 * 7 * 86_400 * SECOND;
    outgoing(nat, udp(1, PROXY_1), REAL_1, weeks);
    assert.equal(nat.tick(weeks + 59 * SECOND), 0);
    assert.equal(nat.tick(weeks + 60 * SECOND), 1);
    outgoing(nat, udp(2, PROXY_1), REAL_1, weeks + 61 * SECOND);
    assert.equal(nat.tick(weeks + 86_400 * SECOND), 1);
  });

  test(`${variant}: random sequences behave like the slow twin`, () => {
    withSeed((random) => {
      for (let run = 0; run < 4; run++) compareWithTwin(fresh(), random);
    });
  });
}

test("the parts of the NAT region follow each other and end inside it", () => {
  const indexBytes = NAT_CAPACITY * 4;
  assert.equal(layout.NAT_INSIDE_HEADS, NAT_BASE + NAT_CAPACITY * NAT_ENTRY_BYTES);
  assert.equal(layout.NAT_OUTSIDE_HEADS, layout.NAT_INSIDE_HEADS + indexBytes);
  assert.equal(layout.NAT_WHEEL_HEADS, layout.NAT_OUTSIDE_HEADS + indexBytes);
  assert.equal(layout.NAT_OWNER_HEADS, layout.NAT_WHEEL_HEADS + 8192 * 4);
  assert.equal(layout.NAT_HINTS, layout.NAT_OWNER_HEADS + PEER_CAPACITY * 4);
  assert.ok(layout.NAT_HINTS + 256 * 32 <= NAT_BASE + NAT_BYTES);
  assert.equal(layout.ENTRY_OWNER_PREV + 4, NAT_ENTRY_BYTES);
});

test("release: all entries alive exhaust the table, and expired ones make room first", () => {
  const nat = new NatDriver("release");
  const keyOf = (i: number): NatKey => ({ ...udp(i & 0xffff, PROXY_1), owner: i >> 16 });
  for (let i = 0; i < 1000; i++) outgoing(nat, keyOf(i), REAL_1, 0);
  nat.tick(60 * SECOND);
  for (let i = 0; i < NAT_CAPACITY; i++) outgoing(nat, { ...keyOf(i), kind: KIND_TCP }, REAL_1, 60 * SECOND);
  assert.equal(nat.count, NAT_CAPACITY);
  assert.equal(nat.outgoing(echo(1, PROXY_1), REAL_1, 60 * SECOND), undefined);
  assert.equal(nat.incoming(udp(0, REAL_1), 60 * SECOND), "none");
  nat.net.natReset(7);
  assert.equal(nat.count, NAT_CAPACITY - 65536);
  assert.deepEqual(outgoing(nat, echo(1, PROXY_1), REAL_1, 60 * SECOND).outside, echo(1, REAL_1));
});

test("release: at least 65,536 expired keys are remembered, and the number is bounded", () => {
  const nat = new NatDriver("release");
  const remembered = () => {
    let count = 0;
    for (let i = 0; i < 300_000; i++) {
      const key = { ...udp(i & 0xffff, REAL_1), owner: i >> 16 };
      if (nat.incoming(key, 0) === "expired") count++;
    }
    return count;
  };
  for (let i = 0; i < 300_000; i++) {
    outgoing(nat, { ...udp(i & 0xffff, PROXY_1), owner: i >> 16 }, REAL_1, i);
    if (i % 1000 === 0) nat.tick(i);
  }
  nat.tick(400_000);
  const count = remembered();
  assert.ok(count >= 65_536 && count <= 200_000, `${count} remembered`);
  // The newest are those that are kept.
  assert.equal(nat.incoming({ ...udp(299_999 & 0xffff, REAL_1), owner: 299_999 >> 16 }, 0), "expired");
});

test("release: an expired key that late packets still use outlives one that none uses", () => {
  const nat = new NatDriver("release");
  for (const value of [1, 2]) outgoing(nat, { ...udp(value, PROXY_1), owner: 100 }, REAL_1, 0);
  nat.tick(60 * SECOND);
  for (let i = 0; i < 300_000; i++) {
    const now = 60 * SECOND + i;
    outgoing(nat, { ...udp(i & 0xffff, PROXY_1), owner: i >> 16 }, REAL_1, now);
    if (i % 1000 !== 0) continue;
    nat.tick(now);
    assert.equal(nat.incoming({ ...udp(1, REAL_1), owner: 100 }, now), "expired");
  }
  assert.equal(nat.incoming({ ...udp(2, REAL_1), owner: 100 }, 400_000), "none");
});

function compareWithTwin(nat: NatDriver, random: Seeded): void {
  const twin = new SlowNat();
  const ids = new Map<SlowEntry, number>();
  let now = random.u32();
  const address = () => (random.chance(0.5) ? [PROXY_1, REAL_1] : ["1", "a"]);
  const key = (at: string) => ({
    owner: random.below(3),
    kind: random.pick([KIND_TCP, KIND_UDP, KIND_ECHO]),
    // Few values at the upper end, so that they clash and wrap.
    value: 65535 - random.below(4),
    address: at,
  });
  for (let step = 0; step < 3000; step++) {
    now += random.chance(0.01) ? random.below(8_000_000) : random.below(3000);
    const choice = random.below(20);
    if (choice < 8) {
      const [proxy, real] = address() as [string, string];
      const inside = key(`${proxy.slice(0, -1)}${1 + random.below(3)}`);
      const expected = twin.outgoing(inside, real, now);
      const actual = nat.outgoing(inside, real, now);
      assert.deepEqual(actual?.outside, expected?.outside);
      if (expected !== undefined && actual !== undefined) ids.set(expected, actual.entry);
    } else if (choice < 14) {
      const outside = { ...key(address()[1] as string), value: random.pick([65533, 65534, 65535, 1, 2, 3]) };
      const expected = twin.incoming(outside, now);
      const actual = nat.incoming(outside, now);
      if (typeof expected === "string") assert.equal(actual, expected);
      else assert.deepEqual(actual, { entry: ids.get(expected), inside: expected.inside });
    } else if (choice < 18) {
      const entry = random.pick(twin.live);
      if (entry === undefined) continue;
      const direction = random.pick(["outgoing", "incoming"] as const);
      const flags = random.pick([ACK, ACK, ACK, FIN | ACK, SYN, SYN | ACK, RST]);
      twin.note(entry, direction, flags, now);
      nat.note(ids.get(entry)!, direction, flags, now);
    } else if (random.chance(0.95)) {
      assert.equal(nat.tick(now), twin.tick(now));
    } else {
      const owner = random.below(3);
      twin.reset(owner);
      nat.net.natReset(owner);
    }
    assert.equal(nat.count, twin.count);
  }
}

function outgoing(nat: NatDriver, inside: NatKey, real: string, now: number) {
  const result = nat.outgoing(inside, real, now);
  assert.ok(result !== undefined);
  return result;
}

function inside(result: ReturnType<NatDriver["incoming"]>): NatKey {
  if (typeof result === "string") assert.fail(result);
  return result.inside;
}

/** Ticks once a second, last at `end`. */
function tickUntil(nat: NatDriver, end: number, start = 0): void {
  for (let now = start; now < end; now += SECOND) nat.tick(now);
  nat.tick(end);
}
