import { Command, InvalidArgumentError } from "commander";
import { type IpAddress, isIpv4, parseIp } from "../core/address.ts";
import { portalUrl, readToken, SetupError } from "../daemon/preflight.ts";
import { RelayDaemon } from "../daemon/relay.ts";
import { addPeerOptions, loggerOf, type PortalPeerFlags, parsePort } from "./options.ts";
import { runDaemon } from "./run-daemon.ts";

interface RelayFlags extends PortalPeerFlags {
  readonly publicIpv4?: IpAddress;
  readonly publicIpv6?: IpAddress;
  readonly port: number;
}

export function relayCommand(): Command {
  return (
    addPeerOptions(new Command("relay"))
      .description("tell clients and gateways their public addresses (STUN)")
      .option("--public-ipv4 <address>", "address under which this relay is reached", parseFamily(4))
      .option("--public-ipv6 <address>", "the same for IPv6", parseFamily(6))
      // Firezone's peers contact relays at this port only.
      .option("--port <port>", "UDP port", parsePort, 3478)
      .action(async (flags: RelayFlags) => {
        if (flags.publicIpv4 === undefined && flags.publicIpv6 === undefined) {
          throw new SetupError(
            "a relay needs an address to be reached at: --public-ipv4, --public-ipv6, or both",
          );
        }
        const log = loggerOf("culvert-relay", flags);
        const daemon = new RelayDaemon(
          {
            portal: portalUrl(flags.portal),
            token: readToken(flags.tokenFile, "relay"),
            name: flags.name,
            publicIpv4: flags.publicIpv4,
            publicIpv6: flags.publicIpv6,
            port: flags.port,
          },
          log,
        );
        await runDaemon(daemon, log);
      })
  );
}

function parseFamily(family: 4 | 6): (text: string) => IpAddress {
  return (text) => {
    const address = parseIp(text);
    if (address === undefined || isIpv4(address) !== (family === 4)) {
      throw new InvalidArgumentError(`expected an IPv${family} address`);
    }
    return address;
  };
}
