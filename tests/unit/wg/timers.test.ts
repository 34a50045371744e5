import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ICELESS_TIMERS } from "../../../host/core/wg/timers.ts";
import { ModelCore } from "./model-core.ts";
import {
  at,
  type DataPath,
  established,
  establishedPair,
  type NodeOptions,
  newPair,
  newPairOn,
  type Pair,
  type Side,
} from "./pair.ts";
import { steadyRandom } from "./randoms.ts";
import { WasmDataPath } from "./wasm-core.ts";

/** An IPv4 header of an unassigned protocol. */
const DATA = Uint8Array.of(0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2);

/** Jitter 0 unless said otherwise. */
function exact(seed: number, jitter = 0): NodeOptions {
  return { random: steadyRandom(seed, jitter) };
}

interface Row {
  readonly name: string;
  /** Data packets, by the second in which they are sent. */
  readonly data: readonly (readonly [second: number, from: Side])[];
  /** Losses from that millisecond on, by sender. */
  readonly mute?: { readonly from: Side; readonly since: number };
  readonly until: number;
  readonly left?: { readonly initiations?: readonly number[]; readonly keepalives?: readonly number[] };
  readonly right?: { readonly initiations?: readonly number[]; readonly keepalives?: readonly number[] };
}

// Left initiated at 0, and confirmed with a keepalive at 0. Instants in milliseconds.
const ROWS: readonly Row[] = [
  {
    name: "the initiator rekeys at 120 s if it sent data",
    data: [
      [1, "left"],
      [1, "right"],
    ],
    until: 125_000,
    left: { initiations: [0, 120_000] },
  },
  {
    name: "data first sent after 120 s rekeys at once",
    data: [
      [130, "left"],
      [130, "right"],
    ],
    until: 135_000,
    left: { initiations: [0, 130_000] },
  },
  {
    name: "data sent on the keypair before does not rekey the next one at 120 s",
    data: [
      [1, "left"],
      [1, "right"],
    ],
    until: 299_000,
    left: { initiations: [0, 120_000] },
  },
  {
    name: "the initiator rekeys at 165 s if it only received data, and acknowledges it after 10 s",
    data: [[1, "right"]],
    until: 170_000,
    left: { initiations: [0, 165_000], keepalives: [0, 11_000, 165_000] },
  },
  {
    name: "data received after 165 s rekeys at once",
    data: [[167, "right"]],
    until: 170_000,
    left: { initiations: [0, 167_000] },
  },
  {
    name: "the initiator renews an idle keypair at 180 s, the responder never (connectivity 36)",
    data: [],
    until: 365_000,
    left: { initiations: [0, 180_000, 360_000] },
    right: { initiations: [] },
  },
  {
    name: "15 s without any answer to data start a handshake at the initiator",
    data: [
      [10, "left"],
      [12, "left"],
    ],
    mute: { from: "right", since: 5_000 },
    until: 25_000,
    left: { initiations: [0, 25_000] },
  },
  {
    name: "15 s without any answer to data start a handshake at the responder",
    data: [[10, "right"]],
    mute: { from: "left", since: 5_000 },
    until: 25_000,
    right: { initiations: [25_000] },
  },
  {
    name: "an empty packet is an answer",
    data: [[10, "left"]],
    until: 60_000,
    left: { initiations: [0] },
    right: { keepalives: [20_000] },
  },
  {
    name: "a keepalive is due 10 s after the first data packet, not after the last",
    data: [
      [3, "left"],
      [6, "left"],
      [9, "left"],
    ],
    until: 18_000,
    right: { keepalives: [13_000] },
  },
  {
    name: "anything sent clears the pending keepalive",
    data: [
      [3, "left"],
      [8, "right"],
    ],
    until: 17_000,
    left: { keepalives: [0] },
    right: { keepalives: [] },
  },
  {
    name: "a keepalive is not answered by a keepalive",
    data: [[3, "left"]],
    until: 100_000,
    left: { keepalives: [0] },
    right: { keepalives: [13_000] },
  },
];

for (const [core, newCore] of [
  ["the model", () => new ModelCore()],
  ["the packet core", () => new WasmDataPath()],
] as const) {
  describe(`timers of a connection over ${core} (connectivity §10.6)`, () => {
    for (const row of ROWS) {
      test(row.name, () => {
        const pair = established(newPairOn<DataPath>(newCore, { left: exact(1), right: exact(2) }));
        const { mute } = row;
        if (mute) pair.lose((sent) => sent.from === mute.from && sent.time >= mute.since);
        play(pair, row);

        for (const side of ["left", "right"] as const) {
          const expected = row[side];
          if (expected?.initiations) assert.deepEqual(pair.sent(side, "initiation"), expected.initiations);
          if (expected?.keepalives) assert.deepEqual(pair.sent(side, "keepalive"), expected.keepalives);
        }
      });
    }
  });
}

