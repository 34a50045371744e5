import assert from "node:assert/strict";
import { test } from "node:test";
import type { PeerId } from "../../../host/core/id.ts";
import type { Random } from "../../../host/core/random.ts";
import { CookieJar, mac1Key, verifyMac1 } from "../../../host/core/wg/cookie.ts";
import { hash, mac, type StaticIdentity, sealCookie } from "../../../host/core/wg/crypto.ts";
import { identifyInitiation } from "../../../host/core/wg/gate.ts";
import {
  authenticatedPart,
  type Initiation,
  parseMessage,
  type Response,
} from "../../../host/core/wg/messages.ts";
import {
  type ConsumedInitiation,
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  type Ends,
  openInitiation,
} from "../../../host/core/wg/noise.ts";
import { WireGuardPeer } from "../../../host/core/wg/peer.ts";
import { noiseCrypto } from "../../../host/io/crypto.ts";
import { ModelCore } from "./model-core.ts";
import type { DataPath } from "./pair.ts";
import { scriptedRandom } from "./randoms.ts";
import { fromHex, toHex, vectors } from "./vectors.ts";
import { WasmDataPath } from "./wasm-core.ts";

const crypto = noiseCrypto();
const initiator: StaticIdentity = {
  privateKey: fromHex(vectors.initiatorStaticPrivate),
  publicKey: fromHex(vectors.initiatorStatic),
};
const responder: StaticIdentity = {
  privateKey: fromHex(vectors.responderStaticPrivate),
  publicKey: fromHex(vectors.responderStatic),
};

test("public keys of the vectors follow from the private ones", () => {
  assert.equal(toHex(crypto.publicKey(initiator.privateKey)), vectors.initiatorStatic);
  assert.equal(toHex(crypto.publicKey(responder.privateKey)), vectors.responderStatic);
  assert.equal(
    toHex(crypto.publicKey(fromHex(vectors.initiatorEphemeralPrivate))),
    vectors.initiatorEphemeral,
  );
  assert.equal(
    toHex(crypto.publicKey(fromHex(vectors.responderEphemeralPrivate))),
    vectors.responderEphemeral,
  );
});

test("the initiation equals the vector byte for byte", () => {
  const { message } = sentInitiation();
  assert.equal(toHex(message), vectors.initiation);
});

test("the response and both transport keys equal the vectors (connectivity 32)", () => {
  const { message, keys } = answered();
  assert.equal(toHex(message), vectors.response);
  assert.equal(toHex(keys.receiveKey), vectors.initiatorSendKey);
  assert.equal(toHex(keys.sendKey), vectors.responderSendKey);
});

test("the initiator derives the mirrored keys from the response", () => {
  const keys = consumeResponse(parsedResponse(), sentInitiation().sent, endsOf(initiator, responder), crypto);
  assert.ok(typeof keys === "object");
  assert.equal(toHex(keys.sendKey), vectors.initiatorSendKey);
  assert.equal(toHex(keys.receiveKey), vectors.responderSendKey);
});

test("the consumed initiation tells index, static key and timestamp", () => {
  const consumed = consumedInitiation();
  assert.equal(consumed.remoteIndex, vectors.initiatorIndex);
  assert.equal(toHex(consumed.remoteStatic), vectors.initiatorStatic);
  assert.equal(toHex(consumed.timestamp), vectors.timestamp);
});

test("a responder finds the initiator's key before it has a connection", () => {
  assert.equal(
    toHex(identifyInitiation(fromHex(vectors.initiation), responder, crypto)),
    vectors.initiatorStatic,
  );
  assert.equal(identifyInitiation(fromHex(vectors.initiation), initiator, crypto), undefined);
  assert.equal(identifyInitiation(fromHex(vectors.response), responder, crypto), undefined);
});

test("an initiation with any one byte before mac1 changed is not identified", () => {
  for (let i = 0; i < 132; i++) {
    const forged = fromHex(vectors.initiation);
    forged[i]! ^= 1;
    assert.equal(identifyInitiation(forged, responder, crypto), undefined, `byte ${i}`);
  }
});

test("another preshared key makes the response unverifiable", () => {
  const ends = { ...endsOf(initiator, responder), presharedKey: new Uint8Array(32) };
  assert.equal(consumeResponse(parsedResponse(), sentInitiation().sent, ends, crypto), "bad-handshake");
});

test("an ephemeral key of low order is refused in both messages", () => {
  const initiation = fromHex(vectors.initiation).fill(0, 8, 40);
  assert.equal(openInitiation(parseMessage(initiation) as Initiation, responder, crypto), undefined);
  const response = fromHex(vectors.response).fill(0, 12, 44);
  const result = consumeResponse(
    parseMessage(response) as Response,
    sentInitiation().sent,
    endsOf(initiator, responder),
    crypto,
  );
  assert.equal(result, "bad-handshake");
});

test("a cookie reply seals the vector's cookie under mac1 of the answered message", () => {
  const { mac1 } = authenticatedPart(fromHex(vectors.initiation));
  const key = hash(Uint8Array.from(Buffer.from("cookie--")), responder.publicKey);
  const sealed = sealCookie(key, fromHex(vectors.cookieNonce), fromHex(vectors.cookie), mac1);
  assert.equal(toHex(sealed), vectors.cookieReply.slice(64));
});

