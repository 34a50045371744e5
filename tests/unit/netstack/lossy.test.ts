import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { TcpStack } from "../../../host/core/netstack/stack.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { SeededRandom, testSeed } from "../../sim/random.ts";

const SERVER = { ip: ip("fd00:2021:1111:8000:100:100:111:0"), port: 53 };
const CLIENT = { ip: ip("fd00:2021:1111::1"), port: 50_000 };
const SEED = testSeed();
const BYTES = 200_000;
const DELAY_MS = 5;

/** Two stacks whose packets are lost, doubled and overtaken on the way. */
class LossyPair {
  readonly #random = new SeededRandom(SEED);
  readonly client = new TcpStack(this.#random, { perLocal: 1, total: 1 });
  readonly server = new TcpStack(this.#random, { perLocal: 1, total: 1 });
  #inFlight: { at: number; to: "client" | "server"; bytes: Uint8Array }[] = [];
  now = 1000;

  step(): void {
    this.now += 1;
    for (const { to, bytes } of this.#due()) {
      const packet = parseIpPacket(bytes);
      assert.ok(packet !== undefined);
      if (to === "server") this.server.handlePacket(packet, this.now);
      else this.client.handleReply(packet, { local: CLIENT, remote: SERVER }, this.now);
    }
    for (const stack of [this.client, this.server]) stack.handleTimeout(this.now);
    this.carry();
  }

  carry(): void {
    for (const [stack, to] of [[this.client, "server"] as const, [this.server, "client"] as const]) {
      for (let bytes = stack.pollPacket(this.now); bytes !== undefined; bytes = stack.pollPacket(this.now)) {
        const luck = this.#random.uniform();
        for (let copies = luck < 0.1 ? 0 : luck < 0.15 ? 2 : 1; copies > 0; copies--) {
          this.#inFlight.push({ at: this.now + DELAY_MS * (1 + this.#random.uniform()), to, bytes });
        }
      }
    }
  }

  #due() {
    const due = this.#inFlight.filter(({ at }) => at <= this.now);
    this.#inFlight = this.#inFlight.filter(({ at }) => at > this.now);
    return due;
  }
}

test(`200 kB each way survive a tenth of the packets being lost, some doubled, most reordered (SEED=${SEED})`, () => {
  const pair = new LossyPair();
  const client = pair.client.open({ local: CLIENT, remote: SERVER }, pair.now);
  assert.ok(client !== undefined);
  const sent = { client: 0, server: 0 };
  const received = { client: 0, server: 0 };
  const pump = (end: "client" | "server", connection: typeof client): void => {
    const length = Math.min(connection.sendFree, BYTES - sent[end], 5000);
    const bytes = Uint8Array.from({ length }, (_, i) => pattern(sent[end] + i));
    if (length > 0 && connection.send(bytes, pair.now)) sent[end] += length;
    const { readable } = connection;
    connection.peek(readable).forEach((byte, i) => {
      if (byte !== pattern(received[end] + i)) assert.fail(`byte ${received[end] + i} at the ${end}`);
    });
    connection.drop(readable);
    received[end] += readable;
  };

  const isDone = (): boolean => received.client === BYTES && received.server === BYTES;
  while (!isDone()) {
    assert.ok(pair.now < 600_000, `stuck at ${JSON.stringify({ sent, received })}`);
    const [server] = pair.server.connections();
    pump("client", client);
    if (server !== undefined) pump("server", server);
    pair.step();
  }
  client.close(pair.now);
  for (const server of pair.server.connections()) server.close(pair.now);
  for (let i = 0; i < 60_000 && pair.client.size + pair.server.size > 0; i++) pair.step();
  assert.deepEqual([pair.client.size, pair.server.size], [0, 0]);
});

function pattern(index: number): number {
  return (index * 31 + (index >> 8)) & 0xff;
}
