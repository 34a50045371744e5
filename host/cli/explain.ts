import { Command, InvalidArgumentError, Option } from "commander";
import { parseIp } from "../core/address.ts";
import type { Question } from "../core/explanation.ts";
import { askExplain, findSocket } from "../daemon/local-client.ts";
import { SetupError } from "../daemon/preflight.ts";
import { explanationText } from "./explain-text.ts";
import { parsePort } from "./options.ts";

/** Asked about when neither protocol nor port is given. */
const DEFAULT_PORT = 443;
/** Exit codes: it passes or is answered; it does not. 1 and 2 are errors, as everywhere. */
const EXIT_NOT_NOW = 3;

interface ExplainFlags {
  readonly to: Question["to"];
  readonly proto?: Question["protocol"];
  readonly port?: number;
  readonly from?: string;
  readonly json: boolean;
  readonly socket?: string;
}

export function explainCommand(): Command {
  return new Command("explain")
    .description("say what a running client or gateway would do with a packet, and why; sends nothing")
    .requiredOption("--to <name or address>", "where to", parseTarget)
    .addOption(
      new Option("--proto <protocol>", "what with; icmp is a ping; default: tcp").choices([
        "tcp",
        "udp",
        "icmp",
      ]),
    )
    .option("--port <port>", `towards the destination; default: ${DEFAULT_PORT}`, parsePort)
    .option("--from <client>", "on a gateway: the client's id, actor name or tunnel address")
    .option("--json", "answer for programs", false)
    .addOption(socketOption())
    .addHelpText("after", `\nExit code: 0 if it would pass or be answered, ${EXIT_NOT_NOW} if not.`)
    .action(explain);
}

/** `--socket` of the commands that ask a daemon. */
export function socketOption(): Option {
  return new Option("--socket <path>", "the daemon's socket; default: that of the daemon on this host").env(
    "CULVERT_SOCKET",
  );
}

async function explain(flags: ExplainFlags): Promise<void> {
  const answer = await askExplain(flags.socket ?? findSocket(), questionOf(flags));
  console.log(flags.json ? JSON.stringify(answer, undefined, 2) : explanationText(answer));
  process.exitCode = answer.verdict === "passes" || answer.verdict === "answered" ? 0 : EXIT_NOT_NOW;
}

function questionOf({ to, proto, port, from }: ExplainFlags): Question {
  if (proto === "icmp") {
    if (port !== undefined) throw new SetupError("--port: a ping has no port");
    return { to, protocol: "icmp", port: 0, from };
  }
  return { to, protocol: proto ?? "tcp", port: port ?? DEFAULT_PORT, from };
}

function parseTarget(text: string): Question["to"] {
  const address = parseIp(text);
  if (address !== undefined) return { kind: "address", address };
  const isName = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$/.test(text) && !/^[0-9.]+$/.test(text);
  if (!isName) throw new InvalidArgumentError("expected a name or an address");
  return { kind: "name", name: text };
}
