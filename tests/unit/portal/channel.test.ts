import assert from "node:assert/strict";
import { test } from "node:test";
import { type ChannelFatal, type ChannelOptions, PortalChannel } from "../../../host/portal/channel.ts";
import { parseRetryAfter } from "../../../host/portal/retry.ts";
import { decodeFrame, encodeFrame, type Frame } from "../../../host/portal/wire.ts";
import { seededRandom } from "./portal-bench.ts";

/** A scripted portal around one channel, in simulated time. */
class Script {
  readonly channel: PortalChannel;
  now = 1;
  sent: Frame[] = [];
  connects: number[] = [];
  closes: number[] = [];
  pushes: string[] = [];
  states: string[] = [];
  fatal: ChannelFatal | undefined;

  constructor(options: Partial<ChannelOptions> = {}, seed = 3) {
    this.channel = new PortalChannel(
      { role: "client", generation: 2, joinPayload: null, ...options },
      seededRandom(seed),
      this.now,
    );
    this.#drain();
  }

  open(): this {
    this.channel.handleOpened(this.now);
    return this.#drain();
  }

  joined(): this {
    this.open();
    return this.reply(this.lastOf("phx_join").ref as number);
  }

  reply(ref: number, topic = "client", payload: unknown = { status: "ok", response: {} }): this {
    return this.receive({ topic, event: "phx_reply", payload, ref });
  }

  push(event: string, payload: unknown = {}): this {
    return this.receive({ topic: "client", event, payload, ref: null });
  }

  receive(frame: Frame): this {
    this.channel.handleFrame(encodeFrame(frame), this.now);
    return this.#drain();
  }

  rejected(status: number, code?: string, retryAfterMs?: number): this {
    this.channel.handleRejected({ status, code, retryAfterMs }, this.now);
    return this.#drain();
  }

  closed(): this {
    this.channel.handleClosed(this.now);
    return this.#drain();
  }

  send(event: string, payload: unknown = {}): boolean {
    const accepted = this.channel.send({ event, payload }, this.now);
    this.#drain();
    return accepted;
  }

  advance(durationMs: number, answerHeartbeats = false): this {
    const end = this.now + durationMs;
    for (;;) {
      const deadline = this.channel.pollTimeout();
      if (deadline === undefined || deadline.at > end) break;
      this.now = Math.max(this.now, deadline.at);
      const before = this.sent.length;
      this.channel.handleTimeout(this.now);
      this.#drain();
      for (const frame of answerHeartbeats ? this.sent.slice(before) : []) {
        if (frame.event === "heartbeat") this.reply(frame.ref as number, "phoenix");
      }
    }
    this.now = end;
    return this;
  }

  /** Waits for the next attempt. */
  retried(): this {
    while (this.channel.state === "retrying") {
      this.advance((this.channel.pollTimeout()?.at ?? this.now) - this.now);
    }
    return this;
  }

  close(): this {
    this.channel.close();
    return this.#drain();
  }

  lastOf(event: string): Frame {
    const frame = this.sent.findLast((candidate) => candidate.event === event);
    assert.ok(frame !== undefined, `nothing sent was ${event}`);
    return frame;
  }

  events(): string[] {
    return this.sent.map(({ event }) => event);
  }

  #drain(): this {
    for (let command = this.channel.pollCommand(); command; command = this.channel.pollCommand()) {
      if (command.kind === "connect") this.connects.push(this.now);
      else if (command.kind === "close") this.closes.push(this.now);
      else this.sent.push(decodeFrame(command.text) as Frame);
    }
    for (let event = this.channel.pollEvent(); event; event = this.channel.pollEvent()) {
      if (event.kind === "push") this.pushes.push(event.event);
      if (event.kind === "state") this.states.push(event.state);
      if (event.kind === "fatal") this.fatal = event.error;
    }
    return this;
  }
}

test("joins first with an integer ref and null payload, then announces its capabilities", () => {
  const script = new Script().open();
  assert.deepEqual(script.sent, [{ topic: "client", event: "phx_join", payload: null, ref: 0 }]);

  script.reply(0);
  assert.deepEqual(script.states, ["connecting", "joining", "joined"]);
  assert.deepEqual(script.sent[1], {
    topic: "client",
    event: "set_snownet_capabilities",
    payload: { iceless: false },
    ref: 1,
  });
  script.push("init", { a: 1 });
  assert.deepEqual(script.pushes, ["init"]);
});

test("relays and first-generation sockets have no capabilities to announce", () => {
  for (const options of [{ generation: 1 }, { role: "relay" }] as const) {
    const script = new Script(options).open();
    const topic = script.lastOf("phx_join").topic;
    script.reply(0, topic);
    assert.equal(script.channel.state, "joined");
    assert.deepEqual(script.events(), ["phx_join"]);
  }
});

