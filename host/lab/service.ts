// Entry of the lab's servers: a web server, an echo server and a DNS server, each on given addresses.
// Run on a lab host as `node service.js <configuration file>`; prints `ready` when all of them listen.
import dgram from "node:dgram";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import dnsPacket from "dns-packet";

export interface ServiceConfiguration {
  /** Addresses with a web server on port 80 and 8080, and an echo server on port 7000. */
  readonly web: readonly string[];
  /** Addresses with a DNS server on port 53, UDP. */
  readonly dns: readonly string[];
  /** JSON file of `{name: [addresses]}`; read for every query, so that tests can change records. */
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
    const answer = answerQuery(message, recordsFile);
    if (answer !== undefined) socket.send(answer, remote.port, remote.address);
  });
  socket.bind(53, address);
  await once(socket, "listening");
}

function answerQuery(message: Buffer, recordsFile: string): Buffer | undefined {
  try {
    const query = dnsPacket.decode(message);
    const question = query.questions?.[0];
    if (question === undefined) return undefined;

    const records = JSON.parse(fs.readFileSync(recordsFile, "utf8")) as Record<string, string[]>;
    const addresses = records[question.name.toLowerCase()];
    const answers = (addresses ?? [])
      .filter((a) => question.type === (a.includes(":") ? "AAAA" : "A"))
      .map((a) => ({ type: question.type as "A" | "AAAA", name: question.name, ttl: 1, data: a }));
    const NXDOMAIN = 3;
    return dnsPacket.encode({
      type: "response",
      id: query.id ?? 0,
      flags: dnsPacket.AUTHORITATIVE_ANSWER | (addresses === undefined ? NXDOMAIN : 0),
      questions: [question],
      answers,
    });
  } catch {
    return undefined;
  }
}

await main(process.argv[2] ?? "");
