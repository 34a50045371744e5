import dns from "node:dns/promises";
import type net from "node:net";
import { parseIp } from "../core/address.ts";
import { connectMarked } from "../io/linux/marked-socket.ts";
import type { ChannelFatal } from "../portal/channel.ts";
import type { ConnectTarget } from "./portal-connection.ts";

/** Connects to the portal with the firewall mark, so that the connection never enters the tunnel itself. */
export async function connectAroundTunnel(target: ConnectTarget, mark: number): Promise<net.Socket> {
  const addresses = await dns.lookup(target.host, { all: true, order: "verbatim" });
  let failure: unknown;
  for (const { address } of addresses) {
    const ip = parseIp(address);
    if (ip === undefined) continue;
    try {
      return await connectMarked({ ip, port: target.port }, mark);
    } catch (error) {
      failure = error;
    }
  }
  throw failure ?? new Error(`no address for ${target.host}`);
}

/** One line for the operator: what ended the connection for good, and what to do. */
export function fatalText(error: ChannelFatal): string {
  switch (error.kind) {
    case "token-rejected":
      return `the portal refused the token (${error.code}); create a new one with: culvert portal token create`;
    case "token-expired":
      return "the token expired, or another process connected with another token for this device";
    case "join-refused":
      return `the portal refused to let us join: ${error.reason ?? "no reason given"}`;
    case "partitioned":
      return "the portal was out of reach for longer than allowed";
  }
}