test("sends nothing but heartbeats before the join reply, and reconnects after 5 s without one (portal 25.10)", () => {
  const script = new Script().open();
  assert.equal(script.send("request_authorization", { resource_id: "r" }), true);
  script.advance(4_999);
  assert.deepEqual(script.events(), ["phx_join"]);
  assert.equal(script.closes.length, 0);

  script.advance(1);
  assert.deepEqual(script.closes, [script.now]);
  script.advance(2_000);
  assert.equal(script.connects.length, 2);

  script.joined();
  assert.equal(script.events().includes("request_authorization"), false);
});

test("messages that waited for the join follow it, each once (portal 25.10)", () => {
  const script = new Script().open();
  assert.equal(script.send("ice", { a: 1 }), true);
  assert.equal(script.send("ice", { a: 1 }), false);
  assert.equal(script.send("ice", { a: 2 }), true);
  script.reply(0);
  assert.deepEqual(
    script.sent.map(({ event, ref }) => [event, ref]),
    [
      ["phx_join", 0],
      ["set_snownet_capabilities", 1],
      ["ice", 2],
      ["ice", 3],
    ],
  );
});

test("heartbeats every 10 s under traffic too, and reconnects when the fourth is unanswered (portal 25.11)", () => {
  const script = new Script().joined();
  for (let second = 0; second < 60; second++) {
    script.send("chatter", { second });
    script.advance(1_000, true);
  }
  const beats = script.sent.filter(({ event }) => event === "heartbeat");
  assert.equal(beats.length, 6);
  assert.deepEqual(beats[0], {
    topic: "phoenix",
    event: "heartbeat",
    payload: {},
    ref: beats[0]?.ref ?? null,
  });
  assert.equal(script.closes.length, 0);

  const before = script.events().filter((event) => event === "heartbeat").length;
  script.advance(40_000);
  assert.equal(script.events().filter((event) => event === "heartbeat").length - before, 4);
  assert.equal(script.closes.length, 0);
  script.advance(10_000);
  assert.equal(script.closes.length, 1);
});

test("an answer to any heartbeat proves that the portal is there", () => {
  const script = new Script().joined().advance(30_000);
  const [, second] = script.sent.filter(({ event }) => event === "heartbeat");
  script.reply(second?.ref as number, "phoenix");
  script.advance(40_000);
  assert.equal(script.closes.length, 0);
});

test("stops for good on 401 with a token code and on disconnect token_expired (portal 25.12)", () => {
  for (const code of ["invalid_token", "missing_token"] as const) {
    const script = new Script().rejected(401, code);
    assert.deepEqual(script.fatal, { kind: "token-rejected", code });
    assert.equal(script.channel.pollTimeout(), undefined);
  }
  const script = new Script().joined().push("disconnect", { reason: "token_expired" });
  assert.deepEqual(script.fatal, { kind: "token-expired" });
  assert.equal(script.closes.length, 1);
  script.advance(600_000);
  assert.equal(script.connects.length, 1);
});

test("a disconnect for another reason is ignored until the close that follows", () => {
  const script = new Script()
    .joined()
    .push("disconnect", { reason: "certificate_revoked" })
    .push("disconnect", null);
  assert.equal(script.channel.state, "joined");
  script.closed();
  assert.equal(script.channel.state, "retrying");
  assert.equal(script.fatal, undefined);
});

test("an error reply to the join is fatal", () => {
  const script = new Script().open().reply(0, "client", { status: "error", response: { reason: "no" } });
  assert.deepEqual(script.fatal, { kind: "join-refused", reason: "no" });
});

test("retries a 401 without token code every 60 s (portal 25.12)", () => {
  const script = new Script().rejected(401, "proxy_says_no");
  script.advance(59_999);
  assert.equal(script.connects.length, 1);
  script.advance(1);
  assert.equal(script.connects.length, 2);
  assert.equal(script.fatal, undefined);
});

test("retries 403, 409, 429 and 5xx with growing full jitter, never within a second (portal 25.12)", () => {
  for (const status of [403, 409, 429, 500, 502]) {
    const script = new Script({}, status);
    const gaps: number[] = [];
    for (let attempt = 0; attempt < 40; attempt++) {
      const from = script.now;
      script.rejected(status);
      script.retried();
      gaps.push(script.now - from);
    }
    assert.ok(
      gaps.every((gap) => gap >= 1_000 && gap <= 60_000),
      `${status}: ${gaps.join()}`,
    );
    assert.ok(
      gaps.slice(-20).some((gap) => gap > 10_000),
      `${status}: does not grow: ${gaps.join()}`,
    );
    assert.ok(new Set(gaps.slice(-20)).size > 10, `${status}: no jitter`);
  }
});

