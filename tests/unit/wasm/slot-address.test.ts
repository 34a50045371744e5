import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, ip, ipFromBytes, ipToBytes } from "../../../host/core/address.ts";
import { fromSlotAddress, toSlotAddress } from "../../../host/wasm/slot-address.ts";
import { Seeded } from "../../kernel/twins/seeded.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);

test("writes addresses as the core's tables hold them, over whatever was there", () => {
  const random = new Seeded(SEED);
  const addresses: IpAddress[] = [
    "::",
    "::1",
    "1::",
    "fd00::1",
    "1:2:3:4:5:6:7:8",
    "0.0.0.0",
    "255.255.255.255",
  ].map(ip);
  for (let i = 0; i < 2000; i++) {
    const bytes = random.bytes(random.pick([4, 16]));
    // Runs of zeros, so that "::" stands everywhere it can.
    if (bytes.length === 16) bytes.fill(0, random.below(17), random.below(17));
    addresses.push(ipFromBytes(bytes));
  }
  for (const address of addresses) {
    const bytes = random.bytes(24);
    const [before, after] = [bytes.slice(0, 4), bytes.slice(20)];
    const version = toSlotAddress(address, bytes, 4);
    const expected = new Uint8Array(16);
    expected.set(ipToBytes(address));
    assert.deepEqual(bytes.slice(4, 20), expected, `${address} SEED=${SEED}`);
    assert.deepEqual([bytes.slice(0, 4), bytes.slice(20)], [before, after]);
    assert.equal(version, address.includes(":") ? 6 : 4);
    assert.equal(fromSlotAddress(bytes, 4, version), address);
  }
});
