// Mutated frames and datagrams through both pipelines. Nothing may trap, and nothing may come out of the receiving
// side but what a peer sealed.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as abi from "../../assembly/abi.ts";
import { bigPacket, endpoints, superVirtio } from "../kernel/offload-traffic.ts";
import {
  datagramsOf,
  decapsulate,
  encapsulateRaw,
  keyOf,
  link,
  NOW,
  newCore,
  sealAll,
  single,
} from "../kernel/pipeline-driver.ts";
import { ipChecksumHolds } from "../kernel/twins/checksum.ts";
import { encodeFrame, makePartial, PLAIN, type Virtio } from "../kernel/twins/offload.ts";
import { parseSlowly } from "../kernel/twins/parse.ts";
import { Seeded } from "../kernel/twins/seeded.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);
const ROUNDS = Number(process.env["ROUNDS"] ?? 100_000);
const message = `SEED=${SEED}`;

test("mutated frames become packets that parse, or nothing", () => {
  const random = new Seeded(SEED);
  const left = newCore();
  const right = newCore();
  const pair = link(left, right, (length) => random.bytes(length));
  for (let done = 0; done < ROUNDS; ) {
    const frames = Array.from({ length: 64 }, () => mutated(random, randomFrame()));
    done += frames.length;
    const output = encapsulateRaw(left, frames);
    const received = decapsulate(right, output.trains).slow.filter(
      (slow) => slow.reason === abi.SLOW_PEER_PACKET,
    );
    assert.deepEqual(right.drops(), {}, message);
    for (const { packet } of [...output.slow, ...received]) {
      assert.equal(typeof parseSlowly(packet, abi.MAX_PACKET_BYTES), "object", message);
      assert.equal(packet.length <= abi.MAX_PACKET_BYTES, true, message);
    }
    // Slots are full often, so that frames of known flows are what remains.
    if (random.chance(0.1)) left.invalidateAll();
  }

  function randomFrame(): Uint8Array {
    const ends = endpoints(random);
    const isSuper = random.chance(0.2);
    const bytes = bigPacket(random, ends, random.below(isSuper ? 9000 : 300));
    if (random.chance(0.7)) left.addFlow(keyOf(bytes, "tun"), pair.left, undefined, NOW);
    let virtio: Virtio = PLAIN;
    if (isSuper) virtio = superVirtio(ends, 1 + random.below(1200), random);
    else if (random.chance(0.5)) virtio = makePartial(bytes);
    return encodeFrame({ virtio, packet: bytes });
  }
});

test("super-packets that were not mutated still pass, with right header checksums, after mutated ones", () => {
  const random = new Seeded(SEED);
  const left = newCore();
  for (let round = 0; round < 200; round++) {
    const ends = endpoints(random);
    const whole = bigPacket(random, ends, 3000);
    const frame = encodeFrame({ virtio: superVirtio(ends, 700, random), packet: whole });
    const { slow } = encapsulateRaw(left, [mutated(random, frame.slice()), frame]);
    const own = slow.filter((each) => each.source === 1);
    assert.equal(own.length, 5, message);
    assert.ok(
      own.every((each) => ipChecksumHolds(each.packet)),
      message,
    );
  }
});

test("of mutated datagrams only those that a peer sealed come out, each once", () => {
  const random = new Seeded(SEED);
  const left = newCore();
  const right = newCore();
  right.batch.setCoalesce(true);
  const pair = link(left, right, (length) => random.bytes(length));
  let accepted = 0;
  for (let done = 0; done < ROUNDS; ) {
    const packets = Array.from({ length: 32 }, () => bigPacket(random, endpoints(random), 300));
    for (const each of packets) {
      if (random.chance(0.5)) right.addFlow(keyOf(each, pair.right), pair.right, undefined, NOW);
    }
    const genuine = datagramsOf(sealAll(left, pair.left, packets));
    const sealed = new Set(packets.map(hex));
    const datagrams = genuine.map((each) => (random.chance(0.1) ? each : mutated(random, each.slice())));
    done += datagrams.length;

    const output = decapsulate(
      right,
      datagrams.map((each) => ({ ...single(each), segmentLength: randomSegment() })),
    );

    const opened = output.slow.filter((slow) => slow.reason === abi.SLOW_PEER_PACKET);
    for (const { packet } of [...output.frames, ...opened]) {
      assert.ok(sealed.delete(hex(packet)), `a packet that nobody sealed, or twice; ${message}`);
      accepted += 1;
    }
  }
  assert.ok(accepted > ROUNDS / 40, message);

  /** Mostly one datagram per buffer; otherwise the buffer is cut where nobody sealed anything. */
  function randomSegment(): number {
    return random.chance(0.9) ? 0 : 1 + random.below(600);
  }
});

/** One to three mutations: flipped bits, other bytes, a cut, a tail, a piece moved. */
function mutated(random: Seeded, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  let result = new Uint8Array(bytes);
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.chance(0.6) ? random.below(Math.min(80, result.length)) : random.below(result.length);
    const kind = random.below(6);
    if (result.length === 0) return result;
    if (kind <= 1) result[at] = result[at]! ^ (1 << random.below(8));
    else if (kind === 2) result[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    else if (kind === 3) result = result.slice(0, at);
    else if (kind === 4) result = new Uint8Array([...result, ...random.bytes(random.below(40))]);
    else result.copyWithin(at, random.below(result.length));
  }
  return result;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
