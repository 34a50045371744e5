// A portal that lets everybody join and then talks nonsense. Usage: hostile-portal.ts <port>; prints `listens`, and
// `done <role>` when a peer was told everything and still answers a heartbeat's worth of time later.
import crypto from "node:crypto";
import { WebSocketServer } from "ws";

const EVENTS = [
  "init",
  "config_changed",
  "resource_created_or_updated",
  "resource_updated",
  "resource_deleted",
  "authorization_created",
  "flow_created",
  "authorization_creation_failed",
  "create_authorization",
  "authorize_flow",
  "reject_access",
  "access_authorization_expiry_updated",
  "ice_candidates",
  "invalidate_ice_candidates",
  "relays_presence",
  "disconnect",
];
const DEEP = 100_000;
const GAP_MS = 2;

const NONSENSE: readonly string[] = [
  "null",
  "[]",
  "{}",
  "0",
  "-1e400",
  '"text"',
  "[[[[]]]]",
  '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
  '{"interface":null,"resources":{},"relays":"many"}',
  '{"interface":{"ipv4":"999.1.1.1","ipv6":7},"resources":[],"relays":[]}',
  '{"interface":{"ipv4":"100.64.0.1/33","ipv6":"fd00:2021:1111::1"},"resources":[null,1,{}],"relays":[{"type":"turn"}],"authorizations":[{}]}',
  '{"id":"not-a-uuid","type":"dns","address":"*.example","name":1e999,"filters":[{"protocol":"tcp","port_range_start":-1,"port_range_end":1e30}]}',
  '{"resource_id":"","gateway_id":[],"client":{"peer":{"persistent_keepalive":1e308}},"ref":{}}',
  '{"client_id":"00000000-0000-0000-0000-000000000000","resource_id":"00000000-0000-0000-0000-000000000000"}',
  '{"gateway_id":"00000000-0000-0000-0000-000000000000","client_id":"00000000-0000-0000-0000-000000000000","candidates":["candidate:","x",null,1,"candidate:1 1 udp 1 300.1.1.1 99999 typ host"]}',
  '{"disconnected_ids":[],"connected":[{},null,{"type":"stun"}]}',
  '{"disconnected_ids":[1,"x"],"connected":[{"id":"x","type":"turn","addr":"[::1","username":{},"password":[],"expires_at":"soon"}]}',
  `{"candidates":${JSON.stringify(Array.from({ length: 5000 }, () => crypto.randomBytes(20).toString("hex")))}}`,
];

function frames(role: string): (string | Buffer)[] {
  const pushes = EVENTS.flatMap((event) =>
    NONSENSE.map((payload) => `{"topic":"${role}","event":"${event}","ref":null,"payload":${payload}}`),
  );
  return [
    "",
    "{",
    "nonsense",
    "\u0000",
    '{"topic":1,"event":2,"payload":3,"ref":4}',
    `{"topic":"${role}","event":"no_such_event","payload":{},"ref":null}`,
    `{"topic":"${"x".repeat(100_000)}","event":"init","payload":{},"ref":null}`,
    `{"topic":"${role}","event":"init","payload":${"[".repeat(DEEP)}${"]".repeat(DEEP)},"ref":null}`,
    `{"topic":"${role}","event":"init","payload":"${"x".repeat(1 << 20)}","ref":null}`,
    `{"topic":"${role}","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":987654321}`,
    `{"topic":"${role}","event":"phx_reply","payload":null,"ref":1e400}`,
    `{"topic":"phoenix","event":"phx_reply","payload":{"status":"error","response":7},"ref":"x"}`,
    crypto.randomBytes(4096),
    Buffer.from('{"topic":"client","event":"init","payload":{},"ref":null}'),
    ...pushes,
  ];
}

const server = new WebSocketServer({ port: Number(process.argv[2]), host: "::" });
server.on("connection", (socket, request) => {
  const role = /^\/(client|gateway|relay)\//.exec(request.url ?? "")?.[1] ?? "";
  socket.on("error", () => {});
  socket.on("message", (message) => {
    const { topic, event, ref } = JSON.parse(String(message)) as {
      topic: string;
      event: string;
      ref: unknown;
    };
    const payload = { status: "ok", response: {} };
    socket.send(JSON.stringify({ topic, event: "phx_reply", ref, payload }));
    if (event === "phx_join") void tell(role);
  });

  async function tell(to: string): Promise<void> {
    for (const frame of frames(to)) {
      if (socket.readyState !== socket.OPEN) return void console.log(`lost ${to}`);
      socket.send(frame, { binary: typeof frame !== "string" });
      await new Promise((resolve) => setTimeout(resolve, GAP_MS));
    }
    socket.once("pong", () => console.log(`done ${to}`));
    socket.ping();
  }
});
server.on("listening", () => console.log("listens"));
