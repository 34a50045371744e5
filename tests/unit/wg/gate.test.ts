import assert from "node:assert/strict";
import { test } from "node:test";
import { ip, type SocketAddress } from "../../../host/core/address.ts";
import { CookieJar } from "../../../host/core/wg/cookie.ts";
import { hash, openCookie } from "../../../host/core/wg/crypto.ts";
import {
  type Admission,
  COOKIED_HANDSHAKES_PER_SECOND,
  HANDSHAKES_PER_SECOND,
  HandshakeGate,
} from "../../../host/core/wg/gate.ts";
import { type CookieReply, parseMessage } from "../../../host/core/wg/messages.ts";
import { at, IDENTITIES } from "./pair.ts";
import { seededRandom } from "./randoms.ts";

const NODE = IDENTITIES.right;
const HERE: SocketAddress = { ip: ip("192.0.2.1"), port: 5000 };
const THERE: SocketAddress = { ip: ip("192.0.2.2"), port: 5000 };
const SENDER_INDEX = 0x01020304;

test("message 101 of a second gets a cookie that opens under its mac1, and passes with it (connectivity 35)", () => {
  const gate = newGate();
  fill(gate, 0);
  const jar = new CookieJar(NODE.publicKey, 120_000);
  const message = initiation(jar, 1);

  const reply = cookieReply(gate.admit(message, HERE, at(1)));
  assert.equal(reply.receiver, SENDER_INDEX);
  const key = hash(Uint8Array.from(Buffer.from("cookie--")), NODE.publicKey);
  const mac1 = message.subarray(116, 132);
  assert.equal(openCookie(key, reply.nonce, reply.sealedCookie, mac1)?.length, 16);
  assert.equal(openCookie(key, reply.nonce, reply.sealedCookie, new Uint8Array(16)), undefined);

  assert.equal(jar.accept(reply, at(2)), true);
  assert.equal(gate.admit(initiation(jar, 3), HERE, at(3)).kind, "accept");
});

test("the first 100 of every second pass without a cookie", () => {
  const gate = newGate();
  for (const second of [0, 1, 2]) {
    fill(gate, second * 1000);
    assert.equal(gate.admit(initiation(), HERE, at(second * 1000 + 999)).kind, "cookie-reply");
  }
});

test("messages with a wrong mac1 are dropped, uncounted and unanswered", () => {
  const gate = newGate();
  const forged = initiation();
  forged[120]! ^= 1;
  for (let i = 0; i < 5 * HANDSHAKES_PER_SECOND; i++) {
    assert.deepEqual(gate.admit(forged, HERE, at(0)), { kind: "drop", reason: "bad-handshake" });
  }
  assert.equal(gate.admit(initiation(), HERE, at(0)).kind, "accept");
});

test("a cookie is good for its source address only, on any port", () => {
  const { gate, jar } = loadedWithCookie();
  assert.equal(gate.admit(initiation(jar, 3), THERE, at(3)).kind, "cookie-reply");
  assert.equal(gate.admit(initiation(jar, 3), { ...HERE, port: 9 }, at(3)).kind, "accept");
});

test("an IPv4 source and its IPv6-mapped form share a cookie, other IPv6 sources do not", () => {
  const { gate, jar } = loadedWithCookie();
  const kindFrom = (text: string): string =>
    gate.admit(initiation(jar, 3), { ip: ip(text), port: 1 }, at(3)).kind;
  assert.equal(kindFrom("::ffff:c000:201"), "accept");
  assert.equal(kindFrom("::c000:201"), "cookie-reply");
});

test("a cookie serves at least 120 s and at most 240 s", () => {
  for (const issuedAt of [0, 60_000, 118_000]) {
    const { gate, jar } = loadedWithCookie(issuedAt);
    const kindAfter = (age: number): string => {
      fill(gate, issuedAt + age);
      return gate.admit(initiation(jar, issuedAt + age), HERE, at(issuedAt + age)).kind;
    };
    assert.equal(kindAfter(119_999), "accept");
    assert.equal(kindAfter(240_001), "cookie-reply");
  }
});

test("even proven addresses cannot make the node work without bound", () => {
  const { gate, jar } = loadedWithCookie();
  const message = initiation(jar, 3);
  const kinds = new Map<string, number>();
  for (let i = 0; i < 2 * COOKIED_HANDSHAKES_PER_SECOND; i++) {
    const { kind } = gate.admit(message, HERE, at(3));
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  assert.deepEqual(
    kinds,
    new Map([
      ["accept", COOKIED_HANDSHAKES_PER_SECOND],
      ["drop", COOKIED_HANDSHAKES_PER_SECOND],
    ]),
  );

  fill(gate, 1_000);
  assert.equal(gate.admit(initiation(jar, 1_001), HERE, at(1_001)).kind, "accept");
});

test("data and foreign datagrams are not for the gate", () => {
  const data = new Uint8Array(32);
  data[0] = 4;
  assert.deepEqual(newGate().admit(data, HERE, at(0)), { kind: "drop", reason: "not-wireguard" });
  assert.deepEqual(newGate().admit(new Uint8Array(20), HERE, at(0)), {
    kind: "drop",
    reason: "not-wireguard",
  });
});

function newGate(): HandshakeGate {
  return new HandshakeGate(NODE.publicKey, seededRandom(11), at(0));
}

function loadedWithCookie(milliseconds = 0): { gate: HandshakeGate; jar: CookieJar } {
  const gate = newGate();
  fill(gate, milliseconds);
  const jar = new CookieJar(NODE.publicKey, 1_000_000);
  const reply = cookieReply(gate.admit(initiation(jar, milliseconds), HERE, at(milliseconds)));
  assert.ok(jar.accept(reply, at(milliseconds)));
  return { gate, jar };
}

/** Uses up the second that begins at `milliseconds`. */
function fill(gate: HandshakeGate, milliseconds: number): void {
  for (let i = 0; i < HANDSHAKES_PER_SECOND; i++) {
    assert.equal(gate.admit(initiation(), THERE, at(milliseconds)).kind, "accept", `message ${i}`);
  }
}

/** Only the MACs matter to the gate. */
function initiation(jar = new CookieJar(NODE.publicKey, 0), milliseconds = 0): Uint8Array {
  const message = new Uint8Array(148);
  message[0] = 1;
  new DataView(message.buffer).setUint32(4, SENDER_INDEX, true);
  jar.authenticate(message, SENDER_INDEX, at(milliseconds));
  return message;
}

function cookieReply(admission: Admission): CookieReply {
  assert.ok(admission.kind === "cookie-reply");
  const reply = parseMessage(admission.message);
  assert.ok(typeof reply === "object" && reply.kind === "cookie-reply");
  return reply;
}
