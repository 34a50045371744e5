// A TCP connection held open on a lab host. Usage: echo-client.ts <address> <port> [local port]; prints
// `connected`, then what comes back; sends each line of its standard input; prints `closed` at the end.
import net from "node:net";
import readline from "node:readline";

const [address = "", port = "0", localPort] = process.argv.slice(2);
const socket = net.connect({
  host: address,
  port: Number(port),
  ...(localPort === undefined ? {} : { localPort: Number(localPort) }),
});
socket.on("connect", () => console.log("connected"));
socket.on("data", (chunk) => process.stdout.write(chunk));
socket.on("error", (error) => console.log(`error ${(error as NodeJS.ErrnoException).code ?? error.message}`));
socket.on("close", () => {
  console.log("closed");
  process.exit(0);
});
readline.createInterface({ input: process.stdin }).on("line", (line) => socket.write(`${line}\n`));