test("a cookie from the vector's reply gives the vector's mac2", () => {
  const jar = new CookieJar(responder.publicKey, 120_000);
  const message = fromHex(vectors.initiation);
  jar.authenticate(message, vectors.initiatorIndex, 1);
  const reply = parseMessage(fromHex(vectors.cookieReply));
  assert.ok(typeof reply === "object" && reply.kind === "cookie-reply");
  assert.equal(jar.accept(reply, 1), true);

  jar.authenticate(message, vectors.initiatorIndex, 2);
  assert.equal(toHex(message.subarray(132)), vectors.cookieMac2);
  assert.equal(toHex(mac(fromHex(vectors.cookie), message.subarray(0, 132))), vectors.cookieMac2);
});

for (const [name, newCore] of [
  ["the model", () => new ModelCore()],
  ["the packet core", () => new WasmDataPath()],
] as const) {
  test(`two peers over ${name} with the vectors' randomness send the vectors' messages (connectivity 32)`, () => {
    // Peer ids and upper 13 bits as in the vectors' indexes; then jitter.
    const ephemerals = [vectors.initiatorEphemeralPrivate, vectors.responderEphemeralPrivate].map(fromHex);
    const left = peerOn(
      newCore(),
      0x456,
      initiator,
      responder,
      scriptedRandom([ephemerals[0]!], [0x246 / 8192, 0]),
    );
    const right = peerOn(
      newCore(),
      0x5ef,
      responder,
      initiator,
      scriptedRandom([ephemerals[1]!], [0x1579 / 8192]),
    );
    const now = 1.456789;

    left.peer.startHandshake(now);
    const initiation = left.peer.pollMessage()!;
    assert.equal(toHex(initiation), vectors.initiation);
    assert.equal(right.peer.handleMessage(initiation, now), "accepted");
    const response = right.peer.pollMessage()!;
    assert.equal(toHex(response), vectors.response);
    assert.equal(left.peer.handleMessage(response, now), "accepted");
    left.core.seal(0x456, fromHex(vectors.goodbyePacket), now);

    const sealed = left.core.takeSealed().map(({ datagram }) => datagram);
    assert.deepEqual(sealed.map(toHex), [vectors.keepalive, vectors.goodbye]);
    assert.equal(right.core.open(sealed[0]!, now)?.confirmed, vectors.responderIndex);
    assert.equal(toHex(right.core.open(sealed[1]!, now)?.packet), vectors.goodbyePacket);
  });
}

function peerOn(
  core: DataPath,
  slot: PeerId,
  own: StaticIdentity,
  remote: StaticIdentity,
  random: Random,
): { peer: WireGuardPeer; core: DataPath } {
  while (core.addPeer() !== slot);
  core.setPath(slot, 1);
  const options = {
    core,
    peer: slot,
    crypto,
    random,
    identity: own,
    remotePublicKey: remote.publicKey,
    presharedKey: fromHex(vectors.presharedKey),
    unixTimeMs: vectors.unixSeconds * 1000 + 123,
  };
  return { peer: new WireGuardPeer(options, 1), core };
}

function endsOf(own: StaticIdentity, remote: StaticIdentity): Ends {
  const staticShared = crypto.dh(own.privateKey, remote.publicKey);
  assert.ok(staticShared);
  return {
    identity: own,
    remotePublicKey: remote.publicKey,
    presharedKey: fromHex(vectors.presharedKey),
    staticShared,
  };
}

function sentInitiation(): NonNullable<ReturnType<typeof createInitiation>> {
  const created = createInitiation(
    endsOf(initiator, responder),
    {
      localIndex: vectors.initiatorIndex,
      ephemeralPrivate: fromHex(vectors.initiatorEphemeralPrivate),
      timestamp: fromHex(vectors.timestamp),
    },
    crypto,
  );
  assert.ok(created);
  new CookieJar(responder.publicKey, 0).authenticate(created.message, vectors.initiatorIndex, 1);
  return created;
}

function consumedInitiation(): ConsumedInitiation {
  const message = parseMessage(fromHex(vectors.initiation)) as Initiation;
  assert.ok(verifyMac1(message, mac1Key(responder.publicKey)));
  const opened = openInitiation(message, responder, crypto);
  assert.ok(opened);
  const consumed = consumeInitiation(opened, endsOf(responder, initiator).staticShared);
  assert.ok(typeof consumed === "object");
  return consumed;
}

function answered(): NonNullable<ReturnType<typeof createResponse>> {
  const created = createResponse(
    consumedInitiation(),
    fromHex(vectors.presharedKey),
    { localIndex: vectors.responderIndex, ephemeralPrivate: fromHex(vectors.responderEphemeralPrivate) },
    crypto,
  );
  assert.ok(created);
  new CookieJar(initiator.publicKey, 0).authenticate(created.message, vectors.responderIndex, 1);
  return created;
}

function parsedResponse(): Response {
  return parseMessage(fromHex(vectors.response)) as Response;
}
