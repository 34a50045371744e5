import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { ip, parseSocketAddress } from "../../../host/core/address.ts";
import type { StunAttribute } from "../../../host/core/stun/attribute.ts";
import {
  attributeValue,
  decodeStun,
  encodeStun,
  type OutgoingMessage,
  type StunMessage,
  verifyFingerprint,
  verifyIntegrity,
} from "../../../host/core/stun/message.ts";
import { SeededRandom, testSeed } from "../../sim/random.ts";
import vectors from "../../vectors/stun.json" with { type: "json" };

const { rfc5769, connectivity, relay } = vectors;
const TRANSACTION_ID = Buffer.from("0102030405060708090a0b0c", "hex");
const toKey = (text: string) => new TextEncoder().encode(text);

test("reads and authenticates the sample request of RFC 5769, whatever its padding bytes are", () => {
  const bytes = fromHex(rfc5769.request);
  const message = decoded(bytes);

  assert.equal(message.method, "binding");
  assert.equal(message.class, "request");
  assert.equal(attributeValue(message, "software"), "STUN test client");
  assert.equal(attributeValue(message, "username"), "evtj:h6vY");
  assert.equal(attributeValue(message, "priority"), 0x6e0001ff);
  assert.deepEqual(attributeValue(message, "ice-controlled"), fromHex("932ff9b151263b36"));
  assert.ok(verifyIntegrity(bytes, message, toKey(rfc5769.password)));
  assert.ok(verifyFingerprint(bytes, message));
});