test("unanswered initiations are repeated every 5 s and given up after 20 s (connectivity 37)", () => {
  const pair = newPair({ left: exact(1), lose: () => true });
  pair.startHandshake("left");
  pair.runUntil(60_000);

  assert.deepEqual(pair.sent("left", "initiation"), [0, 5_000, 10_000, 15_000]);
  assert.deepEqual(pair.events, [{ time: 20_000, side: "left", event: "expired unanswered" }]);
  assert.equal(pair.nodes.left.peer.pollTimeout(), undefined);
});

test("jitter delays repetitions and timer-driven initiations by at most 333 ms, started ones not at all", () => {
  const pair = newPair({ left: exact(1, 0.9999), lose: () => true });
  pair.startHandshake("left");
  pair.runUntil(19_000);
  assert.deepEqual(pair.sent("left", "initiation"), [0, 5_333, 10_666, 15_999]);

  const idle = establishedPair({ left: exact(1, 0.9999), right: exact(2) });
  idle.runUntil(181_000);
  assert.deepEqual(idle.sent("left", "initiation"), [0, 180_333]);
});

test("every initiation of an attempt has a new ephemeral key, index and timestamp", () => {
  const seen: Uint8Array[] = [];
  const pair = newPair({ left: exact(1), lose: () => true });
  const { peer } = pair.nodes.left;
  peer.startHandshake(at(0));
  for (const second of [0, 5, 10, 15]) {
    peer.handleTimeout(at(second * 1000));
    const message = peer.pollMessage();
    assert.ok(message);
    seen.push(message);
  }

  assert.deepEqual(
    seen.map((message) => message[4]),
    [1, 2, 3, 4],
  );
  for (const [start, end] of [
    [8, 40],
    [40, 88],
    [88, 116],
  ] as const) {
    const parts = new Set(seen.map((message) => message.subarray(start, end).join()));
    assert.equal(parts.size, seen.length);
  }
});

test("a handshake completed within the attempt ends it", () => {
  const pair = newPair({ left: exact(1), right: exact(2), lose: (sent) => sent.time < 12_000 });
  pair.startHandshake("left");
  pair.runUntil(100_000);

  assert.deepEqual(pair.sent("left", "initiation"), [0, 5_000, 10_000, 15_000]);
  assert.deepEqual(pair.events, [
    { time: 15_000, side: "left", event: "handshake-completed initiator" },
    { time: 15_000, side: "right", event: "handshake-completed responder" },
  ]);
});

test("540 s after the last completed handshake everything is wiped", () => {
  const pair = establishedPair({ left: exact(1), right: exact(2) });
  pair.lose((sent) => sent.from === "left");
  pair.runUntil(600_000);

  assert.deepEqual(
    pair.events.filter((event) => event.side === "right").map(({ time, event }) => [time, event]),
    [
      [0, "handshake-completed responder"],
      [540_000, "expired unused"],
    ],
  );
});

test("a connection that never shook hands is wiped 540 s after its creation", () => {
  const pair = newPair();
  pair.runUntil(600_000);
  assert.deepEqual(
    pair.events.map(({ time, event }) => [time, event]),
    [
      [540_000, "expired unused"],
      [540_000, "expired unused"],
    ],
  );
});

test("the initiator stops sending at 170 s, the responder at 180 s, and both still receive until 180 s", () => {
  const pair = establishedPair({ left: exact(1), right: exact(2) });
  pair.runUntil(169_999);
  assert.equal(pair.nodes.left.peer.sendable, true);
  pair.runUntil(170_000);
  assert.equal(pair.nodes.left.peer.sendable, false);

  pair.runUntil(179_000);
  pair.lose((sent) => sent.kind === "initiation");
  assert.equal(pair.send("right", DATA), true);
  assert.equal(pair.delivered.length, 1);

  pair.runUntil(180_000);
  assert.equal(pair.nodes.right.peer.sendable, false);
  assert.equal(pair.send("right", DATA), false);
});

test("an initiator that wants to send between 170 and 180 s starts a handshake", () => {
  const pair = establishedPair({ left: exact(1), right: exact(2) });
  pair.runUntil(175_000);

  assert.equal(pair.send("left", DATA), false);
  assert.deepEqual(pair.sent("left", "initiation"), [0, 175_000]);
  assert.equal(pair.send("left", DATA), true);
});

