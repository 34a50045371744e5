import { Command } from "commander";
import { GatewayDaemon } from "../daemon/gateway.ts";
import { addTunnelOptions, loggerOf, type TunnelFlags, tunnelOptions } from "./options.ts";
import { runDaemon } from "./run-daemon.ts";

interface GatewayFlags extends TunnelFlags {
  readonly forwarding: boolean;
}

export function gatewayCommand(): Command {
  return addTunnelOptions(new Command("gateway"), "gateway")
    .description("give clients access to the network this host is in")
    .option("--no-forwarding", "leave forwarding switches and masquerading to the operator")
    .action(async (flags: GatewayFlags) => {
      const options = tunnelOptions(flags, "gateway");
      const log = loggerOf("culvert-gateway", flags);
      await runDaemon(new GatewayDaemon({ ...options, forwarding: flags.forwarding }, log), log);
    });
}
