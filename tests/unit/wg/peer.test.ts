import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { HANDSHAKES_PER_SECOND, HandshakeGate } from "../../../host/core/wg/gate.ts";
import { MAX_KEYPAIRS } from "../../../host/core/wg/keypairs.ts";
import { at, crypto, establishedPair, IDENTITIES, type Node, newNode, newPair } from "./pair.ts";
import { seededRandom } from "./randoms.ts";

const DATA = Uint8Array.of(0x45, 9, 9, 9);
const OTHER_DATA = Uint8Array.of(0x45, 8, 8, 8);

test("the initiator sends an empty packet right behind the response, before anything else", () => {
  const pair = newPair();
  pair.startHandshake("left");
  assert.deepEqual(
    pair.log.map(({ from, kind }) => `${from} ${kind}`),
    ["left initiation", "right response", "left keepalive"],
  );
  assert.deepEqual(
    pair.events.map(({ side, event }) => `${side} ${event}`),
    ["left handshake-completed initiator", "right handshake-completed responder"],
  );
});

test("without a path the empty packet is owed, and leaves as soon as there is one", () => {
  const pair = newPair({ left: { path: "later" } });
  pair.startHandshake("left");
  assert.deepEqual(pair.sent("left", "keepalive"), []);
  pair.runUntil(3_500);
  assert.deepEqual(pair.sent("left", "keepalive"), []);

  const { core, id, peer } = pair.nodes.left;
  core.setPath(id, 1);
  peer.handlePath(pair.now);
  pair.drain();
  assert.deepEqual(pair.sent("left", "keepalive"), [3_500]);
});

test("an owed empty packet also leaves within a second of a path that nobody announced", () => {
  const pair = newPair({ left: { path: "later" } });
  pair.startHandshake("left");
  pair.runUntil(3_500);
  pair.nodes.left.core.setPath(pair.nodes.left.id, 1);
  pair.runUntil(5_000);
  assert.deepEqual(pair.sent("left", "keepalive"), [4_000]);
});

test("a data packet that confirmed the keypair makes the owed empty packet moot", () => {
  const pair = newPair({ left: { path: "later" } });
  pair.startHandshake("left");
  const { core, id } = pair.nodes.left;
  core.setPath(id, 1);
  assert.equal(pair.send("left", DATA), true);
  pair.runUntil(9_000);
  assert.deepEqual(pair.sent("left", "keepalive"), []);
});

test("a responder does not send on a keypair before it heard from the initiator on it (connectivity 34)", () => {
  const pair = newPair({ right: { responderOnly: true }, lose: (sent) => sent.kind === "keepalive" });
  pair.startHandshake("left");
  assert.equal(pair.send("right", DATA), false);
  assert.deepEqual(pair.sent("right", "data", "keepalive"), []);

  assert.equal(pair.send("left", DATA), true);
  assert.equal(pair.send("right", DATA), true);
  assert.equal(pair.delivered.length, 2);
});

test("while a rekey is unconfirmed the responder keeps sending on the keypair before (connectivity 34)", () => {
  const pair = establishedPair();
  pair.runUntil(1_000);
  pair.lose((sent) => sent.kind === "keepalive");
  pair.startHandshake("left");

  const before = pair.nodes.right.core.peers.get(pair.nodes.right.id)!.selected;
  assert.equal(pair.send("right", DATA), true);
  assert.equal(pair.delivered.at(-1)?.to, "left");

  pair.send("left", DATA);
  const afterwards = pair.nodes.right.core.peers.get(pair.nodes.right.id)!.selected;
  assert.notEqual(afterwards, before);
});

test("packets sealed before a rekey are opened after it", () => {
  const pair = establishedPair();
  const { core, id } = pair.nodes.left;
  core.seal(id, DATA, pair.now);
  const [late] = core.takeSealed();
  pair.runUntil(1_000);
  pair.startHandshake("left");

  const opened = pair.nodes.right.core.open(late!.datagram, pair.now);
  assert.deepEqual(opened?.packet, DATA);
});

test("the same initiation again is refused and leaves the keypair alone (connectivity 33)", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const initiation = left.peer.pollMessage()!;
  assert.equal(right.peer.handleMessage(initiation, at(0)), "accepted");
  const response = right.peer.pollMessage()!;

  assert.equal(right.peer.handleMessage(initiation, at(1)), "bad-handshake");
  assert.equal(right.peer.pollMessage(), undefined);
  assert.equal(left.peer.handleMessage(response, at(2)), "accepted");
  assert.ok(right.core.open(left.core.takeSealed()[0]!.datagram, at(3)));
});

test("an older initiation is refused after a newer one", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const older = left.peer.pollMessage()!;
  left.peer.handleTimeout(at(6_000));
  const newer = left.peer.pollMessage()!;

  assert.equal(right.peer.handleMessage(newer, at(6_000)), "accepted");
  assert.equal(right.peer.handleMessage(older, at(6_000)), "bad-handshake");
});

