// Opens TCP connections and says anything but what the server waits for. Usage: tcp-heckler.ts <address> <port>
// <seconds>; prints `heckled <connections>` at the end.
import crypto from "node:crypto";
import net from "node:net";

const AT_ONCE = 20;
const HOLD_MS = 100;

const [address = "", port = "0", seconds = "1"] = process.argv.slice(2);
const end = performance.now() + Number(seconds) * 1000;
let connections = 0;

const UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
const WORDS: readonly (() => string | Buffer)[] = [
  () => crypto.randomBytes(2000),
  () => "GET / HTTP/1.1\r\n",
  () => `GET /${"a".repeat(30_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  () => `GET /client/v2/websocket HTTP/1.1\r\nHost: x\r\n${UPGRADE}Sec-WebSocket-Key: x\r\n\r\n`,
  () =>
    `GET /client/v2/websocket?token=%ff HTTP/1.1\r\nHost: x\r\n${UPGRADE}Sec-WebSocket-Key: ${crypto.randomBytes(16).toString("base64")}\r\nX-Authorization: Bearer x\r\n\r\n`,
  () => Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]),
  () => "",
];

async function heckle(): Promise<void> {
  while (performance.now() < end) {
    const socket = net.connect(Number(port), address);
    socket.on("error", () => {});
    socket.on("data", () => {});
    socket.write(WORDS[connections++ % WORDS.length]?.() ?? "");
    await new Promise((resolve) => setTimeout(resolve, HOLD_MS));
    socket.destroy();
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, heckle));
console.log(`heckled ${connections}`);
