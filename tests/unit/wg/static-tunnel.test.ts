import assert from "node:assert/strict";
import { test } from "node:test";
import { cidr, ip, ipToBytes, type SocketAddress, socketAddressText } from "../../../host/core/address.ts";
import { PathTable } from "../../../host/core/path.ts";
import type { Instant } from "../../../host/core/time.ts";
import { HANDSHAKES_PER_SECOND } from "../../../host/core/wg/gate.ts";
import {
  type StaticPeer,
  StaticTunnel,
  type StaticTunnelEvent,
} from "../../../host/core/wg/static-tunnel.ts";
import { ModelCore } from "./model-core.ts";
import { at, crypto, elapsed, IDENTITIES, newNode } from "./pair.ts";
import { seededRandom } from "./randoms.ts";

const LEFT: SocketAddress = { ip: ip("198.51.100.1"), port: 51820 };
const RIGHT: SocketAddress = { ip: ip("198.51.100.2"), port: 51820 };
const PRESHARED_KEY = new Uint8Array(32).fill(0x50);

test("the first packet waits for the handshake, the next one gets a flow", () => {
  const net = twoTunnels();
  const first = udp("10.0.0.1", "10.0.0.2", 1);
  assert.equal(net.left.tunnel.handleTunPacket(first, net.now), "consumed");
  net.exchange();

  assert.deepEqual(net.right.received, [first]);
  assert.deepEqual(net.left.completed(), [IDENTITIES.right.publicKey]);
  assert.deepEqual(net.right.completed(), [IDENTITIES.left.publicKey]);

  assert.equal(net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 2), net.now), "forward");
  const flow = net.left.core.flows.at(-1);
  assert.deepEqual(flow?.key, {
    from: "tun",
    source: "10.0.0.1",
    destination: "10.0.0.2",
    protocol: 17,
    sourcePort: 4000,
    destinationPort: 2,
  });
});

test("of many waiting packets the newest 128 are kept, in order", () => {
  const net = twoTunnels();
  for (let n = 0; n < 200; n++) {
    net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", n), net.now);
  }
  net.exchange();

  assert.deepEqual(
    net.right.received.map(destinationPort),
    Array.from({ length: 128 }, (_, i) => 72 + i),
  );
});

test("a packet that the core could not seal waits too", () => {
  const net = twoTunnels();
  const packet = udp("10.0.0.1", "10.0.0.2", 7);
  net.left.tunnel.handleNoKeypair(net.left.peerIds()[0]!, packet, net.now);
  net.exchange();
  assert.deepEqual(net.right.received, [packet]);
});

test("the longest matching prefix decides which peer a packet goes to", () => {
  const node = new TestNode(LEFT, IDENTITIES.left.privateKey, [
    { publicKey: publicKeyOf(0x61), endpoint: RIGHT, allowedIps: [cidr("0.0.0.0/0")] },
    { publicKey: publicKeyOf(0x62), endpoint: { ...RIGHT, port: 2 }, allowedIps: [cidr("10.1.0.0/16")] },
    {
      publicKey: publicKeyOf(0x63),
      endpoint: { ...RIGHT, port: 3 },
      allowedIps: [cidr("10.1.2.0/24"), cidr("fd00::/8")],
    },
  ]);
  const portOf = (destination: string): number | undefined => {
    node.tunnel.handleTunPacket(udp(source(destination), destination, 1), at(0));
    return node.tunnel.pollTransmit()?.destination.port;
  };
  assert.equal(portOf("10.1.2.3"), 3);
  assert.equal(portOf("10.1.3.3"), 2);
  assert.equal(portOf("192.0.2.1"), 51820);
  assert.deepEqual(node.tunnel.handleTunPacket(udp("2001:db8::1", "2001:db8::2", 1), at(0)), {
    drop: "unknown-resource",
  });
});