test("replay protection survives expiry", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const initiation = left.peer.pollMessage()!;
  right.peer.handleMessage(initiation, at(0));
  right.peer.handleTimeout(at(540_000));
  assert.deepEqual(right.peer.pollEvent(), { kind: "expired", reason: "unused" });
  assert.equal(right.peer.handleMessage(initiation, at(540_001)), "bad-handshake");
});

test("a late response to the initiation before the last one is accepted, an earlier one is not", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const first = answerOf(right, left.peer.pollMessage()!, 0);
  left.peer.handleTimeout(at(6_000));
  const second = answerOf(right, left.peer.pollMessage()!, 6_000);
  left.peer.handleTimeout(at(12_000));
  left.peer.pollMessage();

  assert.equal(left.peer.handleMessage(first, at(12_001)), "bad-handshake");
  assert.equal(left.peer.handleMessage(second, at(12_002)), "accepted");
});

test("after a late response the last initiation's own response still counts", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const first = answerOf(right, left.peer.pollMessage()!, 0);
  left.peer.handleTimeout(at(6_000));
  const second = answerOf(right, left.peer.pollMessage()!, 6_000);

  assert.equal(left.peer.handleMessage(first, at(6_001)), "accepted");
  assert.equal(left.peer.handshaking, false);
  assert.equal(left.peer.handleMessage(second, at(6_002)), "accepted");
  assert.equal(left.peer.handleMessage(first, at(6_003)), "bad-handshake");
  assert.equal(left.peer.handleMessage(second, at(6_003)), "bad-handshake");
});

test("a changed response is refused, and the true one is still accepted afterwards", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const response = answerOf(right, left.peer.pollMessage()!, 0);
  for (let i = 0; i < response.length - 16; i++) {
    const forged = response.slice();
    forged[i]! ^= 0x80;
    assert.notEqual(left.peer.handleMessage(forged, at(1)), "accepted", `byte ${i}`);
  }
  assert.equal(left.peer.handleMessage(response, at(2)), "accepted");
});

test("an initiation of another key, or with another preshared key, makes no usable connection", () => {
  const { right } = nodes();
  const stranger = nodeWith({ identity: identityOf(0x53) });
  stranger.peer.startHandshake(at(0));
  assert.equal(right.peer.handleMessage(stranger.peer.pollMessage()!, at(0)), "unknown-sender");

  const misled = nodeWith({ presharedKey: new Uint8Array(32) });
  misled.peer.startHandshake(at(0));
  const response = answerOf(right, misled.peer.pollMessage()!, 0);
  assert.equal(misled.peer.handleMessage(response, at(1)), "bad-handshake");
});

test("startHandshake does nothing while a handshake is in progress", () => {
  const pair = newPair({ lose: () => true });
  pair.startHandshake("left");
  pair.runUntil(3_000);
  pair.startHandshake("left");
  pair.send("left", DATA);
  assert.deepEqual(pair.sent("left", "initiation"), [0]);
});

test("a responder-only peer never sends the first initiation, whatever it is asked", () => {
  const pair = newPair({ right: { responderOnly: true } });
  pair.startHandshake("right");
  pair.send("right", DATA);
  pair.runUntil(30_000);
  assert.deepEqual(pair.sent("right", "initiation"), []);

  pair.startHandshake("left");
  pair.startHandshake("right");
  assert.deepEqual(pair.sent("right", "initiation"), [30_000]);
});

test("handshakes that cross leave both sides able to talk", () => {
  for (const latencyMs of [1, 40, 400]) {
    const pair = newPair({ latencyMs });
    pair.startHandshake("left");
    pair.startHandshake("right");
    pair.runUntil(5 * latencyMs);

    assert.equal(pair.send("left", DATA), true);
    assert.equal(pair.send("right", OTHER_DATA), true);
    pair.runUntil(7 * latencyMs);
    const received = new Map(pair.delivered.map(({ to, packet }) => [to, packet]));
    assert.deepEqual(received.get("left"), OTHER_DATA, `latency ${latencyMs}`);
    assert.deepEqual(received.get("right"), DATA, `latency ${latencyMs}`);
  }
});

test("an initiation is answered even while ours is out", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  right.peer.startHandshake(at(0));
  left.peer.pollMessage();
  assert.equal(left.peer.handleMessage(right.peer.pollMessage()!, at(1)), "accepted");
  assert.equal(left.peer.pollMessage()?.[0], 2);
});

