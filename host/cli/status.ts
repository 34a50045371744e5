import { Command } from "commander";
import { askStatus, findSocket } from "../daemon/local-client.ts";
import { socketOption } from "./explain.ts";
import { statusText } from "./status-text.ts";

interface StatusFlags {
  readonly json: boolean;
  readonly socket?: string;
}

export function statusCommand(): Command {
  return new Command("status")
    .description("show what a running client or gateway is connected to")
    .option("--json", "answer for programs", false)
    .addOption(socketOption())
    .action(async (flags: StatusFlags) => {
      const status = await askStatus(flags.socket ?? findSocket());
      console.log(flags.json ? JSON.stringify(status, undefined, 2) : statusText(status));
    });
}
