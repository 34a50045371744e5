import crypto from "node:crypto";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Logger } from "../daemon/log.ts";
import {
  ConfigurationError,
  loadConfiguration,
  type RunningPortal,
  startPortal,
} from "../daemon/portal-server.ts";
import { readTokenFile, TokenFileError, tokenFilePath, updateTokenFile } from "../daemon/token-file.ts";
import { nearest } from "../portal/server/configuration-rules.ts";
import type { Configuration } from "../portal/server/model.ts";
import { createToken, isExpired, type TokenOwner, type TokenRecord } from "../portal/server/tokens.ts";
import type { PortalRole } from "../portal/wire.ts";
import { addLogOptions, loggerOf, type PortalPeerFlags } from "./options.ts";
import { type Daemon, runDaemon } from "./run-daemon.ts";

const DEFAULT_CLIENT_EXPIRY_S = 90 * 86_400;

interface ConfigFlags {
  readonly config: string;
}

interface CreateFlags extends ConfigFlags {
  readonly kind: PortalRole;
  readonly actor?: string;
  readonly site?: string;
  readonly expires?: number;
  readonly label?: string;
}

type LogFlags = Pick<PortalPeerFlags, "logLevel" | "logFormat" | "logDir">;

/** `culvert portal`, with `check` and `token` below it. Problems with files end the process with 1. */
export function portalCommand(): Command {
  const portal = new Command("portal")
    .description("say who may reach what: the control plane, from one file")
    // So that `--config` after a sub-command is that sub-command's.
    .enablePositionalOptions()
    .addOption(configOption());
  addLogOptions(portal).action((_flags, command: Command) => run(configOf(command), command));
  portal.addCommand(checkCommand());
  portal.addCommand(tokenCommand());
  return portal;
}

function configOption(): Option {
  return new Option("--config <file>", "the configuration, in YAML").env("CULVERT_PORTAL_CONFIG");
}

/** The option may stand before or after the sub-command. */
function configOf(command: Command): string {
  const { config } = command.optsWithGlobals<Partial<ConfigFlags>>();
  const own = command.opts<Partial<ConfigFlags>>().config;
  const file = own ?? config;
  if (file === undefined)
    command.error("error: required option '--config <file>' not specified", { exitCode: 2 });
  return file;
}

async function run(config: string, command: Command): Promise<void> {
  const log = loggerOf("culvert-portal", command.opts<LogFlags>());
  await reportingProblems(async () => {
    // Looked at before the daemon starts, so that mistakes are told as plain lines.
    const { tokensPath } = loadConfiguration(config);
    readTokenFile(tokenFilePath(config, tokensPath));
    await runDaemon(new PortalDaemon(config, log), log);
  });
}

/** The portal as a process: drains when it is told to stop, reads its files again on SIGHUP. */
class PortalDaemon implements Daemon {
  readonly #config: string;
  readonly #log: Logger;
  readonly #ended = Promise.withResolvers<number>();
  #portal: RunningPortal | undefined;

  constructor(config: string, log: Logger) {
    this.#config = config;
    this.#log = log;
  }

  async start(): Promise<void> {
    this.#portal = await startPortal({ configFile: this.#config, log: this.#log });
  }

  async stop(exitCode: number): Promise<void> {
    await this.#portal?.drain();
    this.#ended.resolve(exitCode);
  }

  finished(): Promise<number> {
    return this.#ended.promise;
  }

  reset(): void {
    this.#portal?.reload();
  }
}

function checkCommand(): Command {
  return new Command("check")
    .description("read the configuration and say what is wrong with it")
    .addOption(configOption())
    .action((_flags, command: Command) => {
      const config = configOf(command);
      return reportingProblems(() => {
        const { actors, sites, resources, policies } = loadConfiguration(config);
        const counts = [
          `${actors.size} actors`,
          `${sites.size} sites`,
          `${resources.size} resources`,
          `${policies.length} policies`,
        ];
        console.log(`${config}: ok (${counts.join(", ")})`);
      });
    });
}

function tokenCommand(): Command {
  const token = new Command("token").description("create, list and revoke tokens").enablePositionalOptions();
  token.addCommand(createCommand());
  token.addCommand(listCommand());
  token.addCommand(revokeCommand());
  return token;
}

