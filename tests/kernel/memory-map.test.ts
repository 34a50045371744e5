import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as abi from "../../assembly/abi.ts";
import * as nat from "../../assembly/nat/layout.ts";
import { buildVariant, VARIANTS } from "./variants.ts";

const EXPORTS = [
  "ABI_VERSION",
  "decapsulate",
  "deliverPacket",
  "encapsulate",
  "encapsulatePacket",
  "filterPermits",
  "flowAdd",
  "flowsRemoveAll",
  "flowsRemovePeer",
  "hashSeed",
  "keypairAdd",
  "keypairDeselect",
  "keypairFind",
  "keypairRemove",
  "keypairSelect",
  "natCount",
  "natEntry",
  "natIncoming",
  "natNote",
  "natOutgoing",
  "natReset",
  "natTick",
  "peerAdd",
  "peerRemove",
  "peerSetPath",
  "reinject",
  "sealPacket",
  "writeTun",
];

interface ModuleApi {
  new (bytes: Uint8Array): object;
  imports(module: object): { readonly module: string; readonly name: string; readonly kind: string }[];
  exports(module: object): { readonly name: string }[];
}
const { Module } = (globalThis as unknown as { readonly WebAssembly: { readonly Module: ModuleApi } })
  .WebAssembly;

for (const variant of VARIANTS) {
  const bytes = readFileSync(buildVariant(variant, "assembly/index.ts"));
  const module = new Module(bytes);

  test(`imports nothing but its memory, ${variant} build`, () => {
    assert.deepEqual(Module.imports(module), [{ module: "env", name: "memory", kind: "memory" }]);
  });

  test(`exports what the README lists, ${variant} build`, () => {
    assert.deepEqual(
      Module.exports(module)
        .map((each) => each.name)
        .sort(),
      EXPORTS,
    );
  });

  test(`static data stays inside its region, ${variant} build`, () => {
    const segments = dataSegments(bytes);
    assert.ok(segments.length > 0);
    for (const { offset, length } of segments) {
      assert.ok(offset >= abi.STATIC_BASE && offset + length <= abi.STATIC_END, `${offset} + ${length}`);
    }
  });
}

test("the README has a line for each export", () => {
  const readme = readFileSync(new URL("../../assembly/README.md", import.meta.url), "utf8");
  assert.deepEqual(
    EXPORTS.filter((name) => !readme.includes(`\`${name}`)),
    [],
  );
});

test("regions are disjoint, in ascending order, and inside the memory", () => {
  const regions: readonly (readonly [name: string, base: number, bytes: number])[] = [
    ["STATIC", abi.STATIC_BASE, abi.STATIC_END - abi.STATIC_BASE],
    ["HOST_IO", abi.HOST_IO_BASE, abi.HOST_IO_BYTES],
    ["BATCH", abi.BATCH_BASE, abi.BATCH_BYTES],
    ["SLOTS", abi.SLOTS_BASE, abi.SLOT_COUNT * abi.SLOT_BYTES],
    ["TUN_IN", abi.TUN_IN_BASE, abi.TUN_IN_BYTES],
    ["UDP_IN", abi.UDP_IN_BASE, abi.UDP_IN_BUFFERS * abi.UDP_IN_BUFFER_BYTES],
    ["UDP_OUT", abi.UDP_OUT_BASE, abi.UDP_OUT_BYTES],
    ["TUN_OUT", abi.TUN_OUT_BASE, abi.TUN_OUT_BYTES],
    ["PEERS", abi.PEERS_BASE, abi.PEER_CAPACITY * abi.PEER_BYTES],
    ["FILTER_SETS", abi.FILTER_SETS_BASE, abi.FILTER_SET_CAPACITY * abi.FILTER_SET_BYTES],
    ["FILTER_RULES", abi.FILTER_RULES_BASE, abi.FILTER_RULE_CAPACITY * abi.FILTER_RULE_BYTES],
    ["KEYPAIRS", abi.KEYPAIRS_BASE, abi.KEYPAIR_CAPACITY * abi.KEYPAIR_BYTES],
    ["FLOWS", abi.FLOWS_BASE, abi.FLOW_CAPACITY * abi.FLOW_BYTES],
    ["NAT entries", abi.NAT_BASE, abi.NAT_CAPACITY * abi.NAT_ENTRY_BYTES],
    ["NAT inside index", nat.NAT_INSIDE_HEADS, abi.NAT_CAPACITY * 4],
    ["NAT outside index", nat.NAT_OUTSIDE_HEADS, abi.NAT_CAPACITY * 4],
    ["NAT wheel", nat.NAT_WHEEL_HEADS, 8192 * 4],
    ["NAT owners", nat.NAT_OWNER_HEADS, abi.PEER_CAPACITY * 4],
  ];
  assertDisjoint(regions);
  assert.equal(abi.MEMORY_BYTES, abi.MEMORY_PAGES * 65536);
  assert.ok(nat.NAT_OWNER_HEADS + abi.PEER_CAPACITY * 4 <= abi.NAT_BASE + abi.NAT_BYTES);
  assert.ok(abi.NAT_BASE + abi.NAT_BYTES <= abi.MEMORY_BYTES);
});