test("a packet from a peer must come from its allowed IPs, also when another peer has them", () => {
  const net = twoTunnels({
    rightPeers: [
      { ...peerLeft(), allowedIps: [cidr("10.0.0.0/24")] },
      { publicKey: publicKeyOf(0x61), allowedIps: [cidr("10.0.0.128/25")] },
    ],
  });
  const judge = (from: string): unknown =>
    net.right.tunnel.handlePeerPacket(net.right.peerIds()[0]!, udp(from, "10.0.0.2", 1), net.now);

  assert.equal(judge("10.0.0.1"), "forward");
  assert.equal(net.right.core.flows.at(-1)?.key.from, net.right.peerIds()[0]);
  assert.deepEqual(judge("10.0.0.129"), { drop: "not-allowed" });
  assert.deepEqual(judge("10.0.1.1"), { drop: "not-allowed" });
  assert.deepEqual(net.right.tunnel.handlePeerPacket(net.right.peerIds()[0]!, Uint8Array.of(1, 2), net.now), {
    drop: "malformed",
  });
});

test("a peer without endpoint cannot be reached before it calls, and is where it called from afterwards", () => {
  const net = twoTunnels({ rightPeers: [{ ...peerLeft(), endpoint: undefined }] });
  const answer = udp("10.0.0.2", "10.0.0.1", 9);
  assert.deepEqual(net.right.tunnel.handleTunPacket(answer, net.now), { drop: "not-connected" });

  net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 1), net.now);
  net.exchange();
  assert.equal(net.right.tunnel.handleTunPacket(answer, net.now), "forward");
});

test("a peer that calls from elsewhere is answered there, with data too", () => {
  const net = twoTunnels();
  net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 1), net.now);
  net.exchange();
  const elsewhere: SocketAddress = { ip: ip("203.0.113.9"), port: 40_000 };
  net.move(net.left, elsewhere);

  const { core, tunnel } = net.left;
  core.seal(net.left.peerIds()[0]!, udp("10.0.0.1", "10.0.0.2", 2), net.now);
  net.lost = ({ to }) => socketAddressText(to) === socketAddressText(LEFT);
  net.run(20_000);
  core.seal(net.left.peerIds()[0]!, udp("10.0.0.1", "10.0.0.2", 3), net.now);
  net.run(40_000);
  assert.ok(net.left.completed().length >= 1, "a second handshake after 15 s without answer");

  assert.deepEqual(net.right.destination(), elsewhere);
  assert.equal(tunnel.pollTransmit(), undefined);
});

test("unanswered initiations go on for 90 s, then the waiting packets are dropped", () => {
  const net = twoTunnels();
  net.lost = () => true;
  net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 1), net.now);
  net.run(120_000);

  assert.ok(net.sentBy(net.left).length >= 17 && net.sentBy(net.left).length <= 18);
  assert.ok(net.left.events.some((event) => event.kind === "note" && event.severity === "info"));

  net.lost = () => false;
  const later = udp("10.0.0.1", "10.0.0.2", 2);
  net.left.tunnel.handleTunPacket(later, net.now);
  net.exchange();
  assert.deepEqual(net.right.received, [later]);
});

test("ICMP that is no echo passes without a flow, in both directions", () => {
  const net = twoTunnels();
  net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 1), net.now);
  net.exchange();
  const unreachable = icmp("10.0.0.1", "10.0.0.2", 3);
  const flows = net.left.core.flows.length + net.right.core.flows.length;

  assert.equal(net.left.tunnel.handleTunPacket(unreachable, net.now), "consumed");
  net.exchange();
  assert.deepEqual(net.right.core.tun, [unreachable]);
  assert.equal(net.left.core.flows.length + net.right.core.flows.length, flows);
});

test("under load a stranger gets a cookie at its own address, and no state is kept", () => {
  const net = twoTunnels();
  const stranger = newNode("left", "right", {
    identity: { privateKey: new Uint8Array(32).fill(9), publicKey: publicKeyOf(9) },
  });
  stranger.peer.startHandshake(at(0));
  const payload = stranger.peer.pollMessage()!;
  const from: SocketAddress = { ip: ip("192.0.2.66"), port: 6 };
  for (let i = 0; i <= HANDSHAKES_PER_SECOND; i++) {
    net.right.tunnel.handleDatagram({ local: RIGHT, from, payload }, at(0));
  }

  const reply = net.right.tunnel.pollTransmit();
  assert.deepEqual([reply?.source, reply?.destination, reply?.payload[0]], [RIGHT, from, 3]);
  assert.equal(net.right.tunnel.pollTransmit(), undefined);
  assert.equal(net.right.core.mostKeypairs, 0);
});

