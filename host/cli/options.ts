import os from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Severity } from "../core/note.ts";
import { deviceId } from "../daemon/device-id.ts";
import { CLIENT_SOCKET, GATEWAY_SOCKET } from "../daemon/local-client.ts";
import { createLogger, type Logger } from "../daemon/log.ts";
import { portalUrl, readToken, SetupError } from "../daemon/preflight.ts";
import type { TunnelDaemonOptions } from "../daemon/tunnel-options.ts";

/** Options of every daemon that connects to a portal, as commander hands them over. */
export interface PortalPeerFlags {
  readonly portal: string;
  readonly tokenFile?: string;
  readonly name: string;
  readonly logLevel: Severity;
  readonly logFormat: "human" | "json";
  readonly logDir?: string;
}

export interface TunnelFlags extends PortalPeerFlags {
  readonly id?: string;
  readonly stateDir: string;
  readonly tun: string;
  readonly udp: "native" | "portable";
  readonly port: number;
  readonly socket: string;
}

export function addPeerOptions(command: Command): Command {
  return addLogOptions(
    command
      .addOption(
        new Option("--portal <url>", "portal address, wss://HOST or ws://HOST:PORT")
          .env("CULVERT_PORTAL")
          .makeOptionMandatory(),
      )
      .option("--token-file <file>", "file with the token, readable by its owner only (or set CULVERT_TOKEN)")
      .addOption(
        new Option("--name <name>", "display name")
          .env("CULVERT_NAME")
          .default(os.hostname(), "the host's name"),
      ),
  );
}

export function addTunnelOptions(command: Command, role: "client" | "gateway"): Command {
  return addPeerOptions(command)
    .addOption(
      new Option("--id <id>", "stable device id; default: derived from this machine").env("CULVERT_ID"),
    )
    .option("--state-dir <dir>", "where a generated device id is kept", `/var/lib/culvert/${role}`)
    .option("--tun <name>", "name of the TUN device", parseInterfaceName, "tun-culvert")
    .addOption(
      new Option("--udp <backend>", "UDP sockets: batched through libc, or node:dgram")
        .choices(["native", "portable"])
        .default("native"),
    )
    .option("--port <port>", "preferred UDP port", parsePort, 52625)
    .addOption(
      new Option("--socket <path>", "where culvert status and culvert explain find this daemon")
        .env("CULVERT_SOCKET")
        .default(role === "client" ? CLIENT_SOCKET : GATEWAY_SOCKET),
    );
}

export function addLogOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--log-level <level>", "least severity that is logged")
        .choices(["trace", "debug", "info", "warn", "error"])
        .env("CULVERT_LOG")
        .default("info"),
    )
    .addOption(
      new Option("--log-format <format>", "what the terminal gets")
        .choices(["human", "json"])
        .default("human"),
    )
    .option("--log-dir <dir>", "also write JSON lines to files in this directory");
}

export function loggerOf(
  name: string,
  flags: Pick<PortalPeerFlags, "logLevel" | "logFormat" | "logDir">,
): Logger {
  try {
    return createLogger({ name, level: flags.logLevel, format: flags.logFormat, directory: flags.logDir });
  } catch (error) {
    throw new SetupError(`--log-dir: cannot write there: ${(error as Error).message}`);
  }
}

/** Checks and normalises. Throws SetupError before anything was changed. */
export function tunnelOptions(flags: TunnelFlags, role: "client" | "gateway"): TunnelDaemonOptions {
  return {
    portal: portalUrl(flags.portal),
    token: readToken(flags.tokenFile, role),
    externalId: flags.id ?? storedDeviceId(role, flags.stateDir),
    name: flags.name,
    tunName: flags.tun,
    udpBackend: flags.udp,
    udpPort: flags.port,
    socketPath: flags.socket,
  };
}

function storedDeviceId(role: "client" | "gateway", directory: string): string {
  try {
    return deviceId(role, directory);
  } catch (error) {
    throw new SetupError(
      `cannot keep a device id in ${directory}: ${(error as Error).message}; use --id or --state-dir`,
    );
  }
}

/** What the kernel takes as the name of an interface. */
function parseInterfaceName(text: string): string {
  if (!/^[A-Za-z0-9_.-]{1,15}$/.test(text) || /^\.+$/.test(text)) {
    throw new InvalidArgumentError("expected 1 to 15 letters, digits, hyphens, dots or underscores");
  }
  return text;
}

export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65535)
    throw new InvalidArgumentError("expected a port, 1 to 65535");
  return port;
}
