import assert from "node:assert/strict";
import { test } from "node:test";
import { DeviceRegistry } from "../../../host/portal/server/devices.ts";
import { configuration, keyText } from "./portal-bench.ts";

const ACCOUNT = "0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04";
const SEED = new Uint8Array(32).fill(3);

function identity(owner: string, externalId: string) {
  return { owner, externalId, name: "x", publicKey: keyText(1) };
}

test("probes upwards when an address is taken (portal 25.14)", () => {
  // 4,000 devices among 2^21 addresses: by chance some begin at the same one, with this seed surely.
  const devices = new DeviceRegistry(SEED);
  const addresses = new Set<string>();
  let moved = 0;
  for (let i = 0; i < 4_000; i++) {
    const who = identity(`owner-${i % 400}`, `device-${i}`);
    const device = devices.client(ACCOUNT, who);
    assert.ok(device !== undefined);
    assert.equal(addresses.has(device.ipv4) || addresses.has(device.ipv6), false);
    addresses.add(device.ipv4).add(device.ipv6);
    const alone = new DeviceRegistry(SEED).client(ACCOUNT, who);
    if (alone?.ipv4 !== device.ipv4 || alone.ipv6 !== device.ipv6) moved += 1;
  }
  assert.ok(moved > 0, "no two devices met, so the test shows nothing");
});

test("tells devices apart by kind, owner and external id, and derives different keys for them", () => {
  const devices = new DeviceRegistry(SEED);
  const all = [
    devices.client(ACCOUNT, identity("a", "1")),
    devices.client(ACCOUNT, identity("a", "2")),
    devices.client(ACCOUNT, identity("b", "1")),
    devices.gateway(ACCOUNT, identity("a", "1")),
  ];
  assert.equal(new Set(all.map((device) => device?.id)).size, 4);
  assert.equal(new Set(all.map((device) => String(device?.pskBase))).size, 4);
  assert.equal(devices.client(ACCOUNT, identity("a", "1")), all[0]);
});

test("forgets devices whose owner is gone, and their places", () => {
  const devices = new DeviceRegistry(SEED);
  const known = configuration();
  const [mira] = known.actors.keys();
  for (let i = 0; i < 20; i++) {
    devices.client(ACCOUNT, identity(mira ?? "", `d${i}`));
    devices.client(ACCOUNT, identity("gone", `d${i}`));
  }
  devices.retain(known);
  assert.equal(devices.client(ACCOUNT, identity(mira ?? "", "d20")), undefined);
  assert.notEqual(devices.client(ACCOUNT, identity("gone", "d20")), undefined);
});
