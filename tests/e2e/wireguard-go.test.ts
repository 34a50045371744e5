import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import type { UdpBackend } from "../../host/daemon/data-thread-protocol.ts";
import { Pair } from "./pair.ts";
import { Program } from "./program.ts";
import type { StaticEnd } from "./static-end.ts";

const PORT = 51820;
const STATIC_END = path.join(import.meta.dirname, "static-end.ts");

interface KeyPair {
  readonly privateKey: string;
  readonly publicKey: string;
}

for (const backend of ["native", "portable"] as const) {
  describe(`wireguard-go at the other end, ${backend} sockets`, () => {
    test("we answer its handshake, and carry ping and TCP both ways", async () => {
      await withTunnel({ backend, initiator: "wireguard-go" }, async (tunnel) => {
        await tunnel.pingFrom("right", "10.8.0.1");
        await tunnel.pingFrom("left", "fd00:8::2");
        await tunnel.transfers();
      });
    });

    test("it answers our handshake, and ping and TCP pass both ways", async () => {
      await withTunnel({ backend, initiator: "culvert" }, async (tunnel) => {
        await tunnel.pingFrom("left", "10.8.0.2");
        await tunnel.pingFrom("right", "fd00:8::1");
        await tunnel.transfers();
      });
    });
  });
}

test("we follow wireguard-go when its address changes", async () => {
  await withTunnel({ backend: "native", initiator: "wireguard-go" }, async (tunnel) => {
    await tunnel.pingFrom("right", "10.8.0.1");
    await tunnel.pair.right.ip(["addr del 10.9.0.2/24 dev eth0", "addr add 10.9.0.77/24 dev eth0"]);
    // A new handshake tells us the new address.
    await tunnel.configureRight();
    await tunnel.pingFrom("right", "10.8.0.1");
    await tunnel.pingFrom("left", "10.8.0.2");
  });
});

test("a preshared key that differs lets nothing through", async () => {
  await withTunnel({ backend: "native", initiator: "culvert", wrongPresharedKey: true }, async (tunnel) => {
    const { code } = await tunnel.pair.left.exec(["ping", "-c", "1", "-W", "1", "10.8.0.2"]);
    assert.notEqual(code, 0);
  });
});

interface Setup {
  readonly backend: UdpBackend;
  /** Who knows the other's endpoint, and so sends the first handshake. */
  readonly initiator: "culvert" | "wireguard-go";
  readonly wrongPresharedKey?: boolean;
}

/** Culvert on the left, wireguard-go on the right; ended and checked for errors afterwards. */
async function withTunnel(setup: Setup, use: (tunnel: Tunnel) => Promise<void>): Promise<void> {
  const tunnel = await Tunnel.create(setup);
  try {
    await use(tunnel);
  } finally {
    await tunnel.destroy();
  }
}

class Tunnel {
  readonly pair: Pair;
  readonly #setup: Setup;
  readonly #left = newKeyPair();
  readonly #right = newKeyPair();
  readonly #presharedKey = randomBytes(32).toString("base64");
  #culvert: Program | undefined;
  #wireguardGo: Program | undefined;

  private constructor(pair: Pair, setup: Setup) {
    this.pair = pair;
    this.#setup = setup;
  }

  static async create(setup: Setup): Promise<Tunnel> {
    const tunnel = new Tunnel(await Pair.create(), setup);
    try {
      await tunnel.#startRight();
      await tunnel.#startLeft();
      return tunnel;
    } catch (error) {
      await tunnel.destroy();
      throw error;
    }
  }

  async pingFrom(side: "left" | "right", address: string): Promise<void> {
    const { code, stdout } = await this.pair[side].exec(["ping", "-c", "3", "-i", "0.1", "-W", "3", address]);
    assert.equal(code, 0, stdout);
  }

  /** One second of TCP in each direction. */
  async transfers(): Promise<void> {
    for (const direction of [[], ["-R"]]) {
      const server = new Program(this.pair.right, ["iperf3", "-s", "-1", "--forceflush"]);
      await server.outputs(/Server listening/);
      const client = ["iperf3", "-c", "10.8.0.2", "-t", "1", "-J", ...direction];
      const { code, stdout } = await this.pair.left.exec(client);
      await server.stop();
      assert.equal(code, 0, stdout);
      const { end } = JSON.parse(stdout) as { end: { sum_received: { bytes: number } } };
      assert.ok(end.sum_received.bytes > 1_000_000, `only ${end.sum_received.bytes} bytes arrived`);
    }
  }

  /** Sets wireguard-go's peer anew; with our endpoint if it is the one to start. */
  async configureRight(): Promise<void> {
    const { initiator, wrongPresharedKey } = this.#setup;
    const psk = wrongPresharedKey === true ? randomBytes(32).toString("base64") : this.#presharedKey;
    const configuration = `[Interface]
PrivateKey = ${this.#right.privateKey}
ListenPort = ${PORT}
[Peer]
PublicKey = ${this.#left.publicKey}
PresharedKey = ${psk}
AllowedIPs = 10.8.0.1/32, fd00:8::1/128
${initiator === "wireguard-go" ? `Endpoint = 10.9.0.1:${PORT}` : ""}
`;
    const file = path.join(this.pair.directory, "wg.conf");
    fs.writeFileSync(file, configuration, { mode: 0o600 });
    const { code, stderr } = await this.pair.right.exec(["wg", "setconf", "wg0", file]);
    assert.equal(code, 0, stderr);
  }

  async destroy(): Promise<void> {
    await this.#culvert?.stop();
    await this.#wireguardGo?.stop();
    await this.pair.destroy();
  }

  async #startLeft(): Promise<void> {
    const { backend, initiator } = this.#setup;
    const end: StaticEnd = {
      privateKey: this.#left.privateKey,
      tunName: "culvert0",
      backend,
      port: PORT,
      peers: [
        {
          publicKey: this.#right.publicKey,
          presharedKey: this.#presharedKey,
          allowedIps: ["10.8.0.2/32", "fd00:8::2/128"],
          ...(initiator === "culvert" ? { endpoint: `10.9.0.2:${PORT}` } : {}),
        },
      ],
    };
    this.#culvert = new Program(this.pair.left, [process.execPath, STATIC_END, JSON.stringify(end)]);
    await this.#culvert.outputs(/^ready$/m);
    await this.pair.left.ip([
      "addr add 10.8.0.1/24 dev culvert0",
      "addr add fd00:8::1/64 dev culvert0 nodad",
      "link set culvert0 mtu 1280 up",
    ]);
  }

  async #startRight(): Promise<void> {
    this.#wireguardGo = new Program(this.pair.right, ["env", "LOG_LEVEL=debug", "wireguard-go", "-f", "wg0"]);
    await this.#wireguardGo.outputs(/UAPI listener started/);
    await this.configureRight();
    await this.pair.right.ip([
      "addr add 10.8.0.2/24 dev wg0",
      "addr add fd00:8::2/64 dev wg0 nodad",
      "link set wg0 mtu 1280 up",
    ]);
  }
}

function newKeyPair(): KeyPair {
  const raw = randomBytes(32);
  // RFC 8410: the fixed PKCS #8 prefix of an X25519 private key.
  const prefix = Buffer.from("302e020100300506032b656e04220420", "hex");
  const key = createPrivateKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return { privateKey: raw.toString("base64"), publicKey: publicKey.toString("base64") };
}
