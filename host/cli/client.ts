import { Command, Option } from "commander";
import { ClientDaemon } from "../daemon/client.ts";
import { addTunnelOptions, loggerOf, type TunnelFlags, tunnelOptions } from "./options.ts";
import { runDaemon } from "./run-daemon.ts";

interface ClientFlags extends TunnelFlags {
  readonly dnsControl: "etc-resolv-conf" | "disabled";
  readonly internetResource: boolean;
}

export function clientCommand(): Command {
  return addTunnelOptions(new Command("client"), "client")
    .description("reach the resources that a portal grants to this device")
    .addOption(
      new Option("--dns-control <how>", "how the system's resolver is pointed at the tunnel")
        .choices(["etc-resolv-conf", "disabled"])
        .default("etc-resolv-conf"),
    )
    .option(
      "--internet-resource",
      "send all other traffic through the internet resource, if there is one",
      false,
    )
    .action(async (flags: ClientFlags) => {
      const options = tunnelOptions(flags, "client");
      const log = loggerOf("culvert-client", flags);
      const { dnsControl, internetResource } = flags;
      await runDaemon(new ClientDaemon({ ...options, dnsControl, internetResource }, log), log);
    });
}