test("a peer with persistent keepalive is called at once, kept alive, and called again when lost", () => {
  const net = twoTunnels({ leftPeers: [{ ...peerRight(), keepaliveSeconds: 25 }] });
  net.run(60_000);
  assert.deepEqual(
    net.sentBy(net.left).map(({ time, type }) => [time, type]),
    [
      [0, 1],
      [0, 4],
      [25_000, 4],
      [50_000, 4],
    ],
  );

  const lonely = twoTunnels({ leftPeers: [{ ...peerRight(), keepaliveSeconds: 25 }] });
  lonely.lost = () => true;
  lonely.run(100_000);
  assert.ok(lonely.sentBy(lonely.left).some(({ time }) => time >= 90_000));
});

test("shutdown removes peers and paths, and everything later is dropped", () => {
  const net = twoTunnels();
  net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 1), net.now);
  net.exchange();
  net.left.tunnel.handleCommand({ kind: "shutdown" }, net.now);

  assert.equal(net.left.core.peers.size, 0);
  assert.equal(net.left.paths.collect().length, 1);
  assert.equal(net.left.tunnel.pollTimeout(), undefined);
  assert.deepEqual(net.left.tunnel.handleTunPacket(udp("10.0.0.1", "10.0.0.2", 1), net.now), {
    drop: "unknown-resource",
  });
  net.left.tunnel.handleDatagram({ local: LEFT, from: RIGHT, payload: new Uint8Array(148) }, net.now);
  assert.equal(net.left.tunnel.pollTransmit(), undefined);
});

// ── Two tunnels and the network between them ────────────────────────────────────────────────────

class TestNode {
  readonly core = new ModelCore();
  readonly paths = new PathTable();
  readonly tunnel: StaticTunnel;
  readonly received: Uint8Array[] = [];
  readonly events: StaticTunnelEvent[] = [];
  address: SocketAddress;

  constructor(address: SocketAddress, privateKey: Uint8Array, peers: readonly StaticPeer[]) {
    this.address = address;
    const options = {
      core: this.core,
      paths: this.paths,
      crypto,
      random: seededRandom(address.port + address.ip.length),
      privateKey,
      peers,
      local: { v4: address, v6: { ip: ip("2001:db8::99"), port: 51820 } },
      unixTimeMs: 1_700_000_000_000,
    };
    this.tunnel = new StaticTunnel(options, at(0));
  }

  peerIds(): number[] {
    return [...this.core.peers.keys()];
  }

  /** Public keys of handshakes completed since the last call. */
  completed(): Uint8Array[] {
    return this.events
      .splice(0)
      .flatMap((event) => (event.kind === "handshake-completed" ? [event.publicKey] : []));
  }

  /** Where the only peer's data goes. */
  destination(): SocketAddress | undefined {
    const path = this.core.peers.get(this.peerIds()[0]!)?.path;
    return path === undefined ? undefined : this.paths.path(path)?.destination;
  }

  receive(from: SocketAddress, payload: Uint8Array, now: Instant): void {
    if (payload[0] !== 4) {
      this.tunnel.handleDatagram({ local: this.address, from, payload }, now);
      return;
    }
    const opened = this.core.open(payload, now);
    if (opened === undefined) return;
    if (opened.confirmed !== undefined)
      this.tunnel.handleKeypairConfirmed(opened.peer, opened.confirmed, now);
    if (opened.packet.length === 0) return;
    if (this.tunnel.handlePeerPacket(opened.peer, opened.packet, now) === "forward") {
      this.received.push(opened.packet);
    }
  }

  outgoing(): { readonly to: SocketAddress; readonly payload: Uint8Array }[] {
    const datagrams: { to: SocketAddress; payload: Uint8Array }[] = [];
    for (let one = this.tunnel.pollTransmit(); one !== undefined; one = this.tunnel.pollTransmit()) {
      datagrams.push({ to: one.destination, payload: one.payload });
    }
    for (const { path, datagram } of this.core.takeSealed()) {
      const to = this.paths.path(path)?.destination;
      assert.ok(to, "the path of a sealed datagram is known");
      datagrams.push({ to, payload: datagram });
    }
    for (let event = this.tunnel.pollEvent(); event !== undefined; event = this.tunnel.pollEvent()) {
      this.events.push(event);
    }
    return datagrams;
  }
}

