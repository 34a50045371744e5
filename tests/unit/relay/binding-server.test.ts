import assert from "node:assert/strict";
import { test } from "node:test";
import { ip, parseSocketAddress, type SocketAddress } from "../../../host/core/address.ts";
import { BindingServer } from "../../../host/core/relay/binding-server.ts";
import { REPLIES_PER_SOURCE, REPLIES_TOTAL } from "../../../host/core/relay/reply-limiter.ts";
import {
  attributeValue,
  decodeStun,
  encodeStun,
  type StunMessage,
  verifyFingerprint,
} from "../../../host/core/stun/message.ts";
import { SeededRandom, testSeed } from "../../sim/random.ts";
import vectors from "../../vectors/stun.json" with { type: "json" };

const LOCAL = address("198.51.100.7:3478");
const CLIENT = address(vectors.relay.client);
const REQUEST = fromHex(vectors.relay.binding);

test("answers a Binding request with its source address and nothing else (relay 20.1)", () => {
  const server = new BindingServer({ software: vectors.relay.software });
  const answer = ask(server, REQUEST);
  const message = decoded(answer);

  assert.equal(message.class, "success");
  assert.deepEqual(message.attributes, [{ kind: "xor-mapped-address", value: CLIENT }]);
  assert.deepEqual(message.transactionId, REQUEST.slice(8));
  assert.equal(message.integrityOffset, undefined);
  assert.equal(message.fingerprintOffset, undefined);
  assert.equal(answer?.length, 32);
});

test("names its software where that makes the answer no larger than the request (relay A)", () => {
  const server = new BindingServer({ software: vectors.relay.software });
  const large = request(41);
  assert.equal(large.length, 64 + 4);
  assert.equal(Buffer.from(ask(server, large) ?? []).toString("hex"), vectors.relay.bindingSuccess);
  assert.equal(ask(server, request(35))?.length, 32);
});

test("answers IPv6 clients, and adds FINGERPRINT where the request had one", () => {
  const server = new BindingServer();
  const from = address("[2001:db8::5]:1");
  const payload = encodeStun({ ...BARE, fingerprint: "append" });
  const answer = server.handleDatagram({ local: LOCAL, from, payload }, 1);
  const message = decoded(answer);

  assert.deepEqual(attributeValue(message, "xor-mapped-address"), from);
  assert.ok(answer && verifyFingerprint(answer, message));
});

test("is silent about anything that is not a well-formed Binding request (relay 20.25, 20.31, 20.33)", () => {
  const server = new BindingServer();
  const wrongFingerprint = encodeStun({ ...BARE, fingerprint: "append" });
  wrongFingerprint[27] = (wrongFingerprint[27] ?? 0) ^ 1;
  const ignored: Uint8Array[] = [
    new Uint8Array(),
    Uint8Array.of(0x40),
    fromHex(`0009${vectors.relay.binding.slice(4)}`),
    fromHex(`0011${vectors.relay.binding.slice(4)}`),
    fromHex(`0101${vectors.relay.binding.slice(4)}`),
    fromHex(`0111${vectors.relay.binding.slice(4)}`),
    fromHex(`3fef${vectors.relay.binding.slice(4)}`),
    fromHex(vectors.relay.channelBind),
    wrongFingerprint,
  ];
  for (let length = 0; length < REQUEST.length; length++) ignored.push(REQUEST.slice(0, length));
  for (let extra = 1; extra <= 4; extra++)
    ignored.push(new Uint8Array([...REQUEST, ...new Uint8Array(extra)]));

  for (const payload of ignored) assert.equal(ask(server, payload), undefined);
  const fromNowhere = { local: LOCAL, from: { ip: CLIENT.ip, port: 0 }, payload: REQUEST };
  assert.equal(server.handleDatagram(fromNowhere, 1), undefined);

  const counters = server.counters();
  assert.equal(counters.answered, 0);
  assert.equal(counters["port-zero"], 1);
  assert.equal(counters.malformed + counters["not-a-binding-request"], ignored.length);
});

test("random bytes are never answered and never throw", () => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const server = new BindingServer();
  for (let i = 0; i < 2_000; i++) {
    const payload = random.bytes(Math.floor(random.uniform() * 64));
    assert.equal(ask(server, payload), undefined, `SEED=${seed}`);
  }
});

test("answers a source so often per second, whatever its port, and others meanwhile (relay 7.3)", () => {
  const server = new BindingServer();
  let answered = 0;
  for (let i = 0; i < 1_000; i++) {
    const from = { ip: CLIENT.ip, port: 1 + i };
    if (server.handleDatagram({ local: LOCAL, from, payload: REQUEST }, 1_000 + i / 2) !== undefined)
      answered++;
  }
  assert.equal(answered, REPLIES_PER_SOURCE);
  assert.equal(server.counters().limited, 1_000 - REPLIES_PER_SOURCE);

  const other = { ip: ip("192.0.2.11"), port: 1 };
  assert.ok(server.handleDatagram({ local: LOCAL, from: other, payload: REQUEST }, 1_500));
  assert.ok(ask(server, REQUEST, 2_000), "the next second has a new budget");
});

test("one IPv6 site shares a budget, and all sources share a larger one", () => {
  const server = new BindingServer();
  const answeredFrom = (text: string) => {
    const from = { ip: ip(text), port: 9 };
    return server.handleDatagram({ local: LOCAL, from, payload: REQUEST }, 1) !== undefined;
  };
  let site = 0;
  for (let i = 0; i < 300; i++) if (answeredFrom(`2001:db8::${i.toString(16)}`)) site++;
  assert.equal(site, REPLIES_PER_SOURCE);

  let total = site;
  for (let i = 0; i < 40_000; i++) if (answeredFrom(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)) total++;
  assert.equal(total, REPLIES_TOTAL);
});

const BARE = {
  method: "binding",
  class: "request",
  transactionId: REQUEST.slice(8),
  attributes: [],
} as const;

function request(softwareLength: number): Uint8Array {
  return encodeStun({ ...BARE, attributes: [{ kind: "software", value: "s".repeat(softwareLength) }] });
}

function ask(server: BindingServer, payload: Uint8Array, now = 1): Uint8Array | undefined {
  return server.handleDatagram({ local: LOCAL, from: CLIENT, payload }, now);
}

function decoded(bytes: Uint8Array | undefined): StunMessage {
  const message = decodeStun(bytes ?? new Uint8Array());
  if (message === "malformed") assert.fail("no answer");
  return message;
}

function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed);
  return parsed;
}

function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}