test("obeys Retry-After as seconds and as date (portal 25.12)", () => {
  const unixMs = Date.parse("2026-11-22T18:00:00Z");
  assert.equal(parseRetryAfter("7", unixMs), 7_000);
  assert.equal(parseRetryAfter("Sun, 22 Nov 2026 18:00:30 GMT", unixMs), 30_000);
  assert.equal(parseRetryAfter("Sun, 22 Nov 2026 17:00:00 GMT", unixMs), 0);
  assert.equal(parseRetryAfter("soon", unixMs), undefined);

  const script = new Script().rejected(503, "rate_limit", 7_000);
  script.advance(6_999);
  assert.equal(script.connects.length, 1);
  script.advance(1);
  assert.equal(script.connects.length, 2);
});

test("a join resets the backoff, a fresh connection restarts the refs", () => {
  const script = new Script();
  for (let attempt = 0; attempt < 20; attempt++) script.closed().retried();
  script.joined();
  script.advance(5_000).closed();
  assert.ok((script.channel.pollTimeout()?.at ?? Infinity) - script.now <= 500);
  script.retried().open();
  assert.equal(script.lastOf("phx_join").ref, 0);
});

test("gives up connecting after 15 s", () => {
  const script = new Script().advance(15_000);
  assert.deepEqual(script.closes, [15_001]);
  assert.equal(script.channel.state, "retrying");
});

test("phx_close ends the connection, phx_error does not", () => {
  const script = new Script().joined().push("phx_error");
  assert.equal(script.channel.state, "joined");
  script.push("phx_close");
  assert.equal(script.channel.state, "retrying");
  assert.equal(script.closes.length, 1);
});

test("joins again on the same connection when the portal forgot the join, but not in a busy loop", () => {
  const script = new Script().joined().advance(6_000);
  const unmatched = { status: "error", response: { reason: "unmatched topic" } };
  script.send("x");
  script.reply(script.lastOf("x").ref as number, "client", unmatched);
  assert.equal(script.channel.state, "joining");
  assert.equal(script.closes.length, 0);
  script.reply(script.lastOf("phx_join").ref as number);
  assert.equal(script.channel.state, "joined");

  script.reply(script.lastOf("set_snownet_capabilities").ref as number, "client", unmatched);
  assert.equal(script.channel.state, "retrying");
});

test("an error reply to anything else changes nothing", () => {
  const script = new Script().joined();
  script.send("x");
  script.reply(script.lastOf("x").ref as number, "client", {
    status: "error",
    response: { reason: "unknown_message" },
  });
  assert.equal(script.channel.state, "joined");
  assert.equal(script.fatal, undefined);
});

test("no_relays leaves at most once in 5 s", () => {
  const script = new Script().joined();
  assert.equal(script.send("no_relays"), true);
  script.advance(4_999);
  assert.equal(script.send("no_relays"), false);
  script.advance(1);
  assert.equal(script.send("no_relays"), true);
  assert.equal(script.events().filter((event) => event === "no_relays").length, 2);
});

test("reconnects at once on demand, with a fresh backoff", () => {
  const script = new Script().joined().advance(20_000, true);
  script.channel.reconnect(script.now);
  script.advance(0);
  assert.equal(script.closes.length, 1);
  assert.equal(script.connects.at(-1), script.now);

  script.channel.reconnect(script.now);
  script.advance(1_100);
  assert.equal(script.connects.length, 3);
});

test("messages are dropped while there is no connection", () => {
  const script = new Script();
  assert.equal(script.send("x"), false);
  script.joined().closed();
  assert.equal(script.send("x"), false);
});

test("gives up when the partition lasts longer than allowed, and counts from the last connection", () => {
  const script = new Script({ maxPartitionMs: 60_000 }).joined().advance(300_000, true);
  assert.equal(script.fatal, undefined);
  script.closed().advance(59_999);
  assert.equal(script.fatal, undefined);
  script.advance(1);
  assert.deepEqual(script.fatal, { kind: "partitioned" });
});

test("frames that are no frames, and frames of other topics, are skipped", () => {
  const script = new Script().joined();
  for (const text of ["", "{", "[1]", '{"topic":"client"}']) script.channel.handleFrame(text, script.now);
  script.receive({ topic: "gateway", event: "init", payload: {}, ref: null });
  assert.deepEqual(script.pushes, []);
  assert.equal(script.channel.state, "joined");
});

test("close ends quietly", () => {
  const script = new Script().joined();
  script.close().advance(600_000);
  assert.equal(script.closes.length, 1);
  assert.equal(script.connects.length, 1);
  assert.equal(script.fatal, undefined);
});
