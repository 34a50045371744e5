import { Command } from "commander";
import { SetupError } from "../daemon/preflight.ts";
import { clientCommand } from "./client.ts";
import { explainCommand } from "./explain.ts";
import { gatewayCommand } from "./gateway.ts";
import { labCommand } from "./lab.ts";
import { portalCommand } from "./portal.ts";
import { relayCommand } from "./relay.ts";
import { statusCommand } from "./status.ts";

const USAGE_ERROR = 2;

const program = new Command("culvert")
  .description("Access to private networks, one named resource at a time")
  .version("0.1.0")
  .enablePositionalOptions()
  .showHelpAfterError("(culvert --help lists what there is)")
  .addCommand(clientCommand())
  .addCommand(gatewayCommand())
  .addCommand(relayCommand())
  .addCommand(portalCommand())
  .addCommand(statusCommand())
  .addCommand(explainCommand())
  .addCommand(labCommand());
exitOnUsageErrors(program);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`culvert: ${error.message}`);
  process.exit(1);
}

/** Commander ends usage errors with 1; convention and Firezone's binaries say 2. */
function exitOnUsageErrors(command: Command): void {
  command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : USAGE_ERROR));
  for (const sub of command.commands) exitOnUsageErrors(sub);
}