for (const [name, hex, address] of [
  ["IPv4", rfc5769.responseV4, "192.0.2.1:32853"],
  ["IPv6", rfc5769.responseV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"],
] as const) {
  test(`reads and authenticates the ${name} response of RFC 5769`, () => {
    const bytes = fromHex(hex);
    const message = decoded(bytes);

    assert.equal(message.class, "success");
    assert.deepEqual(attributeValue(message, "xor-mapped-address"), parseSocketAddress(address));
    assert.ok(verifyIntegrity(bytes, message, toKey(rfc5769.password)));
    assert.ok(verifyFingerprint(bytes, message));
  });
}

test("authenticates the long-term request of RFC 5769 and reproduces it byte for byte", () => {
  const bytes = fromHex(rfc5769.longTerm.request);
  const message = decoded(bytes);
  const { realm, password } = rfc5769.longTerm;
  const key = createHash("md5")
    .update(`${attributeValue(message, "username")}:${realm}:${password}`)
    .digest();

  assert.ok(verifyIntegrity(bytes, message, key));
  assert.deepEqual(encodeStun({ ...outgoing(message), integrityKey: key }), bytes);
});

test("encodes check and answer as connectivity 16.2 has them (connectivity 17.23)", () => {
  const key = toKey(connectivity.gateway.password);
  const check = encodeStun({
    method: "binding",
    class: "request",
    transactionId: TRANSACTION_ID,
    attributes: [
      { kind: "username", value: "kwe6:w7up" },
      { kind: "ice-controlling", value: fromHex(connectivity.tieBreaker) },
      { kind: "priority", value: connectivity.priority },
      { kind: "use-candidate", value: true },
    ],
    integrityKey: key,
    fingerprint: "append",
  });
  const success = encodeStun({
    method: "binding",
    class: "success",
    transactionId: TRANSACTION_ID,
    attributes: [{ kind: "xor-mapped-address", value: { ip: ip("192.0.2.1"), port: 52625 } }],
    integrityKey: key,
    fingerprint: "append",
  });

  assert.equal(toHex(check), connectivity.check);
  assert.equal(toHex(success), connectivity.success);
});

test("encodes the first Allocate of connectivity 16.2", () => {
  const allocate = encodeStun({
    method: "allocate",
    class: "request",
    transactionId: TRANSACTION_ID,
    attributes: [
      { kind: "requested-transport", value: 17 },
      { kind: "additional-address-family", value: "ipv6" },
      { kind: "software", value: "snownet" },
      { kind: "username", value: connectivity.turn.username },
      { kind: "realm", value: "firezone" },
    ],
    integrityKey: fromHex(connectivity.turn.key),
  });
  assert.equal(toHex(allocate), connectivity.turn.allocate);
});

for (const name of ["unauthorized", "allocateSuccess", "channelBind", "bindingSuccess"] as const) {
  test(`decodes and re-encodes the relay's ${name} vector`, () => {
    const bytes = fromHex(relay[name]);
    const message = decoded(bytes);
    const key = message.integrityOffset === undefined ? undefined : fromHex(relay.key);

    assert.deepEqual(message.unknown, []);
    assert.deepEqual(message.malformed, []);
    if (key !== undefined) assert.ok(verifyIntegrity(bytes, message, key));
    assert.equal(toHex(encodeStun({ ...outgoing(message), integrityKey: key })), relay[name]);
  });
}

test("every attribute survives a round trip", () => {
  const v6 = { ip: ip("2001:db8::7"), port: 1 };
  const attributes: StunAttribute[] = [
    { kind: "username", value: "ä:b" },
    { kind: "realm", value: "" },
    { kind: "nonce", value: "n" },
    { kind: "software", value: "s".repeat(127) },
    { kind: "error-code", value: { code: 438, reason: "Stale Nonce" } },
    { kind: "address-error-code", value: { code: 440, reason: "", family: "ipv6" } },
    { kind: "unknown-attributes", value: [0x7f00, 0x0001] },
    { kind: "channel-number", value: 0x4fff },
    { kind: "lifetime", value: 0xffffffff },
    { kind: "data", value: Uint8Array.of(1, 2, 3) },
    { kind: "xor-mapped-address", value: { ip: ip("255.255.255.255"), port: 65535 } },
    { kind: "xor-peer-address", value: v6 },
    { kind: "xor-relayed-address", value: v6 },
    { kind: "requested-address-family", value: "ipv4" },
    { kind: "additional-address-family", value: "ipv6" },
    { kind: "requested-transport", value: 17 },
    { kind: "priority", value: 2130706431 },
    { kind: "use-candidate", value: true },
    { kind: "ice-controlled", value: new Uint8Array(8).fill(0xff) },
    { kind: "ice-controlling", value: new Uint8Array(8) },
  ];
  for (const method of ["binding", "allocate", "refresh", "send", "data", "create-permission"] as const) {
    for (const messageClass of ["request", "indication", "success", "error"] as const) {
      const bytes = encodeStun({
        method,
        class: messageClass,
        transactionId: TRANSACTION_ID,
        attributes,
      });
      const message = decoded(bytes);
      assert.equal(message.method, method);
      assert.equal(message.class, messageClass);
      assert.deepEqual(message.transactionId, new Uint8Array(TRANSACTION_ID));
      assert.deepEqual(message.attributes, attributes);
    }
  }
});

test("refuses the check at every other length, and with every other length field", () => {
  const check = fromHex(connectivity.check);
  for (let length = 0; length < check.length; length++) {
    assert.equal(decodeStun(check.subarray(0, length)), "malformed", `${length} bytes`);
  }
  for (let extra = 1; extra <= 8; extra++) {
    assert.equal(decodeStun(new Uint8Array([...check, ...new Uint8Array(extra)])), "malformed");
  }
  for (let length = 0; length < 256; length++) {
    const bytes = check.slice();
    bytes[3] = length;
    assert.equal(decodeStun(bytes) === "malformed", length !== 0x48);
  }
});

test("refuses a foreign cookie, set top bits, and an attribute that runs past the end", () => {
  for (const [offset, value] of [
    [4, 0x20],
    [0, 0x40],
    [0, 0x80],
    [23, 77],
  ] as const) {
    const bytes = fromHex(connectivity.check);
    bytes[offset] = value;
    assert.equal(decodeStun(bytes), "malformed");
  }
});

test("notices every changed bit that integrity covers, and every changed bit of the MAC", () => {
  const original = fromHex(connectivity.check);
  const key = toKey(connectivity.gateway.password);
  const integrityEnd = original.length - 8;
  for (let bit = 0; bit < integrityEnd * 8; bit++) {
    const bytes = original.slice();
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const message = decodeStun(bytes);
    assert.ok(message === "malformed" || !verifyIntegrity(bytes, message, key), `bit ${bit}`);
  }
});

test("does not act on attributes behind MESSAGE-INTEGRITY, except FINGERPRINT (relay 20.30)", () => {
  const key = toKey("k");
  const signed = encodeStun({
    method: "refresh",
    class: "request",
    transactionId: TRANSACTION_ID,
    attributes: [{ kind: "lifetime", value: 1 }],
    integrityKey: key,
  });
  const bytes = new Uint8Array(signed.length + 8);
  bytes.set(signed);
  bytes.set(fromHex("000d0004000002580"), signed.length);
  bytes[3] = bytes.length - 20;

  const message = decoded(bytes);
  assert.deepEqual(message.attributes, [{ kind: "lifetime", value: 1 }]);
  assert.ok(verifyIntegrity(bytes, message, key));
});

test("lists known attributes with impossible values and unknown required types, and keeps the rest", () => {
  const bytes = fromHex(
    "000900242112a4420102030405060708090a0b0c" + // ChannelBind
      "000d000200010000" + // LIFETIME of 2 bytes
      "0012000800030000c0000201" + // XOR-PEER-ADDRESS of family 3
      "7f000000" + // unknown, comprehension required
      "c0570000" + // unknown, optional
      "0024000400000001",
  );
  const message = decoded(bytes);
  assert.deepEqual(message.malformed, [0x000d, 0x0012]);
  assert.deepEqual(message.unknown, [0x7f00]);
  assert.deepEqual(message.attributes, [{ kind: "priority", value: 1 }]);
});

test("an attribute of every type and every length decodes or is listed as malformed, and never throws", () => {
  for (let type = 0; type < 0x10000; type = type === 0x40 ? 0x7ff0 : type === 0x8040 ? 0x10000 : type + 1) {
    for (let length = 0; length <= 24; length++) {
      const bytes = new Uint8Array(20 + 4 + ((length + 3) & ~3));
      bytes.set(fromHex(`0001${(bytes.length - 20).toString(16).padStart(4, "0")}2112a442`));
      new DataView(bytes.buffer).setUint32(20, type * 0x10000 + length);
      const { attributes, malformed, unknown } = decoded(bytes);
      assert.ok(attributes.length + malformed.length + unknown.length <= 1);
    }
  }
});

test("the first of two equal attributes counts", () => {
  const bytes = encodeStun({
    method: "binding",
    class: "request",
    transactionId: TRANSACTION_ID,
    attributes: [
      { kind: "username", value: "first" },
      { kind: "username", value: "second" },
    ],
  });
  assert.equal(attributeValue(decoded(bytes), "username"), "first");
});

test("random and mutated bytes never throw, and what decodes stays inside the datagram", () => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const originals = [rfc5769.request, connectivity.check, relay.channelBind, relay.allocateSuccess].map(
    fromHex,
  );
  for (let round = 0; round < 5_000; round++) {
    const original = originals[Math.floor(random.uniform() * originals.length)] ?? new Uint8Array();
    const bytes = round % 2 === 0 ? original.slice() : withCookie(random);
    for (let i = 0; i < 4; i++) bytes[Math.floor(random.uniform() * bytes.length)] = random.bytes(1)[0] ?? 0;
    const message = decodeStun(bytes);
    if (message === "malformed") continue;
    assert.ok((message.integrityOffset ?? 0) + 24 <= Math.max(bytes.length, 24), `SEED=${seed}`);
    verifyIntegrity(bytes, message, toKey("k"));
    verifyFingerprint(bytes, message);
  }
});

function withCookie(random: SeededRandom): Uint8Array {
  const bytes = random.bytes(20 + 4 * Math.floor(random.uniform() * 12));
  bytes.set([0, 1, 0, bytes.length - 20, 0x21, 0x12, 0xa4, 0x42]);
  return bytes;
}

function decoded(bytes: Uint8Array): StunMessage {
  const message = decodeStun(bytes);
  if (message === "malformed") assert.fail("does not decode");
  return message;
}

function outgoing(message: StunMessage): OutgoingMessage {
  assert.notEqual(message.method, "other");
  const { transactionId, attributes } = message;
  return {
    method: message.method as OutgoingMessage["method"],
    class: message.class,
    transactionId,
    attributes,
  };
}

function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
