import assert from "node:assert/strict";
import { test } from "node:test";
import { BUFFER_BYTES } from "../../../host/core/netstack/connection.ts";
import { SeededRandom, testSeed } from "../../sim/random.ts";
import { type From, Wire } from "./wire.ts";

const SEED = testSeed();
const ROUNDS = 200;
const SEGMENTS = 60;
/** Where sequence and acknowledgment numbers are most likely to hit something. */
const OFFSETS = [
  -2,
  -1,
  0,
  1,
  2,
  5,
  500,
  1000,
  1240,
  2480,
  65_000,
  65_535,
  65_537,
  1 << 20,
  2 ** 31 - 1,
  -(2 ** 31),
];
const FLAGS = ["A", "PA", "A", "FA", "FPA", "SA", "S", "R", "RA", "F", "", "SFRA"];

test(`no sequence of segments, writes, reads and pauses makes the stack throw, grow or babble (SEED=${SEED})`, () => {
  const random = new SeededRandom(SEED);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random.uniform() * values.length)] as T;
  const below = (limit: number): number => Math.floor(random.uniform() * limit);

  for (let round = 0; round < ROUNDS; round++) {
    const wire = new Wire();
    wire.send({ flags: "S", ...(random.uniform() < 0.5 ? { mss: pick([0, 1, 500, 1240, 9000]) } : {}) });
    const base = { seq: 1, ack: 1 };
    if (random.uniform() < 0.9) wire.send({ flags: "A", ...base });
    for (let i = 0; i < SEGMENTS; i++) {
      const [connection] = wire.stack.connections();
      if (connection !== undefined) misuse(wire, connection, below(8), below(BUFFER_BYTES + 10));
      const from: From = {
        flags: pick(FLAGS),
        seq: base.seq + pick(OFFSETS),
        ack: base.ack + pick(OFFSETS),
        window: pick([0, 1, 100, 1240, 65_535]),
        data: new Uint8Array(pick([0, 0, 1, 100, 1200])),
      };
      wire.send(from);
      // Now and then the peer keeps up, so that its next segments hit the window.
      if (random.uniform() < 0.3) base.seq += pick([0, 1, 100, 1200]);
      if (random.uniform() < 0.3) base.ack += pick([0, 1, 500, 1240]);
      if (random.uniform() < 0.2) wire.advance(pick([1, 200, 1000, 30_000]));
      for (const { readable } of wire.stack.connections()) assert.ok(readable <= BUFFER_BYTES);
      assert.ok(wire.stack.size <= 1);
    }
    wire.advance(60_000);
    const timeout = wire.stack.pollTimeout();
    assert.ok(timeout === undefined || timeout.at > wire.now, "no deadline is left behind");
  }
});

function misuse(wire: Wire, connection: Wire["connection"], choice: number, size: number): void {
  if (choice === 0) connection.send(new Uint8Array(size), wire.now);
  if (choice === 1) connection.drop(Math.min(size, connection.readable));
  if (choice === 2 && size < 3000) connection.close(wire.now);
  if (choice === 3 && size < 500) connection.abort();
  wire.drain();
}