test("a missing path alone starts no handshake", () => {
  const pair = establishedPair({ left: exact(1), right: exact(2) });
  const { core, id } = pair.nodes.left;
  core.setPath(id, undefined);
  pair.runUntil(1_000);

  assert.equal(pair.send("left", DATA), false);
  assert.deepEqual(pair.sent("left", "initiation"), [0]);
});

test("a handshake message is an answer too: unanswered data from before it starts no second handshake", () => {
  const pair = establishedPair({ left: exact(1), right: exact(2) });
  pair.lose((sent) => sent.from === "right" && sent.kind !== "response");
  pair.runUntil(10_000);
  pair.send("left", DATA);
  pair.runUntil(100_000);

  assert.deepEqual(pair.sent("left", "initiation"), [0, 25_000]);
});

test("after 2^60 messages either role renews the keypair, at 2^64 − 2^13 − 1 it stops sending", () => {
  for (const side of ["left", "right"] as const) {
    const pair = establishedPair({ left: exact(1), right: exact(2) });
    const { core, id, peer } = pair.nodes[side];
    pair.runUntil(1_000);
    core.setSendCounter(id, (1n << 60n) - 1n);
    pair.send(side, DATA);
    pair.runUntil(2_000);
    peer.handleTouched(pair.now);
    pair.drain();
    assert.equal(pair.sent(side, "initiation").filter((time) => time > 0).length, 1);
  }

  const pair = establishedPair({ left: exact(1), right: exact(2), lose: (sent) => sent.time > 0 });
  const { core, id, peer } = pair.nodes.left;
  core.setSendCounter(id, 0xffff_ffff_ffff_dfffn);
  pair.runUntil(1_000);
  peer.handleTouched(pair.now);
  assert.equal(peer.sendable, false);
});

test("persistent keepalives leave when nothing passed for the interval", () => {
  const pair = establishedPair({ left: { ...exact(1), persistentKeepaliveMs: 25_000 }, right: exact(2) });
  play(pair, {
    data: [
      [40, "left"],
      [41, "right"],
    ],
    until: 100_000,
  });
  assert.deepEqual(pair.sent("left", "keepalive"), [0, 25_000, 51_000, 76_000]);
});

test("ICE-less timers: 2 s repetitions for 90 s, keepalive after 5 s, no answer after 7 s, renewal at 173 s", () => {
  const iceless: NodeOptions = { timers: ICELESS_TIMERS };
  const silent = newPair({ left: { ...exact(1), ...iceless }, lose: () => true });
  silent.startHandshake("left");
  silent.runUntil(100_000);
  assert.deepEqual(
    silent.sent("left", "initiation"),
    Array.from({ length: 45 }, (_, i) => i * 2_000),
  );
  assert.deepEqual(silent.events, [{ time: 90_000, side: "left", event: "expired unanswered" }]);

  const pair = establishedPair({ left: { ...exact(1), ...iceless }, right: { ...exact(2), ...iceless } });
  play(pair, { data: [[1, "right"]], until: 173_000 });
  assert.deepEqual(pair.sent("left", "keepalive"), [0, 6_000, 173_000]);
  assert.deepEqual(pair.sent("left", "initiation"), [0, 173_000]);

  const mute = establishedPair({ left: { ...exact(1), ...iceless }, right: { ...exact(2), ...iceless } });
  mute.lose((sent) => sent.from === "right");
  play(mute, { data: [[1, "left"]], until: 8_000 });
  assert.deepEqual(mute.sent("left", "initiation"), [0, 8_000]);
});

test("activity noticed up to 1 s late moves no timer", () => {
  const pair = establishedPair({ left: exact(1), right: exact(2) });
  const { core, id, peer } = pair.nodes.left;
  pair.lose((sent) => sent.from === "right");
  pair.runUntil(10_000);

  core.seal(id, DATA, at(10_000));
  peer.handleTimeout(at(10_990));
  peer.handleTouched(at(10_990));
  assert.deepEqual(peer.pollTimeout(), { at: at(25_000), reason: "no answer" });
});

test("instants with fractions of a millisecond neither lose nor repeat a timer", () => {
  const pair = newPair({ left: exact(1), right: exact(2) });
  pair.now = at(0.75);
  pair.startHandshake("left");
  pair.send("left", DATA);
  pair.send("right", DATA);
  pair.runUntil(121_000);

  assert.equal(pair.sent("left", "initiation").length, 2);
  assert.deepEqual(pair.sent("left", "initiation")[1], 120_001);
});

function play<Core extends DataPath>(pair: Pair<Core>, script: Pick<Row, "data" | "until">): void {
  for (const [second, from] of script.data) {
    pair.runUntil(second * 1000);
    pair.send(from, DATA);
  }
  pair.runUntil(script.until);
}
