import assert from "node:assert/strict";
import { test } from "node:test";
import {
  FLOW_BYTES,
  FLOW_CAPACITY,
  FLOW_PACKETS,
  FLOW_PAYLOAD_BYTES,
  FLOW_SCOPE_TUN,
  FLOW_USED_AT,
  FLOW_WAYS,
  FLOWS_BASE,
  KIND_UDP,
  MAX_PACKET_BYTES,
} from "../../assembly/abi.ts";
import { ARGUMENT_AT, loadNet, type Net, PACKET_AT } from "./net-kernels.ts";
import { ICMP, TCP, UDP } from "./twins/checksum.ts";
import { type FlowParts, flowTemplate } from "./twins/flow.ts";
import { ipv4, ipv6, type PacketParts, packet, randomPacket } from "./twins/packets.ts";
import { withSeed } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const PEER = 3;
const V4 = { source: ipv4("100.64.0.1"), destination: ipv4("10.0.0.1"), protocol: UDP };
const PORTS = { sourcePort: 4000, destinationPort: 53 };
const BASE = packet({ ...V4, ...PORTS });

for (const variant of VARIANTS) {
  const net = loadNet(variant);

  test(`${variant}: finds a flow by every part of its key, and only so`, () => {
    const entry = add(net, BASE, { scope: PEER, peer: PEER, now: 1 });
    assert.notEqual(entry, 0);
    assert.equal(find(net, packet({ ...V4, ...PORTS, payload: Uint8Array.of(1, 2) }), PEER), entry);
    assert.equal(find(net, BASE, FLOW_SCOPE_TUN), 0);
    assert.equal(find(net, BASE, PEER + 1), 0);
    for (const other of [
      { ...V4, ...PORTS, sourcePort: 4001 },
      { ...V4, ...PORTS, destinationPort: 54 },
      { ...V4, ...PORTS, source: ipv4("100.64.0.2") },
      { ...V4, ...PORTS, destination: ipv4("10.0.0.2") },
      { ...V4, ...PORTS, protocol: TCP },
    ]) {
      assert.equal(find(net, packet(other), PEER), 0);
    }
  });

  test(`${variant}: an IPv6 flow whose address starts like an IPv4 one is another flow`, () => {
    const mapped = (bytes: Uint8Array) => Uint8Array.of(...bytes, ...new Uint8Array(12));
    const six = packet({ ...V4, ...PORTS, source: mapped(V4.source), destination: mapped(V4.destination) });
    add(net, BASE, { scope: PEER, peer: PEER, now: 1 });
    assert.equal(find(net, six, PEER), 0);
    const entry = add(net, six, { scope: PEER, peer: PEER, now: 1 });
    assert.equal(find(net, six, PEER), entry);
    assert.notEqual(find(net, BASE, PEER), entry);
  });

  test(`${variant}: the last bytes of IPv6 addresses count`, () => {
    const base = { source: ipv6(0xfd00, 1), destination: ipv6(0xfd00, 2), protocol: TCP };
    const entry = add(net, packet(base), { scope: PEER, peer: PEER, now: 1 });
    assert.equal(find(net, packet(base), PEER), entry);
    assert.equal(find(net, packet({ ...base, source: ipv6(0xfd00, 3) }), PEER), 0);
    assert.equal(find(net, packet({ ...base, destination: ipv6(0xfd00, 3) }), PEER), 0);
  });

  test(`${variant}: echoes are told apart by identifier, opaque packets by protocol`, () => {
    const echo = (sourcePort: number) => packet({ ...V4, protocol: ICMP, sourcePort });
    const opaque = (protocol: number) => packet({ ...V4, protocol, payload: Uint8Array.of(1, 2, 3, 4) });
    const seven = add(net, echo(7), { scope: PEER, peer: PEER, now: 1 });
    assert.equal(find(net, echo(7), PEER), seven);
    assert.equal(find(net, echo(8), PEER), 0);
    const template = flowTemplate(opaque(47), { scope: PEER, peer: PEER, now: 1 });
    template.fill(0, 32, 36);
    const tunnel = net.flowAdd(net.put(template, ARGUMENT_AT));
    assert.equal(find(net, opaque(47), PEER), tunnel);
    assert.equal(find(net, opaque(50), PEER), 0);
  });

  test(`${variant}: a flow with an equal key is replaced in place`, () => {
    const parts = { scope: PEER, peer: PEER, now: 1 };
    const entry = add(net, BASE, parts);
    assert.equal(add(net, BASE, { ...parts, peer: PEER + 1 }), entry);
    assert.equal(find(net, BASE, PEER), entry);
  });

  test(`${variant}: a change of the global or of the peer's epoch invalidates`, () => {
    for (const invalidate of [() => net.flowsRemoveAll(), () => net.flowsRemovePeer(PEER)]) {
      const entry = add(net, BASE, { scope: FLOW_SCOPE_TUN, peer: PEER, now: 1 });
      assert.equal(find(net, BASE, FLOW_SCOPE_TUN), entry);
      invalidate();
      assert.equal(find(net, BASE, FLOW_SCOPE_TUN), 0);
      assert.equal(add(net, BASE, { scope: FLOW_SCOPE_TUN, peer: PEER, now: 1 }), entry);
      assert.equal(find(net, BASE, FLOW_SCOPE_TUN), entry);
    }
    net.flowsRemovePeer(PEER + 1);
    assert.notEqual(find(net, BASE, FLOW_SCOPE_TUN), 0);
  });

  test(`${variant}: the removal of its NAT entry invalidates a flow, also when the entry is reused`, () => {
    const address = net.put(ipv4("10.0.0.1"), ARGUMENT_AT + 512);
    const natEntry = net.natOutgoing(PEER, KIND_UDP, 4000, address, address, 4, 0);
    const parts = { scope: PEER, peer: PEER, now: 1, natEntry };
    assert.notEqual(add(net, BASE, parts), 0);
    assert.notEqual(find(net, BASE, PEER), 0);
    assert.equal(net.natTick(60_000), 1);
    assert.equal(find(net, BASE, PEER), 0);
    assert.equal(add(net, BASE, parts), 0);
    assert.equal(net.natOutgoing(PEER, KIND_UDP, 4000, address, address, 4, 60_000), natEntry);
    assert.equal(find(net, BASE, PEER), 0);
    assert.notEqual(add(net, BASE, parts), 0);
    assert.notEqual(find(net, BASE, PEER), 0);
    net.natReset(PEER);
    assert.equal(find(net, BASE, PEER), 0);
  });

  test(`${variant}: counts packets and payload from zero at installation`, () => {
    const entry = add(net, BASE, { scope: PEER, peer: PEER, now: 5 });
    net.flowTouch(entry, 1000, 7);
    net.flowTouch(entry, 280, 0xffffffff);
    assert.equal(net.view.getBigUint64(entry + FLOW_PACKETS, true), 2n);
    assert.equal(net.view.getBigUint64(entry + FLOW_PAYLOAD_BYTES, true), 1280n);
    assert.equal(net.view.getUint32(entry + FLOW_USED_AT, true), 0xffffffff);
    add(net, BASE, { scope: PEER, peer: PEER, now: 9 });
    assert.equal(net.view.getBigUint64(entry + FLOW_PACKETS, true), 0n);
  });

  test(`${variant}: a full set gives up the flow that was unused for longest, across the wrap of ticks`, () => {
    const crowded = loadNet(variant);
    const packets = sameSet(FLOW_WAYS + 2);
    const start = 0xfffffffe;
    const parts = (now: number) => ({ scope: PEER, peer: PEER, now: now >>> 0 });
    const entries = packets.slice(0, FLOW_WAYS).map((bytes, i) => add(crowded, bytes, parts(start + i)));
    assert.equal(new Set(entries).size, FLOW_WAYS);
    crowded.flowTouch(entries[0]!, 0, (start + 10) >>> 0);
    assert.equal(add(crowded, packets[FLOW_WAYS]!, parts(start + 11)), entries[1]);
    assert.equal(find(crowded, packets[1]!, PEER), 0);
    assert.equal(find(crowded, packets[0]!, PEER), entries[0]);

    // An invalid flow goes before an old one.
    const template = flowTemplate(packets[3]!, { ...parts(start + 12), peer: PEER + 7 });
    assert.equal(crowded.flowAdd(crowded.put(template, ARGUMENT_AT)), entries[3]);
    crowded.flowsRemovePeer(PEER + 7);
    assert.equal(add(crowded, packets[FLOW_WAYS + 1]!, parts(start + 13)), entries[3]);
  });

  test(`${variant}: thousands of random flows are found, each as installed`, () => {
    withSeed((random) => {
      const own = loadNet(variant);
      own.hashSeed(random.u32(), random.u32(), random.u32(), random.u32());
      const installed = new Map<number, { bytes: Uint8Array; scope: number }>();
      for (let i = 0; i < 5000; i++) {
        const bytes = randomPacket(random, 20);
        const scope = random.below(100);
        installed.set(add(own, bytes, { scope, peer: scope, now: i }), { bytes, scope });
      }
      // With 32,768 sets, five flows in one set are rare.
      assert.ok(installed.size > 4990);
      for (const [entry, { bytes, scope }] of installed) assert.equal(find(own, bytes, scope), entry);
      for (const entry of installed.keys()) {
        assert.ok(entry >= FLOWS_BASE && entry < FLOWS_BASE + FLOW_CAPACITY * FLOW_BYTES);
      }
    });
  });

  test(`${variant}: flows with consecutive ports or addresses spread over the sets`, () => {
    const count = 30_000;
    const low = (i: number) => Uint8Array.of(10, 0, i >> 8, i & 255);
    const shapes: ((i: number) => PacketParts)[] = [
      (i) => ({ ...V4, sourcePort: 1024 + i, destinationPort: 443 }),
      (i) => ({ ...V4, sourcePort: 1024, destinationPort: 1024 + i }),
      (i) => ({ ...V4, ...PORTS, destination: low(i) }),
      (i) => ({ ...V4, ...PORTS, source: low(i).reverse() }),
      (i) => ({ ...PORTS, protocol: TCP, source: ipv6(0xfd00, 1), destination: ipv6(0xfd01, i) }),
      (i) => ({ ...PORTS, protocol: TCP, source: ipv6(0xfd00 + (i >> 8), i & 255), destination: ipv6(1, 1) }),
    ];
    for (const [index, shape] of shapes.entries()) {
      const own = loadNet(variant);
      const entries = new Set<number>();
      for (let i = 0; i < count; i++) {
        entries.add(add(own, packet(shape(i)), { scope: PEER, peer: PEER, now: i }));
      }
      // Of as many random keys, fewer than 1 % find their set of four full.
      assert.ok(entries.size > count * 0.98, `shape ${index}: ${entries.size}`);
    }
  });
}

function add(net: Net, bytes: Uint8Array, parts: FlowParts): number {
  return net.flowAdd(net.put(flowTemplate(bytes, parts), ARGUMENT_AT));
}

function find(net: Net, bytes: Uint8Array, scope: number): number {
  assert.equal(net.parse(net.put(bytes), bytes.length, MAX_PACKET_BYTES), 0);
  return net.flowFind(PACKET_AT, scope);
}

/** Packets whose flows fall into one set: installs others until enough of them meet. */
function sameSet(count: number): Uint8Array[] {
  const probe = loadNet("release");
  const sets = new Map<number, Uint8Array[]>();
  for (let i = 0; ; i++) {
    const bytes = packet({ ...V4, sourcePort: i & 0xffff, destinationPort: i >> 16 });
    const entry = add(probe, bytes, { scope: PEER, peer: PEER, now: i });
    const set = Math.floor((entry - FLOWS_BASE) / (FLOW_BYTES * FLOW_WAYS));
    const members = sets.get(set) ?? [];
    members.push(bytes);
    sets.set(set, members);
    if (members.length === count) return members;
  }
}
