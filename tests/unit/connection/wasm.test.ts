import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeControlFrame } from "../../../host/core/packet/control-frame.ts";
import { wasmDataPath } from "../../sim/wasm-core.ts";
import { PACKET, World } from "./world.ts";

test("two nodes with the real packet core connect through NATs, carry packets, idle, rekey and say goodbye", () => {
  const world = new World({ core: wasmDataPath });
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

  world.network.run(30_000);
  assert.equal(world.clientStatus()?.state, "idle");
  world.sendUp();
  assert.equal(world.clientStatus()?.state, "connected");
  world.network.run(50);
  assert.equal(world.gatewayStatus()?.state, "connected");

  for (let minute = 0; minute < 10; minute++) {
    world.network.run(60_000);
    world.sendUp();
    world.network.run(100);
    world.sendDown();
  }
  world.network.run(100);
  assert.equal(world.gateway.packets.length, 12);
  assert.equal(world.client.packets.length, 11);

  world.close();
  world.network.run(50);
  const last = world.gateway.packets.at(-1)?.packet ?? new Uint8Array();
  assert.equal(decodeControlFrame(last)?.kind, "goodbye");
  assert.deepEqual([...world.client.eventsOf("failed"), ...world.gateway.eventsOf("failed")], []);
});
