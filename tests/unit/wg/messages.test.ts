import assert from "node:assert/strict";
import { test } from "node:test";
import { HandshakeGate, identifyInitiation } from "../../../host/core/wg/gate.ts";
import { parseMessage } from "../../../host/core/wg/messages.ts";
import { noiseCrypto } from "../../../host/io/crypto.ts";
import { at, IDENTITIES, newNode } from "./pair.ts";
import { seededRandom } from "./randoms.ts";
import { fromHex, vectors } from "./vectors.ts";

const EXACT = new Map([
  [1, 148],
  [2, 92],
  [3, 64],
]);

test("a message is parsed at its exact length and at no other", () => {
  for (let type = 0; type <= 5; type++) {
    for (let length = 0; length <= 200; length++) {
      const bytes = new Uint8Array(length);
      if (length > 0) bytes[0] = type;
      const shaped = type === 4 ? length >= 32 : EXACT.get(type) === length;
      assert.equal(typeof parseMessage(bytes) === "object", shaped, `type ${type}, ${length} bytes`);
    }
  }
});

test("the three bytes behind the type must be zero", () => {
  for (const hex of [vectors.initiation, vectors.response, vectors.cookieReply, vectors.keepalive]) {
    for (const offset of [1, 2, 3]) {
      const bytes = fromHex(hex);
      bytes[offset] = 1;
      assert.equal(parseMessage(bytes), "not-wireguard");
    }
  }
});

test("indexes are read little-endian", () => {
  const initiation = parseMessage(fromHex(vectors.initiation));
  const response = parseMessage(fromHex(vectors.response));
  const cookieReply = parseMessage(fromHex(vectors.cookieReply));
  const data = parseMessage(fromHex(vectors.keepalive));

  assert.ok(typeof initiation === "object" && initiation.kind === "initiation");
  assert.ok(typeof response === "object" && response.kind === "response");
  assert.ok(typeof cookieReply === "object" && cookieReply.kind === "cookie-reply");
  assert.ok(typeof data === "object" && data.kind === "data");
  assert.equal(initiation.sender, vectors.initiatorIndex);
  assert.equal(response.sender, vectors.responderIndex);
  assert.equal(response.receiver, vectors.initiatorIndex);
  assert.equal(cookieReply.receiver, vectors.initiatorIndex);
  assert.equal(data.receiver, vectors.responderIndex);
});

test("truncated, extended and random messages are refused everywhere and change nothing", () => {
  const seed = Number(process.env["SEED"] ?? 7);
  const random = seededRandom(seed);
  const crypto = noiseCrypto();
  const node = newNode("right", "left", {});
  const gate = new HandshakeGate(IDENTITIES.right.publicKey, random, at(0));
  const source = { ip: "192.0.2.1" as never, port: 1 };

  const refuse = (bytes: Uint8Array, what: string): void => {
    const where = `${what}, ${bytes.length} bytes, SEED=${seed}`;
    assert.notEqual(node.peer.handleMessage(bytes, at(0)), "accepted", where);
    assert.equal(identifyInitiation(bytes, IDENTITIES.right, crypto), undefined, where);
    if (bytes[0] !== 3) assert.equal(gate.admit(bytes, source, at(0)).kind, "drop", where);
  };
  for (const hex of [vectors.initiation, vectors.response, vectors.cookieReply]) {
    const whole = fromHex(hex);
    for (let length = 0; length < whole.length; length++) refuse(whole.slice(0, length), "truncated");
    refuse(fromHex(`${hex}00`), "extended");
  }
  for (let round = 0; round < 600; round++) {
    const bytes = random.bytes([148, 92, 64, Math.floor(random.uniform() * 300)][round % 4]!);
    if (bytes.length > 4) bytes.set([round % 5, 0, 0, 0]);
    refuse(bytes, "random");
  }

  assert.equal(node.peer.pollMessage(), undefined);
  assert.equal(node.peer.pollEvent(), undefined);
  assert.equal(node.core.mostKeypairs, 0);
});
