// Entry of the lab's servers: a web server, an echo server and a DNS server, each on given addresses.
// Run on a lab host as `node service.js <configuration file>`; prints `ready` when all of them listen.
import dgram from "node:dgram";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import dnsPacket from "dns-packet";
import type { LabRecord, LabRecords } from "./records.ts";

export interface ServiceConfiguration {
  /** Addresses with a web server on port 80 and 8080, and an echo server on port 7000. */
  readonly web: readonly string[];
  /** Addresses with a DNS server on port 53, UDP and TCP. */
  readonly dns: readonly string[];
  /** JSON file of `LabRecords`; read for every query, so that tests can change records. */
  readonly records: string;
}

const BYTES_CHUNK = Buffer.alloc(65536);

async function main(file: string): Promise<void> {
  const configuration = JSON.parse(fs.readFileSync(file, "utf8")) as ServiceConfiguration;
  for (const address of configuration.web) {
    for (const port of [80, 8080]) await listen(http.createServer(serveWeb), port, address);
    await listen(net.createServer(serveEcho), 7000, address);
  }
  for (const address of configuration.dns) await serveDns(address, configuration.records);
  process.stdout.write("ready\n");
}

async function listen(server: net.Server, port: number, address: string): Promise<void> {
  server.listen(port, address);
  await once(server, "listening");
}

/** `/get` answers who asked, `/bytes?num=N` answers N zero bytes, anything else a small page. */
function serveWeb(request: http.IncomingMessage, response: http.ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://lab");
  if (url.pathname === "/bytes") {
    serveBytes(Number(url.searchParams.get("num") ?? 0), response);
  } else if (url.pathname === "/get") {
    const { remoteAddress, localAddress } = request.socket;
    response.setHeader("content-type", "application/json");
    response.end(
      `${JSON.stringify({ from: remoteAddress, to: localAddress, host: request.headers.host })}\n`,
    );
  } else {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>Private</title><p>This page is on a private network.</p>\n");
  }
}

function serveBytes(total: number, response: http.ServerResponse): void {
  response.setHeader("content-length", total);
  let left = total;
  const more = (): void => {
    while (left > 0) {
      const chunk = left < BYTES_CHUNK.length ? BYTES_CHUNK.subarray(0, left) : BYTES_CHUNK;
      left -= chunk.length;
      if (!response.write(chunk)) return void response.once("drain", more);
    }
    response.end();
  };
  more();
}

/**
 * Answers each chunk with the address it arrived at, so that a client sees which server it really reached;
 * closes the connection from this side on `quit`.
 */
function serveEcho(socket: net.Socket): void {
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    const text = chunk.toString();
    if (text.startsWith("quit")) socket.end();
    else socket.write(`${socket.localAddress} ${text}`);
  });
}

async function serveDns(address: string, recordsFile: string): Promise<void> {
  const socket = dgram.createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.on("message", (message, remote) => {
    const answer = answerQuery(message, recordsFile, "udp");
    if (answer !== undefined) socket.send(answer, remote.port, remote.address);
  });
  socket.bind(53, address);
  await once(socket, "listening");
  await listen(
    net.createServer((connection) => serveDnsStream(connection, recordsFile)),
    53,
    address,
  );
}

function serveDnsStream(socket: net.Socket, recordsFile: string): void {
  let bytes = Buffer.alloc(0);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    bytes = Buffer.concat([bytes, Buffer.from(chunk)]);
    while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE()) {
      const end = 2 + bytes.readUInt16BE();
      const answer = answerQuery(bytes.subarray(2, end), recordsFile, "tcp");
      bytes = bytes.subarray(end);
      if (answer === undefined) return void socket.destroy();
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([length, answer]));
    }
  });
}

const NXDOMAIN = 3;
/** What a client takes over UDP that does not say (RFC 1035 §4.2.1). */
const PLAIN_UDP_BYTES = 512;

function answerQuery(message: Buffer, recordsFile: string, transport: "udp" | "tcp"): Buffer | undefined {
  try {
    const query = dnsPacket.decode(message);
    const question = query.questions?.[0];
    if (question === undefined) return undefined;

    const all = JSON.parse(fs.readFileSync(recordsFile, "utf8")) as LabRecords;
    const records = all[question.name.toLowerCase()];
    const answers = (records ?? []).map(recordOf).filter(({ type }) => type === question.type);
    const response = {
      type: "response",
      id: query.id ?? 0,
      flags: dnsPacket.AUTHORITATIVE_ANSWER | (records === undefined ? NXDOMAIN : 0),
      questions: [question],
    } satisfies dnsPacket.Packet;
    const whole = dnsPacket.encode({
      ...response,
      answers: answers.map((answer) => ({ ...answer, name: question.name, ttl: 1 }) as dnsPacket.Answer),
    });
    const opt = (query.additionals ?? []).find((record) => record.type === "OPT");
    const limit = opt === undefined ? PLAIN_UDP_BYTES : Math.max(opt.udpPayloadSize, PLAIN_UDP_BYTES);
    if (transport === "tcp" || whole.length <= limit) return whole;
    return dnsPacket.encode({ ...response, flags: response.flags | dnsPacket.TRUNCATED_RESPONSE });
  } catch {
    return undefined;
  }
}

function recordOf(record: LabRecord): Exclude<LabRecord, string> | { type: "A" | "AAAA"; data: string } {
  if (typeof record !== "string") return record;
  return { type: record.includes(":") ? "AAAA" : "A", data: record };
}

await main(process.argv[2] ?? "");
