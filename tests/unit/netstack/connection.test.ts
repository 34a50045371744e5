import assert from "node:assert/strict";
import { test } from "node:test";
import { BUFFER_BYTES } from "../../../host/core/netstack/connection.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { type From, packetFrom, Wire } from "./wire.ts";

/** At `at` ms this happens; expected are the segments of ours that it leads to, as `flags seq ack "payload"`. */
interface Step {
  readonly at: number;
  readonly from?: From;
  readonly write?: string | number;
  readonly close?: true;
  readonly expect: readonly string[];
}

function play(wire: Wire, steps: readonly Step[]): void {
  const start = wire.now;
  for (const [i, step] of steps.entries()) {
    const spontaneous = wire.now < start + step.at ? wire.advance(start + step.at - wire.now) : [];
    const answers = [
      ...spontaneous,
      ...(step.from === undefined ? [] : wire.send(step.from)),
      ...(step.write === undefined ? [] : wire.write(step.write)),
      ...(step.close === undefined ? [] : wire.close()),
    ];
    assert.deepEqual(answers, step.expect, `step ${i} at ${step.at} ms`);
  }
}

test("a connection opens, carries bytes both ways across the wrap of the numbers, and closes from the peer", () => {
  const wire = new Wire();
  play(wire, [
    { at: 0, from: { flags: "S", mss: 1240 }, expect: ["SA 0 1"] },
    { at: 1, from: { flags: "A", seq: 1, ack: 1 }, expect: [] },
    { at: 2, from: { flags: "PA", seq: 1, ack: 1, data: "hello" }, expect: ["A 1 6"] },
    { at: 3, write: "twenty bytes go back", expect: ['PA 1 6 "twenty bytes go back"'] },
    { at: 4, from: { flags: "A", seq: 6, ack: 21 }, expect: [] },
    { at: 5, from: { flags: "FA", seq: 6, ack: 21 }, expect: ["A 21 7"] },
    { at: 6, write: "late", expect: ['PA 21 7 "late"'] },
    { at: 7, close: true, expect: ["FA 25 7"] },
    { at: 8, from: { flags: "A", seq: 7, ack: 26 }, expect: [] },
  ]);
  assert.equal(wire.stack.size, 0, "the peer closed first: nothing lingers");
});

test("we close first: FIN, then the peer's FIN is acknowledged and the ends may meet again at once", () => {
  const wire = new Wire().establish();
  play(wire, [
    { at: 0, close: true, expect: ["FA 1 1"] },
    { at: 1, from: { flags: "A", seq: 1, ack: 2 }, expect: [] },
    { at: 2, from: { flags: "FA", seq: 1, ack: 2 }, expect: ["A 2 2"] },
    { at: 3, from: { flags: "S" }, expect: ["SA 0 1"] },
  ]);
});

test("both close at once", () => {
  const wire = new Wire().establish();
  play(wire, [
    { at: 0, close: true, expect: ["FA 1 1"] },
    { at: 1, from: { flags: "FA", seq: 1, ack: 1 }, expect: ["A 2 2"] },
    { at: 2, from: { flags: "A", seq: 2, ack: 2 }, expect: [] },
  ]);
  assert.equal(wire.stack.size, 0);
});

test("a FIN that the peer never answers is forgotten after 10 s, data after our FIN is refused", () => {
  const lingering = new Wire().establish();
  lingering.close();
  lingering.send({ flags: "A", seq: 1, ack: 2 });
  assert.deepEqual(lingering.advance(9_999), []);
  assert.equal(lingering.stack.size, 1);
  lingering.advance(1);
  assert.equal(lingering.stack.size, 0);

  const talking = new Wire().establish();
  talking.close();
  assert.deepEqual(talking.send({ flags: "PA", seq: 1, ack: 2, data: "more" }), ["RA 2 1"]);
  assert.equal(talking.stack.size, 0);
});

test("SYN-ACK, data and FIN are retransmitted with doubling pauses", () => {
  play(new Wire(), [
    { at: 0, from: { flags: "S" }, expect: ["SA 0 1"] },
    { at: 1000, expect: ["SA 0 1"] },
    { at: 2999, expect: [] },
    { at: 3000, expect: ["SA 0 1"] },
    { at: 3001, from: { flags: "S" }, expect: ["SA 0 1"] },
  ]);
  // The handshake took no time, so the time-out is at its lower bound.
  play(new Wire().establish(), [
    { at: 0, write: "answer", expect: ['PA 1 1 "answer"'] },
    { at: 0, close: true, expect: ["FA 7 1"] },
    { at: 199, expect: [] },
    { at: 200, expect: ['FPA 1 1 "answer"'] },
    { at: 600, expect: ['FPA 1 1 "answer"'] },
    { at: 700, from: { flags: "A", seq: 1, ack: 8 }, expect: [] },
    { at: 5000, expect: [] },
  ]);
});

test("a peer that never acknowledges is given up after 20 s, with a reset", () => {
  const wire = new Wire().establish();
  wire.write("answer");
  wire.advance(19_999);
  assert.equal(wire.stack.size, 1);
  const last = wire.advance(1);
  assert.deepEqual(last.at(-1), "RA 7 1");
  assert.equal(wire.stack.size, 0);
});

test("segments out of order are put in order, duplicates are acknowledged again, overlaps count once", () => {
  const wire = new Wire().establish();
  play(wire, [
    { at: 0, from: { flags: "PA", seq: 4, ack: 1, data: "def" }, expect: ["A 1 1"] },
    { at: 1, from: { flags: "PA", seq: 10, ack: 1, data: "jkl" }, expect: ["A 1 1"] },
    { at: 2, from: { flags: "PA", seq: 1, ack: 1, data: "abcd" }, expect: ["A 1 7"] },
    { at: 3, from: { flags: "PA", seq: 1, ack: 1, data: "abcd" }, expect: ["A 1 7"] },
    { at: 4, from: { flags: "PA", seq: 6, ack: 1, data: "fghijk" }, expect: ["A 1 13"] },
  ]);
  assert.equal(wire.read(), "abcdefghijkl");
});