function createCommand(): Command {
  return new Command("create")
    .description("create a token and print it, once: only a hash of it is kept")
    .addOption(configOption())
    .addOption(
      new Option("--kind <kind>", "who connects with it")
        .choices(["client", "gateway", "relay"])
        .makeOptionMandatory(),
    )
    .option("--actor <name>", "actor that a client stands for")
    .option("--site <name>", "site that a gateway belongs to")
    .option(
      "--expires <duration>",
      "90s, 30m, 12h, 90d or 52w; default: 90d for clients, never for others",
      parseDuration,
    )
    .option("--label <text>", "reminder of what the token is for")
    .action((flags: CreateFlags, command: Command) => {
      const config = configOf(command);
      return reportingProblems(() => {
        const configuration = loadConfiguration(config);
        const createdAt = Math.floor(Date.now() / 1000);
        const owner = ownerOf(flags, configuration, createdAt, command);
        const random = {
          bytes: (length: number) => crypto.randomBytes(length),
          uniform: () => crypto.randomInt(2 ** 32) / 2 ** 32,
        };
        const { record, text } = createToken(owner, flags.label, createdAt, random);
        updateTokenFile(tokenFilePath(config, configuration.tokensPath), (tokens) =>
          tokens.set(record.id, record),
        );
        console.error(`created token ${record.id} (${describeOwner(record)}, ${describeEnd(record)})`);
        console.log(text);
      });
    });
}

/** Ends the process with a usage error if the options do not fit the kind. */
function ownerOf(
  { kind, actor, site, expires }: CreateFlags,
  configuration: Configuration,
  createdAt: number,
  command: Command,
): TokenOwner {
  const refuse = (message: string): never => command.error(`error: ${message}`, { exitCode: 2 });
  const expiresAt = expires === undefined ? undefined : createdAt + expires;
  if (kind !== "client" && actor !== undefined) refuse(`--actor means nothing for a ${kind}`);
  if (kind !== "gateway" && site !== undefined) refuse(`--site means nothing for a ${kind}`);
  switch (kind) {
    case "client": {
      if (actor === undefined) return refuse("a client's token needs --actor");
      const names = [...configuration.actors.values()].map(({ name }) => name);
      requireKnown("actor", actor, names);
      return { kind, actor, expiresAt: expiresAt ?? createdAt + DEFAULT_CLIENT_EXPIRY_S };
    }
    case "gateway": {
      if (site === undefined) return refuse("a gateway's token needs --site");
      const names = [...configuration.sites.values()].map(({ name }) => name);
      requireKnown("site", site, names);
      return { kind, site, expiresAt };
    }
    case "relay":
      return { kind, expiresAt };
  }
}

function requireKnown(kind: string, name: string, names: readonly string[]): void {
  if (names.includes(name)) return;
  const near = nearest(name, names);
  const hint =
    near === undefined
      ? `; the configuration has ${names.join(", ") || "none"}`
      : `; did you mean "${near}"?`;
  throw new ConfigurationError([`no ${kind} is named "${name}"${hint}`]);
}

function listCommand(): Command {
  return new Command("list")
    .description("list tokens: id, owner, end, label")
    .addOption(configOption())
    .action((_flags, command: Command) => {
      const config = configOf(command);
      return reportingProblems(() => {
        for (const record of readTokenFile(tokenFileOf(config)).tokens.values()) {
          console.log(
            [record.id, describeOwner(record), describeEnd(record), record.label ?? ""].join("\t").trimEnd(),
          );
        }
      });
    });
}

function revokeCommand(): Command {
  return new Command("revoke")
    .description("make a token worthless: a running portal signs its holders out")
    .argument("<id>", "the token's id, as `list` shows it")
    .addOption(configOption())
    .action((id: string, _flags, command: Command) => {
      const config = configOf(command);
      return reportingProblems(() => {
        const wanted = id.toLowerCase();
        updateTokenFile(tokenFileOf(config), (tokens) => {
          if (!tokens.delete(wanted)) throw new TokenFileError(`no token has the id ${wanted}`);
        });
        console.error(`revoked token ${wanted}`);
      });
    });
}

function tokenFileOf(config: string): string {
  return tokenFilePath(config, loadConfiguration(config).tokensPath);
}

function describeOwner(record: TokenRecord): string {
  switch (record.kind) {
    case "client":
      return `client of ${record.actor}`;
    case "gateway":
      return `gateway of ${record.site}`;
    case "relay":
      return "relay";
  }
}

function describeEnd(record: TokenRecord): string {
  if (record.expiresAt === undefined) return "does not expire";
  const isOver = isExpired(record, Date.now() / 1000);
  return `${isOver ? "expired" : "expires"} ${new Date(record.expiresAt * 1000).toISOString()}`;
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** Seconds. */
function parseDuration(text: string): number {
  const match = /^(\d{1,6})([smhdw])$/.exec(text);
  const seconds = Number(match?.[1]) * (UNITS[match?.[2] ?? ""] ?? 0);
  if (match === null || seconds === 0)
    throw new InvalidArgumentError('expected a duration such as "12h" or "90d"');
  return seconds;
}

/** Prints what is wrong with the operator's files, one line each, and ends with 1; other errors pass. */
async function reportingProblems(action: () => void | Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof ConfigurationError) for (const problem of error.problems) console.error(problem);
    else if (error instanceof TokenFileError) console.error(error.message);
    else throw error;
    process.exitCode = 1;
  }
}
