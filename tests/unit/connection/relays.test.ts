import assert from "node:assert/strict";
import { test } from "node:test";
import { ip, parseSocketAddress, type SocketAddress } from "../../../host/core/address.ts";
import { Relays } from "../../../host/core/connection/relays.ts";
import type { RelayId } from "../../../host/core/id.ts";
import { BindingServer } from "../../../host/core/relay/binding-server.ts";
import { decodeStun } from "../../../host/core/stun/message.ts";
import type { Instant } from "../../../host/core/time.ts";
import type { Transmit } from "../../../host/core/transmit.ts";
import { relayAt } from "../../sim/node.ts";
import { SeededRandom } from "../../sim/random.ts";

const V4 = "198.51.100.7:3478";
const V6 = "[2001:db8::7]:3478";
const ONE = relayAt("one", V4);
const DUAL = relayAt("dual", V4, V6);
const OTHER = relayAt("other", "198.51.100.8:3478");
const LOCAL_V4 = address("10.0.0.5:52625");
const LOCAL_V6 = address("[2001:db8::5]:52625");
const MAPPED_V4 = address("203.0.113.1:40000");
const START: Instant = 1_000;

test("asks at 0, 1000, 2500 and 4750 ms with one transaction id, gives up at 8125 (connectivity 17.9)", () => {
  const story = new Story();
  story.relays.update([], [ONE], story.now);
  story.runTo(8_124);
  assert.deepEqual(story.sentAt(V4), [0, 1_000, 2_500, 4_750]);
  const requests = story.sent.map(({ transmit }) => Buffer.from(transmit.payload).toString("hex"));
  assert.equal(new Set(requests).size, 1);
  assert.equal(story.relays.size, 1);

  story.runTo(8_125);
  assert.equal(story.relays.size, 0);
  assert.deepEqual(story.kinds(), ["note", "no-relays"]);
  story.runTo(100_000);
  assert.equal(story.sent.length, 4);
});

test("a dual-stack relay is asked over both families, and each answer is a mapping (connectivity 17.8)", () => {
  const story = new Story();
  story.relays.update([], [DUAL], story.now);
  story.answerAll();
  assert.deepEqual(story.mappings(), [
    { local: LOCAL_V4, mapped: MAPPED_V4 },
    { local: LOCAL_V6, mapped: LOCAL_V6 },
  ]);
  assert.deepEqual(story.relays.mappings, story.mappings());
});

test("a relay of which one family answers stays, and the silent one is left alone", () => {
  const story = new Story();
  story.isAnswering = (to) => to === V6;
  story.relays.update([], [DUAL], story.now);
  story.runTo(60_000);
  assert.equal(story.relays.size, 1);
  assert.deepEqual(story.sentAt(V4), [0, 1_000, 2_500, 4_750]);
  assert.deepEqual(story.sentAt(V6), [0, 25_000, 50_000]);
});

test("asks again every 25 s and reports a changed mapping once", () => {
  const story = new Story();
  story.isAnswering = () => true;
  story.relays.update([], [ONE], story.now);
  story.runTo(30_000);
  assert.equal(story.mappings().length, 1);
  story.mapped = address("203.0.113.1:41111");
  story.runTo(80_000);
  assert.deepEqual(story.sentAt(V4), [0, 25_000, 50_000, 75_000]);
  assert.deepEqual(
    story.mappings().map(({ mapped }) => mapped.port),
    [40_000, 41_111],
  );
});

test("a relay that stops answering is dropped after the next question's budget", () => {
  const story = new Story();
  story.isAnswering = () => true;
  story.relays.update([], [ONE], story.now);
  story.runTo(1_000);
  story.isAnswering = () => false;
  story.runTo(25_000 + 8_124);
  assert.equal(story.relays.size, 1);
  story.runTo(25_000 + 8_125);
  assert.equal(story.relays.size, 0);
  assert.ok(story.kinds().includes("no-relays"));
});

test("an answer counts only with its transaction id, from the server asked, and with an address in it", () => {
  const story = new Story();
  story.relays.update([], [ONE], story.now);
  story.drain();
  const [request] = story.sent;
  assert.ok(request);
  const answer = story.answerTo(request.transmit);
  const wrongId = answer.slice();
  wrongId[19] = (wrongId[19] ?? 0) ^ 1;
  const noAddress = answer.slice(0, 20).fill(0, 2, 4);

  assert.equal(story.receive(wrongId, V4), false);
  assert.equal(story.receive(answer, "198.51.100.9:3478"), false);
  assert.equal(story.receive(noAddress, V4), false);
  assert.equal(story.receive(request.transmit.payload, V4), false);
  assert.deepEqual(story.mappings(), []);
  assert.equal(story.receive(answer, V4), true);
  assert.equal(story.receive(answer, V4), false, "a copy answers nothing");
});