test("three duplicate acknowledgments send again without waiting, once", () => {
  const wire = new Wire().establish(1000);
  assert.equal(wire.write(5000).length, 5);
  play(wire, [
    { at: 10, from: { flags: "A", seq: 1, ack: 1001 }, expect: [] },
    { at: 11, from: { flags: "A", seq: 1, ack: 1001 }, expect: [] },
    { at: 12, from: { flags: "A", seq: 1, ack: 1001 }, expect: [] },
    { at: 13, from: { flags: "A", seq: 1, ack: 1001 }, expect: ["PA 1001 1 [1000]", "PA 2001 1 [1000]"] },
    { at: 14, from: { flags: "A", seq: 1, ack: 1001 }, expect: [] },
    { at: 15, from: { flags: "A", seq: 1, ack: 5001 }, expect: [] },
  ]);
});

test("no more is in flight than the peer's window and the congestion window allow", () => {
  const small = new Wire().establish(500, 1200);
  assert.deepEqual(small.write(3000), ["PA 1 1 [500]", "PA 501 1 [500]"]);
  assert.deepEqual(small.send({ flags: "A", seq: 1, ack: 1001, window: 1200 }), [
    "PA 1001 1 [500]",
    "PA 1501 1 [500]",
  ]);

  const wide = new Wire().establish(1240);
  assert.equal(wide.write(60_000).length, 10, "RFC 6928: ten segments to begin with");
  assert.equal(wide.send({ flags: "A", seq: 1, ack: 1 + 1240 }).length, 2, "slow start: two for each one");
});

test("a closed window is probed with one byte, and opens again", () => {
  const wire = new Wire().establish(1000, 0);
  play(wire, [
    { at: 0, write: "answer", expect: [] },
    { at: 200, expect: ['PA 1 1 "a"'] },
    { at: 201, from: { flags: "A", seq: 1, ack: 1, window: 0 }, expect: [] },
    { at: 600, expect: ['PA 1 1 "a"'] },
    { at: 601, from: { flags: "A", seq: 1, ack: 2, window: 1000 }, expect: ['PA 2 1 "nswer"'] },
    { at: 602, from: { flags: "A", seq: 1, ack: 7, window: 1000 }, expect: [] },
  ]);
});

test("what is not read closes our window; reading a segment's worth announces the room", () => {
  const wire = new Wire().establish();
  const block = new Uint8Array(1000);
  let seq = 1;
  for (; seq + 1000 < BUFFER_BYTES; seq += 1000) wire.send({ flags: "A", seq, ack: 1, data: block });
  const rest = BUFFER_BYTES - seq + 1;
  wire.send({ flags: "A", seq, ack: 1, data: block.subarray(0, rest) });
  assert.equal(wire.connection.readable, BUFFER_BYTES);
  const beyond = BUFFER_BYTES + 1;
  assert.deepEqual(wire.send({ flags: "A", seq: beyond, ack: 1, data: block }), [`A 1 ${beyond}`]);
  assert.equal(wire.connection.readable, BUFFER_BYTES, "nothing more is taken");

  wire.connection.drop(1_000);
  assert.deepEqual(wire.drain(), []);
  wire.connection.drop(1_000);
  assert.deepEqual(wire.drain(), [`A 1 ${beyond}`]);
});

test("forged resets and SYNs inside the window only draw an acknowledgment (RFC 5961)", () => {
  const wire = new Wire().establish();
  play(wire, [
    { at: 0, from: { flags: "R", seq: 2 }, expect: ["A 1 1"] },
    { at: 1, from: { flags: "S", seq: 5 }, expect: ["A 1 1"] },
    { at: 2, from: { flags: "R", seq: 100_000 }, expect: [] },
    { at: 3, from: { flags: "A", seq: 1, ack: 500 }, expect: ["A 1 1"] },
  ]);
  assert.equal(wire.connection.state, "established");
  assert.deepEqual(wire.send({ flags: "R", seq: 1 }), []);
  assert.equal(wire.stack.size, 0);
});

test("segments to nobody are reset, resets are not", () => {
  const wire = new Wire();
  assert.deepEqual(wire.send({ flags: "PA", seq: 1, ack: 77, data: "x" }), ["R 77"]);
  assert.deepEqual(
    wire.send({ flags: "FP", seq: 0, data: "abc" }).map((line) => line.split(" ")[2]),
    ["4"],
  );
  assert.deepEqual(wire.send({ flags: "R", seq: 1 }), []);
});

test("ten connections at one address; the eleventh is refused and comes in when one ends (tunnel-core 2.5)", () => {
  const wire = new Wire();
  for (let port = 1; port <= 10; port++) assert.deepEqual(wire.send({ flags: "S", port }), ["SA 0 1"]);
  assert.match(wire.send({ flags: "S", port: 11 })[0] ?? "", /^RA .* 1$/);
  wire.send({ flags: "R", seq: 1, port: 3 });
  assert.deepEqual(wire.send({ flags: "S", port: 11 }), ["SA 0 1"]);
});

test("a segment with a wrong checksum is as good as lost", () => {
  const wire = new Wire();
  const bytes = packetFrom({ flags: "S" });
  bytes[27] = (bytes[27] ?? 0) ^ 1;
  wire.stack.handlePacket(parseIpPacket(bytes)!, wire.now);
  assert.deepEqual(wire.drain(), []);
});