test("the parts of the batch block are disjoint", () => {
  assertDisjoint([
    ["scalars", abi.FRAME_IN_COUNT, abi.COALESCE + 4 - abi.FRAME_IN_COUNT],
    ["FRAME_IN", abi.FRAME_IN_BASE, abi.FRAME_IN_CAPACITY * abi.FRAME_IN_DESC_BYTES],
    ["DATAGRAM_IN", abi.DATAGRAM_IN_BASE, abi.UDP_IN_BUFFERS * abi.DATAGRAM_IN_DESC_BYTES],
    ["TRAIN", abi.TRAIN_BASE, abi.TRAIN_CAPACITY * abi.TRAIN_DESC_BYTES],
    ["FRAME_OUT", abi.FRAME_OUT_BASE, abi.FRAME_OUT_CAPACITY * abi.FRAME_OUT_DESC_BYTES],
    ["SLOW", abi.SLOW_BASE, abi.SLOW_CAPACITY * abi.SLOW_DESC_BYTES],
    ["TOUCHED", abi.TOUCHED_BASE, abi.PEER_CAPACITY * 2],
    ["DROPS", abi.DROPS_BASE, abi.DROP_REASONS * 8],
  ]);
});

test("fields fit into their records, and drop reasons into their counters", () => {
  assert.ok(abi.PEER_CHANNEL + 4 <= abi.PEER_BYTES);
  assert.ok(abi.KEYPAIR_REPLAY + abi.REPLAY_SLOT_BYTES <= abi.KEYPAIR_BYTES);
  assert.equal(abi.REPLAY_SLOT_BYTES, 16 + abi.REPLAY_WORDS * 8);
  assert.ok(abi.FLOW_PAYLOAD_BYTES + 8 <= abi.FLOW_BYTES);
  assert.equal(abi.KEYPAIR_CAPACITY, abi.PEER_CAPACITY * abi.KEYPAIRS_PER_PEER);
  const reasons = Object.entries(abi).filter(([name]) => /^DROP_(?!REASONS)/.test(name));
  assert.ok(reasons.every(([, value]) => value < abi.DROP_REASONS));
});

test("the argument slot is behind those of the slow path, with its headroom", () => {
  const slot = (abi.ARGUMENT_BASE - abi.SLOTS_BASE - abi.SLOT_HEADROOM) / abi.SLOT_BYTES;
  assert.ok(Number.isInteger(slot) && slot >= abi.SLOW_CAPACITY && slot < abi.SLOT_COUNT);
});

function assertDisjoint(regions: readonly (readonly [name: string, base: number, bytes: number])[]): void {
  for (const [i, [name, base, bytes]] of regions.entries()) {
    const next = regions[i + 1];
    if (next !== undefined) assert.ok(base + bytes <= next[1], `${name} runs into ${next[0]}`);
  }
}

/** Offsets and lengths of the active data segments (WebAssembly specification, binary format, data section). */
function dataSegments(bytes: Uint8Array): { offset: number; length: number }[] {
  let at = 8;
  const leb = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value |= (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value >>> 0;
    }
  };
  const segments: { offset: number; length: number }[] = [];
  while (at < bytes.length) {
    const section = bytes[at++];
    const size = leb();
    const end = at + size;
    if (section === 11) {
      for (let left = leb(); left > 0; left--) {
        // Flags 0: memory 0, `i32.const offset; end`. Offsets below 2^27 read alike signed and unsigned here.
        assert.deepEqual([leb(), bytes[at++]], [0, 0x41]);
        const offset = leb();
        assert.equal(bytes[at++], 0x0b);
        const length = leb();
        segments.push({ offset, length });
        at += length;
      }
    }
    at = end;
  }
  return segments;
}
