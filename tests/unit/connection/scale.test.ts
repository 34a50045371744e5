import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { GATEWAY_SETTINGS } from "../../../host/core/connection/settings.ts";
import type { NodeId, PeerId } from "../../../host/core/id.ts";
import { SimNetwork } from "../../sim/network.ts";
import { crypto, nodeId, SimNode } from "../../sim/node.ts";
import { SimRelay } from "../../sim/relay.ts";
import { ModelCore } from "../wg/model-core.ts";
import { isRequest, RELAY } from "./world.ts";

const CONNECTIONS = 500;

test(`${CONNECTIONS} connections each keep their own schedule, and leave nothing behind`, () => {
  const network = new SimNetwork({ seed: 1, delayMs: 5 });
  const gateway = new SimNode({ settings: GATEWAY_SETTINGS, core: new ModelCore(), seed: 1 }, network.now);
  network.add({ addresses: [ip("198.51.100.7")], port: 3478 }, new SimRelay());
  network.add({ addresses: [ip("10.1.0.5")], port: 52625 }, gateway);
  gateway.connectivity.updateRelays([], [RELAY], network.now);
  gateway.drain(network.now);
  network.run(100);

  const nodes: NodeId[] = [];
  for (let i = 0; i < CONNECTIONS; i++) {
    nodes.push(connect(gateway, i, network.now));
    network.run(3);
  }
  network.run(10_000 - 3 * CONNECTIONS);
  const perPeer = new Map<number, number[]>();
  for (const { at, to, payload } of network.sent) {
    if (!isRequest(payload) || to.port === 3478) continue;
    perPeer.set(to.port, [...(perPeer.get(to.port) ?? []), at]);
  }
  assert.equal(perPeer.size, CONNECTIONS);
  for (const times of perPeer.values()) {
    const [first = 0] = times;
    assert.deepEqual(
      times.map((at) => at - first),
      [0, 250, 750, 1750, 3750, 7750],
    );
  }

  for (const node of nodes) gateway.connectivity.remove(node, network.now);
  assert.equal(gateway.connectivity.pollTimeout()?.reason, "relay keep-alive");
  assert.equal(gateway.connectivity.pollEvent(), undefined);
  const before = network.sent.length;
  network.run(20_000);
  const later = network.sent.slice(before).filter(({ from }) => from.ip === "10.1.0.5");
  assert.deepEqual(
    later.map(({ to }) => to.port),
    [3478],
    "only the relay is asked",
  );
});

test("the same work for one connection does not grow with the number of the others", () => {
  const best = (connections: number) => Math.min(...[1, 2, 3].map(() => stepsFor(connections)));
  const quiet = best(10);
  const busy = best(400);
  assert.ok(busy < quiet * 10, `${busy} against ${quiet} ms`);
});

/** Milliseconds for 2,000 timeouts that concern nobody, and as many foreign datagrams. */
function stepsFor(connections: number): number {
  const gateway = new SimNode({ settings: GATEWAY_SETTINGS, core: new ModelCore(), seed: 1 }, 1_000);
  gateway.connectivity.updateRelays([], [RELAY], 1_000);
  for (let i = 0; i < connections; i++) connect(gateway, i, 1_000);
  gateway.drain(1_000);
  const datagram = {
    local: { ip: ip("10.1.0.5"), port: 52625 },
    from: { ip: ip("192.0.2.9"), port: 9 },
    payload: new Uint8Array(Buffer.from("000100002112a4420102030405060708090a0b0c", "hex")),
  };
  const start = performance.now();
  for (let i = 0; i < 2_000; i++) {
    gateway.connectivity.handleTimeout(1_000);
    gateway.connectivity.handleDatagram(datagram, 1_000);
    gateway.connectivity.pollTimeout();
  }
  return performance.now() - start;
}

function connect(gateway: SimNode, i: number, now: number): NodeId {
  const node = nodeId(`client-${i}`);
  const peer: PeerId = gateway.core.addPeer() ?? assert.fail("no slot");
  const privateKey = new Uint8Array(32).fill(1 + (i % 200));
  privateKey[0] = i >> 8;
  const outcome = gateway.connectivity.upsert(
    node,
    peer,
    {
      remotePublicKey: crypto.publicKey(privateKey),
      presharedKey: new Uint8Array(32),
      localIce: { username: "gggg", password: `g${i}` },
      remoteIce: { username: `c${i}`, password: `c${i}` },
      role: "controlled",
    },
    now,
  );
  assert.equal(outcome, "created");
  const candidate = `candidate:1 1 udp 2130706175 192.0.2.1 ${10_000 + i} typ host`;
  gateway.connectivity.addRemoteCandidates(node, [candidate], now);
  gateway.drain(now);
  return node;
}