class Net {
  readonly left: TestNode;
  readonly right: TestNode;
  readonly #log: { readonly node: TestNode; readonly time: number; readonly type: number | undefined }[] = [];
  now: Instant = at(0);
  lost: (datagram: { readonly to: SocketAddress }) => boolean = () => false;

  constructor(left: TestNode, right: TestNode) {
    this.left = left;
    this.right = right;
  }

  move(node: TestNode, address: SocketAddress): void {
    node.address = address;
  }

  sentBy(node: TestNode): { readonly time: number; readonly type: number | undefined }[] {
    return this.#log.filter((sent) => sent.node === node);
  }

  /** Delivers until nobody has anything to say. */
  exchange(): void {
    for (let busy = true; busy; ) {
      busy = false;
      for (const [node, other] of [
        [this.left, this.right],
        [this.right, this.left],
      ] as const) {
        for (const { to, payload } of node.outgoing()) {
          busy = true;
          this.#log.push({ node, time: elapsed(this.now), type: payload[0] });
          if (this.lost({ to }) || socketAddressText(to) !== socketAddressText(other.address)) continue;
          other.receive(node.address, payload, this.now);
        }
      }
    }
  }

  run(until: number): void {
    this.exchange();
    for (;;) {
      const due = [this.left, this.right].flatMap((node) => node.tunnel.pollTimeout() ?? []);
      const next = Math.min(...due.map((deadline) => deadline.at));
      if (next > at(until)) break;
      assert.ok(next >= this.now);
      this.now = next;
      for (const node of [this.left, this.right]) node.tunnel.handleTimeout(this.now);
      this.exchange();
    }
    this.now = at(until);
  }
}

function twoTunnels(
  peers: { readonly leftPeers?: readonly StaticPeer[]; readonly rightPeers?: readonly StaticPeer[] } = {},
): Net {
  return new Net(
    new TestNode(LEFT, IDENTITIES.left.privateKey, peers.leftPeers ?? [peerRight()]),
    new TestNode(RIGHT, IDENTITIES.right.privateKey, peers.rightPeers ?? [peerLeft()]),
  );
}

function peerLeft(): StaticPeer {
  return {
    publicKey: IDENTITIES.left.publicKey,
    presharedKey: PRESHARED_KEY,
    endpoint: LEFT,
    allowedIps: [cidr("10.0.0.1")],
  };
}

function peerRight(): StaticPeer {
  return {
    publicKey: IDENTITIES.right.publicKey,
    presharedKey: PRESHARED_KEY,
    endpoint: RIGHT,
    allowedIps: [cidr("10.0.0.2")],
  };
}

function publicKeyOf(fill: number): Uint8Array {
  return crypto.publicKey(new Uint8Array(32).fill(fill));
}

function source(destination: string): string {
  return destination.includes(":") ? "fd00::1" : "10.0.0.1";
}

function udp(from: string, to: string, port: number): Uint8Array {
  return packet(from, to, 17, Uint8Array.of(4000 >> 8, 4000 & 0xff, port >> 8, port & 0xff, 0, 8, 0, 0));
}

function icmp(from: string, to: string, type: number): Uint8Array {
  return packet(from, to, 1, Uint8Array.of(type, 1, 0, 0, 0, 0, 0, 0));
}

/** Addresses and lengths are right, checksums are nobody's concern here. */
function packet(from: string, to: string, protocol: number, payload: Uint8Array): Uint8Array {
  const [source, destination] = [ipToBytes(ip(from)), ipToBytes(ip(to))];
  const v4 = source.length === 4;
  const header = v4
    ? Uint8Array.of(0x45, 0, 0, 20 + payload.length, 0, 0, 0, 0, 64, protocol, 0, 0)
    : Uint8Array.of(0x60, 0, 0, 0, 0, payload.length, protocol, 64);
  return Uint8Array.of(...header, ...source, ...destination, ...payload);
}

function destinationPort(bytes: Uint8Array): number {
  return (bytes[22]! << 8) | bytes[23]!;
}