test("a peer that is initiated to again and again keeps three keypairs, its current one among them", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  left.peer.handleMessage(answerOf(right, left.peer.pollMessage()!, 0), at(0));
  const confirmed = right.core.open(left.core.takeSealed()[0]!.datagram, at(0))!.confirmed!;
  right.peer.handleKeypairConfirmed(confirmed, at(0));

  for (let attempt = 1; attempt <= 20; attempt++) {
    const stubborn = newNode("left", "right", { unixTimeMs: 1_700_000_000_000 + attempt });
    stubborn.peer.startHandshake(at(attempt));
    answerOf(right, stubborn.peer.pollMessage()!, attempt);
    const { keypairs, selected } = right.core.peers.get(right.id)!;
    assert.ok(keypairs.size <= MAX_KEYPAIRS);
    assert.equal(selected, confirmed);
    assert.equal(keypairs.get(confirmed % 8)?.localIndex, confirmed);
  }
});

test("the first index is 1 and every message counts one up", () => {
  const { left, right } = nodes();
  left.peer.startHandshake(at(0));
  const initiation = left.peer.pollMessage()!;
  assert.equal(initiation[4], 1);
  const response = answerOf(right, initiation, 0);
  assert.equal(response[4], 1);
  left.peer.handleMessage(response, at(1));
  left.peer.startHandshake(at(2));
  const next = left.peer.pollMessage()!;
  assert.equal(next[4], 2);
  assert.deepEqual(next.subarray(5, 8), initiation.subarray(5, 8));
  assert.equal(answerOf(right, next, 2)[4], 2);
});

test("a cookie is used for later messages, for 120 s, and nothing is sent again at once", () => {
  const { left, right } = nodes();
  const gate = gateUnderLoad(right);
  left.peer.startHandshake(at(0));
  const bare = left.peer.pollMessage()!;
  assert.ok(isZero(bare.subarray(132)));

  const reply = gate(bare);
  assert.equal(left.peer.handleMessage(reply, at(10)), "accepted");
  assert.equal(left.peer.pollMessage(), undefined);

  left.peer.handleTimeout(at(6_000));
  assert.ok(!isZero(left.peer.pollMessage()!.subarray(132)));
  left.peer.handleTimeout(at(20_000));
  left.peer.startHandshake(at(120_009));
  assert.ok(!isZero(left.peer.pollMessage()!.subarray(132)));
  left.peer.handleTimeout(at(126_000));
  assert.ok(isZero(left.peer.pollMessage()!.subarray(132)));
});

test("a cookie reply must name our last message, and be sealed for it", () => {
  const { left, right } = nodes();
  const gate = gateUnderLoad(right);
  left.peer.startHandshake(at(0));
  const first = left.peer.pollMessage()!;
  const reply = gate(first);

  const forged = reply.slice();
  forged[63]! ^= 1;
  assert.equal(left.peer.handleMessage(forged, at(1)), "bad-handshake");
  left.peer.handleTimeout(at(6_000));
  left.peer.pollMessage();
  assert.equal(left.peer.handleMessage(reply, at(6_001)), "bad-handshake");
});

test("a remote key of low order fails quietly", () => {
  const node = nodeWith({ remotePublicKey: new Uint8Array(32) });
  assert.equal(node.peer.pollEvent()?.kind, "note");
  node.peer.startHandshake(at(0));
  node.peer.handleNoKeypair(at(0));
  assert.equal(node.peer.pollMessage(), undefined);
});

test("dispose empties the packet core's slots and silences the peer", () => {
  const pair = establishedPair();
  const { core, id, peer } = pair.nodes.left;
  pair.startHandshake("left");
  peer.dispose();

  assert.equal(core.peers.get(id)!.keypairs.size, 0);
  assert.equal(peer.pollTimeout(), undefined);
  assert.equal(peer.pollMessage(), undefined);
  assert.equal(core.seal(id, DATA, pair.now), false);
});

function nodes(): { left: Node; right: Node } {
  return { left: newNode("left", "right", {}), right: newNode("right", "left", {}) };
}

function nodeWith(options: Parameters<typeof newNode>[2]): Node {
  return newNode("left", "right", options);
}

function identityOf(fill: number): { privateKey: Uint8Array; publicKey: Uint8Array } {
  const privateKey = new Uint8Array(32).fill(fill);
  return { privateKey, publicKey: crypto.publicKey(privateKey) };
}

function answerOf(node: Node, initiation: Uint8Array, milliseconds: number): Uint8Array {
  assert.equal(node.peer.handleMessage(initiation, at(milliseconds)), "accepted");
  const response = node.peer.pollMessage();
  assert.equal(response?.[0], 2);
  return response!;
}

/** Answers a message as a node whose limit is used up. */
function gateUnderLoad(node: Node): (message: Uint8Array) => Uint8Array {
  const gate = new HandshakeGate(IDENTITIES[node.side].publicKey, seededRandom(3), at(0));
  const source = { ip: ip("192.0.2.7"), port: 4242 };
  return (message) => {
    for (let i = 0; i < HANDSHAKES_PER_SECOND; i++) gate.admit(message, source, at(0));
    const admission = gate.admit(message, source, at(0));
    assert.equal(admission.kind, "cookie-reply");
    return admission.kind === "cookie-reply" ? admission.message : new Uint8Array();
  };
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