test("an equal relay is left alone, a changed one is asked anew, one not named is checked", () => {
  const story = new Story();
  story.isAnswering = () => true;
  story.relays.update([], [ONE, OTHER], story.now);
  story.runTo(10_000);
  assert.equal(story.sent.length, 2);

  story.relays.update([], [ONE], story.now);
  story.drain();
  assert.deepEqual(story.sentAt(V4), [0]);
  assert.deepEqual(story.sentAt("198.51.100.8:3478"), [0, 10_000]);

  story.relays.update([], [{ ...ONE, password: "other" }, OTHER], story.now);
  story.drain();
  assert.deepEqual(story.sentAt(V4), [0, 10_000]);
  assert.equal(story.relays.size, 2);
});

test("a removed relay is a former server, until it is named again", () => {
  const story = new Story();
  story.relays.update([], [ONE], story.now);
  assert.ok(story.relays.isServer(address(V4)));
  assert.equal(story.relays.wasServer(address(V4)), false);

  story.relays.update(["one" as RelayId], [], story.now);
  story.drain();
  assert.equal(story.relays.isServer(address(V4)), false);
  assert.ok(story.relays.wasServer(address(V4)));
  assert.deepEqual(story.kinds(), ["no-relays"]);

  story.relays.update([], [ONE], story.now);
  assert.equal(story.relays.wasServer(address(V4)), false);
});

test("remembers the last 64 former relays", () => {
  const story = new Story();
  for (let i = 0; i < 70; i++) {
    story.relays.update([], [relayAt(`r${i}`, `198.51.100.${i}:3478`)], story.now);
    story.relays.update([`r${i}` as RelayId], [], story.now);
  }
  assert.equal(story.relays.wasServer(address("198.51.100.5:3478")), false);
  assert.equal(story.relays.wasServer(address("198.51.100.6:3478")), true);
});

test("after a restart the relays are asked again and the old mappings are gone", () => {
  const story = new Story();
  story.isAnswering = () => true;
  story.relays.update([], [ONE], story.now);
  story.runTo(1_000);
  story.isAnswering = () => false;
  story.relays.restart(story.now);
  story.drain();
  assert.deepEqual(story.relays.mappings, []);
  assert.deepEqual(story.sentAt(V4), [0, 1_000]);
});

/** Relays in simulated time; the servers are the test. */
class Story {
  readonly relays = new Relays(new SeededRandom(1));
  readonly sent: { readonly at: number; readonly transmit: Transmit }[] = [];
  readonly events: unknown[] = [];
  readonly server = new BindingServer();
  isAnswering: (server: string) => boolean = () => false;
  mapped = MAPPED_V4;
  now = START;

  runTo(elapsed: number): void {
    this.drain();
    for (;;) {
      const at = this.relays.pollTimeout()?.at;
      if (at === undefined || at > START + elapsed) break;
      this.now = at;
      this.relays.handleTimeout(at);
      this.drain();
    }
    this.now = START + elapsed;
  }

  drain(): void {
    for (let t = this.relays.pollTransmit(); t !== undefined; t = this.relays.pollTransmit()) {
      this.sent.push({ at: this.now - START, transmit: t });
      const to = `${t.destination.ip.includes(":") ? `[${t.destination.ip}]` : t.destination.ip}:3478`;
      if (this.isAnswering(to)) this.receive(this.answerTo(t), to);
    }
    this.#drainEvents();
  }

  answerAll(): void {
    this.isAnswering = () => true;
    this.drain();
  }

  answerTo(transmit: Transmit): Uint8Array {
    const from = transmit.destination.ip.includes(":") ? LOCAL_V6 : this.mapped;
    const datagram = { local: transmit.destination, from, payload: transmit.payload };
    return this.server.handleDatagram(datagram, this.now) ?? assert.fail("no answer");
  }

  receive(payload: Uint8Array, from: string): boolean {
    const message = decodeStun(payload);
    if (message === "malformed") assert.fail("does not decode");
    const source = address(from);
    const local = source.ip.includes(":") ? LOCAL_V6 : LOCAL_V4;
    const result = this.relays.handleMessage(message, { local, from: source, payload }, this.now);
    this.#drainEvents();
    return result;
  }

  sentAt(server: string): number[] {
    const { ip: wanted } = address(server);
    return this.sent.filter(({ transmit }) => transmit.destination.ip === ip(wanted)).map(({ at }) => at);
  }

  kinds(): string[] {
    return this.events.map((event) => (event as { kind: string }).kind);
  }

  mappings(): { readonly local: SocketAddress; readonly mapped: SocketAddress }[] {
    return this.events.flatMap((event) => {
      const e = event as { kind: string; mapping: { local: SocketAddress; mapped: SocketAddress } };
      return e.kind === "mapping" ? [e.mapping] : [];
    });
  }

  #drainEvents(): void {
    for (let e = this.relays.pollEvent(); e !== undefined; e = this.relays.pollEvent()) this.events.push(e);
  }
}

function address(text: string): SocketAddress {
  return parseSocketAddress(text) ?? assert.fail(text);
}
