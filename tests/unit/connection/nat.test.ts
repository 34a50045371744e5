import assert from "node:assert/strict";
import { test } from "node:test";
import { testSeed } from "../../sim/random.ts";
import { GATEWAY_IP, PACKET, World, type WorldOptions } from "./world.ts";

const REACHABLE: readonly [string, WorldOptions][] = [
  ["no NAT at all", { clientNat: "none", gatewayNat: "none" }],
  ["a port-restricted NAT in front of the client", { gatewayNat: "none" }],
  ["a symmetric NAT in front of the client", { clientNat: "symmetric", gatewayNat: "none" }],
  ["port-restricted NATs on both sides", {}],
  ["a symmetric NAT towards a full-cone one", { clientNat: "symmetric", gatewayNat: "full-cone" }],
  [
    "symmetric NATs where the gateway forwards its port",
    { clientNat: "symmetric", gatewayNat: "symmetric", gatewayForwards: true },
  ],
];

for (const [name, options] of REACHABLE) {
  test(`connects directly through ${name}, and carries packets both ways`, () => {
    const world = new World(options);
    world.establish();

    assert.ok(world.sendUp());
    world.network.run(50);
    assert.deepEqual(
      world.gateway.packets.map(({ packet }) => packet),
      [PACKET],
    );
    assert.ok(world.sendDown());
    world.network.run(50);
    assert.deepEqual(
      world.client.packets.map(({ packet }) => packet),
      [PACKET],
    );
    assert.equal(world.clientStatus()?.state, "connected");
    assert.match(world.clientStatus()?.path ?? "", / -> 203\.0\.113\.2:/);
  });
}

test("fails between two symmetric NATs without a forwarded port, and says why", () => {
  const world = new World({ clientNat: "symmetric", gatewayNat: "symmetric" });
  world.grant();
  world.network.run(30_000);
  assert.deepEqual(
    world.client.eventsOf("failed").map(({ reason }) => reason),
    ["no working path"],
  );
  assert.equal(world.clientStatus(), undefined);
});

test("nodes in one network talk over their host candidates", () => {
  const world = new World({ clientNat: "none", gatewayNat: "none" });
  world.establish();
  assert.match(
    world.clientStatus()?.path ?? "",
    /^203\.0\.113\.1:52625 -> 203\.0\.113\.2:52625 \(host, host\)$/,
  );
});

test("connects under loss, reordering and delay, over many seeds", () => {
  const first = testSeed();
  for (let i = 0; i < 12; i++) {
    const seed = first + i;
    const world = new World({ seed, loss: 0.3, delayMs: 40, jitterMs: 200, relays: "later" });
    let isEstablished = false;
    for (let attempt = 0; attempt < 10 && !isEstablished; attempt++) {
      // What client and portal do: name relays again, ask again.
      world.nameRelay();
      world.network.run(3_000);
      if (world.clientStatus() === undefined) world.grant();
      isEstablished = world.network.runUntil(() => world.client.eventsOf("established").length > 0, 17_000);
    }
    assert.ok(isEstablished, `SEED=${first} (at ${seed})`);
    let isDelivered = false;
    // The keepalive that confirms the keypair may be lost; data confirms it as well.
    for (let n = 0; n < 20 && !isDelivered; n++) {
      world.sendUp();
      world.network.run(500);
      isDelivered = world.gateway.packets.length > 0;
    }
    assert.ok(isDelivered, `SEED=${first} (at ${seed})`);
  }
});

test("follows a NAT that lost its mappings, without a new grant", () => {
  const world = new World();
  world.establish();
  world.network.run(5_000);
  world.gatewayNat?.forget();
  world.network.run(30_000);
  const before = world.gateway.packets.length;
  world.sendUp();
  world.network.run(100);
  assert.equal(world.gateway.packets.length, before + 1);
  assert.deepEqual(world.client.eventsOf("failed"), []);
});

test("signals a changed reflexive address when the relay reports it", () => {
  const world = new World();
  world.establish();
  const before = world.gateway.eventsOf("candidates-added").length;
  world.gatewayNat?.forget();
  world.network.run(26_000);
  const added = world.gateway.eventsOf("candidates-added").slice(before);
  assert.deepEqual(
    added.flatMap(({ candidates }) => candidates.map((text) => text.split(" ")[7])),
    ["srflx"],
  );
  assert.deepEqual(world.gateway.eventsOf("candidates-removed"), []);
  assert.ok(GATEWAY_IP);
});
