import fs from "node:fs";
import net from "node:net";
import type { Explanation, Question } from "../core/explanation.ts";
import { decodeAnswer, encodeLine, type LocalRequest, MAX_ANSWER_BYTES } from "./local-protocol.ts";
import { SetupError } from "./preflight.ts";
import type { DaemonStatus } from "./status.ts";

export const CLIENT_SOCKET = "/run/culvert/client.sock";
export const GATEWAY_SOCKET = "/run/culvert/gateway.sock";
const ANSWER_MS = 5000;

/** The socket of the only daemon on this host. Throws SetupError when there is none, or more than one. */
export function findSocket(): string {
  const [first, second] = [CLIENT_SOCKET, GATEWAY_SOCKET].filter((path) => fs.existsSync(path));
  if (first === undefined) {
    throw new SetupError(
      `no daemon is running here: neither ${CLIENT_SOCKET} nor ${GATEWAY_SOCKET} exists; name its socket with --socket`,
    );
  }
  if (second !== undefined) {
    throw new SetupError(
      `a client and a gateway run here; choose with --socket ${first} or --socket ${second}`,
    );
  }
  return first;
}

export async function askStatus(socketPath: string): Promise<DaemonStatus> {
  return (await ask(socketPath, { method: "status" })) as DaemonStatus;
}

export async function askExplain(socketPath: string, question: Question): Promise<Explanation> {
  return (await ask(socketPath, { method: "explain", question })) as Explanation;
}

/** Asks one thing. Throws SetupError with what to do about it when there is no answer. */
async function ask(socketPath: string, request: LocalRequest): Promise<unknown> {
  const answer = decodeAnswer(await exchange(socketPath, encodeLine(request)));
  if (answer === undefined) throw new SetupError(`${socketPath} answers, but not like a daemon of Culvert`);
  if (!answer.ok) throw new SetupError(`${answer.error.message} (${answer.error.code})`);
  return answer.result;
}

async function exchange(socketPath: string, line: string): Promise<Buffer> {
  const socket = net.connect(socketPath);
  socket.setTimeout(ANSWER_MS, () => socket.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
  socket.write(line);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      const end = chunk.indexOf(0x0a);
      chunks.push(end < 0 ? chunk : chunk.subarray(0, end));
      bytes += chunk.length;
      if (end >= 0 || bytes > MAX_ANSWER_BYTES) break;
    }
  } catch (error) {
    throw new SetupError(failureText(socketPath, error as NodeJS.ErrnoException));
  }
  return Buffer.concat(chunks);
}

function failureText(socketPath: string, { code, message }: NodeJS.ErrnoException): string {
  if (code === "ENOENT" || code === "ECONNREFUSED") {
    return `no daemon listens on ${socketPath}; is it running? (another place: --socket or CULVERT_SOCKET)`;
  }
  if (code === "EACCES") return `${socketPath} may be used by its owner only; run this as the daemon's user`;
  return `${socketPath}: ${message}`;
}
