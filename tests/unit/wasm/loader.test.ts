import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { MEMORY_BYTES } from "../../../assembly/abi.ts";
import { hasSimd, loadPacketCore } from "../../../host/wasm/loader.ts";
import { buildVariant } from "../../kernel/variants.ts";

test("recognises an engine with SIMD, and both builds load in it", () => {
  assert.equal(hasSimd(), true);
  for (const variant of ["release", "plain"] as const) {
    const core = loadPacketCore(readFileSync(buildVariant(variant, "assembly/index.ts")));
    assert.equal(core.bytes.length, MEMORY_BYTES);
    assert.equal(core.addPeer(), 0);
  }
});

test("each core has a memory of its own", () => {
  const bytes = readFileSync(buildVariant("release", "assembly/index.ts"));
  const [first, second] = [loadPacketCore(bytes), loadPacketCore(bytes)];
  first.addPeer();
  assert.equal(second.addPeer(), 0);
});

test("refuses a module that speaks another ABI version", () => {
  const name = new TextEncoder().encode("ABI_VERSION");
  const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  // Global section: one immutable i32 of 99. Export section: that global.
  const globals = [6, 7, 1, 0x7f, 0, 0x41, 0xe3, 0, 0x0b];
  const exports = [7, name.length + 4, 1, name.length, ...name, 3, 0];
  assert.throws(() => loadPacketCore(Uint8Array.from([...header, ...globals, ...exports])), /ABI version 99/);
});

test("refuses bytes that are no module", () => {
  assert.throws(() => loadPacketCore(new Uint8Array(8)));
});
