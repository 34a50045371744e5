// A client that keeps no rules: it connects as any client does, then seals whatever packets it is given. Usage:
// rogue-client.ts <JSON of Rogue>; prints `connected <IPv4> <IPv6>` once a gateway is reached, then `received <base64>`
// per packet from the tunnel. Sends the packet of each input line, in base64.
import fs from "node:fs";
import readline from "node:readline";
import * as abi from "../../assembly/abi.ts";
import { ConnectionNode } from "../../host/core/connection/node.ts";
import { CLIENT_SETTINGS } from "../../host/core/connection/settings.ts";
import { type Disposition, drop } from "../../host/core/drop.ts";
import type { NodeId, PeerId } from "../../host/core/id.ts";
import type { ClientEgress, ClientIngress } from "../../host/core/messages.ts";
import { PathTable } from "../../host/core/path.ts";
import type { Deadline, Instant } from "../../host/core/time.ts";
import type { Datagram, Transmit } from "../../host/core/transmit.ts";
import type { TunnelMachine } from "../../host/core/tunnel-machine.ts";
import { monotonicNow } from "../../host/daemon/clock.ts";
import { DataLoop } from "../../host/daemon/data-loop.ts";
import { PortalConnection } from "../../host/daemon/portal-connection.ts";
import { noiseCrypto } from "../../host/io/crypto.ts";
import { PortableUdp } from "../../host/io/portable/udp.ts";
import { systemRandom } from "../../host/io/random.ts";
import { loadPacketCore } from "../../host/wasm/loader.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";

export interface Rogue {
  readonly portal: string;
  readonly tokenFile: string;
  /** Name of the resource that it asks access to, as everybody may. */
  readonly resource: string;
}

type Command =
  | { readonly kind: "portal"; readonly message: ClientIngress }
  | { readonly kind: "send"; readonly packet: Uint8Array };
type Event =
  | { readonly kind: "portal"; readonly message: ClientEgress }
  | { readonly kind: "line"; readonly text: string };

const TIMER_MS = 5;
const PORT = 40_404;

const rogue = JSON.parse(process.argv[2] ?? "") as Rogue;
const crypto = noiseCrypto();
const random = systemRandom();
const privateKey = random.bytes(32);
const publicKey = crypto.publicKey(privateKey);

class RogueMachine implements TunnelMachine<Command, Event> {
  readonly #core: WasmPacketCore;
  readonly #connectivity: ConnectionNode;
  readonly #events: Event[] = [];
  #addresses = "";
  #peer: PeerId | undefined;

  constructor(core: WasmPacketCore, paths: PathTable, now: Instant) {
    this.#core = core;
    const identity = { privateKey, publicKey };
    this.#connectivity = new ConnectionNode(
      { core, paths, crypto, random, identity, unixTimeMs: Date.now(), settings: CLIENT_SETTINGS },
      now,
    );
  }

  handleTunPacket(): Disposition {
    return drop("unconfigured");
  }

  handlePeerPacket(_peer: PeerId, packet: Uint8Array): Disposition {
    this.#events.push({ kind: "line", text: `received ${Buffer.from(packet).toString("base64")}` });
    return "consumed";
  }

  handleNoKeypair(peer: PeerId, _packet: Uint8Array, now: Instant): void {
    this.#connectivity.handleNoKeypair(peer, now);
  }

  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void {
    this.#connectivity.handleKeypairConfirmed(peer, localIndex, now);
  }

  handleDatagram(datagram: Datagram, now: Instant): void {
    this.#connectivity.handleDatagram(datagram, now);
  }

  handleCommand(command: Command, now: Instant): void {
    if (command.kind === "portal") this.#handlePortal(command.message, now);
    else if (this.#peer !== undefined) this.#core.seal(this.#peer, command.packet, now);
  }

  handleTimeout(now: Instant): void {
    this.#connectivity.handleTimeout(now);
  }

  pollTransmit(): Transmit | undefined {
    return this.#connectivity.pollTransmit();
  }

  pollEvent(): Event | undefined {
    const own = this.#events.shift();
    if (own !== undefined) return own;
    const event = this.#connectivity.pollEvent();
    switch (event?.kind) {
      case undefined:
        return undefined;
      case "candidates-added":
        return {
          kind: "portal",
          message: { kind: "ice-candidates", gateway: event.node as never, candidates: event.candidates },
        };
      case "established":
        return { kind: "line", text: `connected ${this.#addresses}` };
      default:
        return { kind: "line", text: JSON.stringify(event) };
    }
  }

  pollTimeout(): Deadline | undefined {
    return this.#connectivity.pollTimeout();
  }

  #handlePortal(message: ClientIngress, now: Instant): void {
    switch (message.kind) {
      case "init": {
        this.#addresses = `${message.interface.ipv4} ${message.interface.ipv6}`;
        this.#connectivity.updateRelays([], message.relays, now);
        const wanted = message.resources.find((resource) => resource.name === rogue.resource);
        if (wanted === undefined) throw new Error(`no resource is named ${rogue.resource}`);
        const request = {
          kind: "request-authorization",
          resource: wanted.id,
          connectedGateways: [],
        } as const;
        this.#events.push({ kind: "portal", message: request });
        break;
      }
      case "authorization-created": {
        this.#peer = this.#core.addPeer();
        if (this.#peer === undefined) throw new Error("no peer slot");
        const parameters = {
          remotePublicKey: message.gatewayPublicKey,
          presharedKey: message.presharedKey,
          localIce: message.clientIce,
          remoteIce: message.gatewayIce,
          role: "controlling",
        } as const;
        this.#connectivity.upsert(message.gateway as NodeId, this.#peer, parameters, now);
        break;
      }
      case "ice-candidates":
        this.#connectivity.addRemoteCandidates(message.gateway as NodeId, message.candidates, now);
        break;
    }
  }
}

const core = loadPacketCore();
const paths = new PathTable();
const udp = await PortableUdp.open(
  {
    bytes: core.bytes,
    address: 0,
    buffers: Array.from(
      { length: abi.UDP_IN_BUFFERS },
      (_, i) => abi.UDP_IN_BASE + i * abi.UDP_IN_BUFFER_BYTES,
    ),
    bufferBytes: abi.UDP_IN_BUFFER_BYTES,
    describe: (index, offset, length, segment, ecn) =>
      core.batch.setDatagramIn(index, offset, length, segment, ecn),
  },
  {
    port: PORT,
    onReadable: (family) =>
      setImmediate(() => {
        while (loop.handleUdp(family));
        loop.handleTimeout();
      }),
  },
);
const loop: DataLoop<Command, Event> = new DataLoop<Command, Event>({
  core,
  machine: new RogueMachine(core, paths, monotonicNow()),
  paths,
  tun: { readFrames: () => 0, writeFrame: () => true },
  udp,
  now: monotonicNow,
  post: (event) => {
    if (event.kind === "line") console.log(event.text);
    else portal.send(event.message);
  },
});
const portal = new PortalConnection(
  {
    role: "client",
    url: rogue.portal,
    token: fs.readFileSync(rogue.tokenFile, "utf8").trim(),
    externalId: "rogue",
    publicKey,
  },
  {
    onMessage: (message) => loop.handleCommand({ kind: "portal", message }),
    onFatal: (error) => console.log(JSON.stringify(error)),
  },
);
setInterval(() => loop.handleTimeout(), TIMER_MS);
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  loop.handleCommand({ kind: "send", packet: Buffer.from(line, "base64") });
});
