// Carries out transitions on the real machines and demands what the reference promises.
import { type IpAddress, ip, isIpv4 } from "../../host/core/address.ts";
import { SeededRandom } from "../sim/random.ts";
import { checkEmpty } from "./emptiness.ts";
import { hostileClient, hostileDatagram, hostileGateway } from "./hostile.ts";
import { Lookups } from "./lookups.ts";
import {
  configurationOf,
  initialView,
  judge,
  type Protocol,
  type Question,
  type SlotState,
  type View,
} from "./policy.ts";
import { type AnswerMode, fail, type Probe, Referee, withSignedIn } from "./referee.ts";
import type { Kind, Transition, TransitionOf } from "./transitions.ts";
import {
  DESTINATIONS,
  DNS_SERVERS,
  EXIT_SITE,
  INTERNET_SLOT,
  NAMES,
  OTHER_NAMES,
  PORTS,
  RECORDS,
  SLOTS,
} from "./universe.ts";
import type { ClientHost } from "./world.ts";

/** Longest time from peace to a packet that arrives: a dead path is noticed, and everything set up anew. */
const RECOVERY_MS = 75_000;
/** A gateway sticks to a path that it believes in for 45 checks, at most 15 s apart (connectivity §8.5). */
const STUBBORN_RECOVERY_MS = 720_000;
const ATTEMPT_MS = 2_400;
const STEP_MS = 100;
/** A connection that carried something so recently is awake. */
const AWAKE_MS = 20_000;
const ANSWERS: readonly AnswerMode[] = ["reply", "silent", "error"];

interface OpenFlow {
  readonly question: Question;
  readonly port: number;
}

export class Runner {
  readonly referee: Referee;
  readonly #flows: OpenFlow[] = [];
  /** When a packet of that kind last made it, with nothing disturbed since. */
  readonly #proven = new Map<string, number>();
  #nextPort = 40_000;
  #recoveryMs = RECOVERY_MS;
  #provenSince = 0;
  readonly #lookups: Lookups;

  constructor(seed: number) {
    this.referee = new Referee(seed, initialView(new SeededRandom(seed ^ 0xf117e5)));
    this.#lookups = new Lookups(this.referee, {
      run: (durationMs) => this.#run(durationMs),
      until: (condition, limitMs) => this.#until(condition, limitMs),
    });
    for (const [i, name] of NAMES.entries()) {
      this.referee.zone.set(
        name,
        RECORDS.filter((_, r) => (0b010001 >> ((r + i) % 6)) & 1),
      );
    }
    this.#run(3_500);
  }

  apply(transition: Transition): void {
    const handle = this.#handlers[transition.kind] as (t: Transition) => void;
    const clients = this.referee.world.clients.length;
    handle("client" in transition ? { ...transition, client: transition.client % clients } : transition);
    this.#run(50);
  }

  /** Everything heals, then everything is taken away: nothing may be left, and nobody stays awake. */
  finish(): void {
    const { referee } = this;
    this.#run(45_000);
    for (const [client, host] of referee.world.clients.entries()) {
      if (host.machine === undefined) this.#restart(client, false);
    }
    this.#until(() => referee.isInSync(), 60_000) || fail("peers and portal do not find together");
    const slots = referee.view.slots.map((slot) => ({ ...slot, granted: slot.granted.map(() => false) }));
    this.#configure({ ...referee.view, slots });
    this.#run(130_000);
    for (const host of referee.world.clients) checkEmpty("client", host);
    for (const host of referee.world.gateways) {
      checkEmpty("gateway", host);
      if (host.machine !== undefined && host.machine.core.natCount() > 0)
        fail("NAT entries outlive their client");
    }
  }

  // ── Packets ───────────────────────────────────────────────────────────────────────────────────

  #toAddress(protocol: Protocol, t: Omit<TransitionOf<"udp-to-address">, "kind">): void {
    const destination = DESTINATIONS[t.destination] ?? ip("10.1.0.5");
    const question = { client: t.client, destination, name: undefined, protocol, port: PORTS[t.port] ?? 80 };
    this.#probe(question, { size: t.size, answer: ANSWERS[t.answer] ?? "reply", patient: t.patient === 1 });
  }

  #toName(protocol: Protocol, t: Omit<TransitionOf<"udp-to-name">, "kind">): void {
    const name = NAMES[t.name] ?? NAMES[0];
    const type = t.ipv6 === 1 ? "AAAA" : "A";
    const like = t.ipv6 === 1 ? ip("::") : ip("0.0.0.0");
    const known = this.referee.dns.proxiesOf(t.client, name, like);
    if (t.query > 0 || known.length === 0 || !this.#lookups.isClaimedAsNow(t.client, name)) {
      this.#lookups.query(t.client, name, type);
    }
    const destination = this.referee.dns.proxiesOf(t.client, name, like)[t.proxy];
    if (destination === undefined) return;
    const question = { client: t.client, destination, name, protocol, port: PORTS[t.port] ?? 80 };
    this.#probe(question, { size: t.size, answer: ANSWERS[t.answer] ?? "reply", patient: t.patient === 1 });
  }

  #continueFlow({ flow: number, size }: TransitionOf<"continue-flow">): void {
    const flow = this.#flow(number);
    if (flow === undefined) return;
    if (
      flow.question.name !== undefined &&
      !this.#lookups.isClaimedAsNow(flow.question.client, flow.question.name)
    ) {
      this.#lookups.query(
        flow.question.client,
        flow.question.name,
        isIpv4(flow.question.destination) ? "A" : "AAAA",
      );
    }
    if (!this.#isStillProxy(flow.question)) return;
    this.#probe(flow.question, { size, answer: "reply", patient: true, port: flow.port, tcp: "data" });
  }

  /** Another proxy IP of the same name, from the port of an open flow: replies must not be confused. */
  #samePort({ flow: number, proxy }: TransitionOf<"same-port-to-name">): void {
    const flow = this.#flow(number);
    const name = flow?.question.name;
    if (flow === undefined || name === undefined) return;
    const { client, destination } = flow.question;
    this.#lookups.query(client, name, isIpv4(destination) ? "A" : "AAAA");
    const other = this.referee.dns.proxiesOf(client, name, destination)[proxy];
    if (other === undefined) return;
    this.#probe(
      { ...flow.question, destination: other },
      { size: 9, answer: "reply", patient: true, port: flow.port },
    );
  }

  #closeFlow({ flow: number, reset }: TransitionOf<"close-flow">): void {
    const flow = this.#flow(number);
    if (flow === undefined || flow.question.protocol !== "tcp" || !this.#isStillProxy(flow.question)) return;
    this.#flows.splice(this.#flows.indexOf(flow), 1);
    const tcp = reset === 1 ? "reset" : "fin";
    const shape = { protocol: "tcp", sourcePort: flow.port, size: 0, tcp } as const;
    this.referee.send(flow.question, shape, { answer: "reply" });
    this.#run(6_000);
  }

  #probe(
    question: Question,
    options: {
      readonly size: number;
      readonly answer: AnswerMode;
      readonly patient: boolean;
      readonly port?: number;
      readonly tcp?: "data";
    },
  ): void {
    const { referee } = this;
    const port = options.port ?? this.#nextPort++;
    const shape = { protocol: question.protocol, sourcePort: port, size: options.size, tcp: options.tcp };
    const key = JSON.stringify(question);
    const startedAt = referee.now;
    for (;;) {
      const wasInSync = referee.isInSync();
      const probe = referee.send(question, shape, { answer: options.answer });
      if (probe === undefined) return;
      const verdict = judge(referee.view, question).kind;
      const isDone = this.#until(() => this.#isSettled(probe), verdict === "silence" ? 1_000 : ATTEMPT_MS);
      if (wasInSync && referee.isInSync()) this.#demandRefusals(probe, verdict);
      if (isDone && this.#isGoal(probe)) {
        this.#note(key, question, port);
        return;
      }
      const mayWait = verdict === "delivered" || verdict === "unreachable";
      if (!mayWait || (!referee.isInSync() && !options.patient)) return;
      this.#demandProgress(key, probe, startedAt);
    }
  }

  /** What the client decides alone must be right at once. */
  #demandRefusals(probe: Probe, verdict: ReturnType<typeof judge>["kind"]): void {
    const [refusal] = probe.refusals;
    if (verdict === "prohibited" && refusal !== "prohibited") fail(`no refusal of ${describe(probe)}`);
    if (verdict === "silence" && refusal !== undefined)
      fail(`${refusal} instead of silence for ${describe(probe)}`);
  }

  #demandProgress(key: string, probe: Probe, startedAt: number): void {
    const { referee } = this;
    const { loss } = referee.world.conditions;
    const provenAt = this.#provenAt(key);
    // The name may have had no address when the gateway said so, and has one now.
    const wasUnresolved = probe.question.name !== undefined && probe.refusals[0] === "unreachable";
    if (provenAt !== undefined && loss === 0 && !wasUnresolved && this.referee.now - provenAt < AWAKE_MS) {
      fail(`a path that worked ${referee.now - provenAt} ms ago lost ${describe(probe)}`);
    }
    const waited = Math.min(referee.calmMs(), referee.now - startedAt);
    if (waited > this.#recoveryMs) fail(`no way for ${describe(probe)} after ${waited} ms of peace`);
  }

  #isSettled(probe: Probe): boolean {
    return this.#isGoal(probe) || probe.refusals.length > 0;
  }

  /** Whether the probe ended as it may end if all is well. */
  #isGoal({ answer, arrivals, replies, refusals, question, shape }: Probe): boolean {
    const verdict = judge(this.referee.view, question).kind;
    if (verdict === "unreachable") return refusals[0] === "unreachable";
    if (verdict !== "delivered") return refusals.length > 0;
    if (question.name !== undefined && this.#mayBeUnreachable(question) && refusals[0] === "unreachable")
      return true;
    if (arrivals === 0) return false;
    if (shape.tcp === "reset" || answer === "silent") return true;
    return answer === "error" ? refusals[0] === "site" : replies === 1;
  }

  #mayBeUnreachable({ client, name, destination }: Question): boolean {
    const { referee } = this;
    const proxies = referee.dns.proxiesOf(client, name ?? "", destination);
    return referee.world.gateways.some((_, gateway) =>
      referee.nat.realsOf(referee.processOf(gateway), name ?? "", proxies, destination).includes("none"),
    );
  }

  #note(key: string, question: Question, port: number): void {
    this.#provenAt(key);
    this.#proven.set(key, this.referee.now);
    const isNew = !this.#flows.some(
      (flow) => flow.port === port && flow.question.destination === question.destination,
    );
    if (question.protocol !== "other" && isNew) this.#flows.push({ question, port });
    if (this.#flows.length > 8) this.#flows.shift();
  }

  #provenAt(key: string): number | undefined {
    const calmSince = this.referee.now - this.referee.calmMs();
    if (calmSince > this.#provenSince) {
      this.#proven.clear();
      this.#provenSince = calmSince;
    }
    return this.#proven.get(key);
  }

  #flow(number: number): OpenFlow | undefined {
    return this.#flows[number % Math.max(1, this.#flows.length)];
  }

  #isStillProxy({ client, name, destination }: Question): boolean {
    if (name === undefined) return true;
    return this.referee.dns.proxiesOf(client, name, destination).includes(destination);
  }

  // ── Changes ───────────────────────────────────────────────────────────────────────────────────

  #configure(view: View, ...between: readonly View[]): void {
    this.referee.change(view, ...between);
    this.referee.world.portal.configure(configurationOf(view));
    this.referee.world.network.settle();
  }

  #changeSlot(slot: number, change: Partial<SlotState>): void {
    const { view } = this.referee;
    const old = view.slots[slot];
    if (old === undefined) return;
    const fresh = { ...old, ...change };
    const changed = this.#withoutInternet({ ...view, slots: view.slots.with(slot, fresh) });
    this.#configure(changed, { ...view, slots: view.slots.with(slot, { ...old, isPresent: false }) });
  }

  /** A client that loses the internet resource forgets that its user wanted it. */
  #withoutInternet(view: View): View {
    const { isPresent, granted } = view.slots[INTERNET_SLOT] ?? { isPresent: false, granted: [] };
    const wantsInternet = view.wantsInternet.map((wants, client) => {
      const keeps = wants && isPresent && granted[client] === true;
      if (wants && !keeps)
        this.#client(client)?.machine?.command({ kind: "internet-resource", active: false });
      return keeps;
    });
    return { ...view, wantsInternet };
  }

  #setGrant({ slot, client }: { slot: number; client: number }, isGranted: boolean): void {
    const granted = this.referee.view.slots[slot]?.granted.with(client, isGranted);
    if (granted !== undefined) this.#changeSlot(slot, { granted });
  }

  #toggleInternet({ client }: TransitionOf<"toggle-internet">): void {
    const { referee } = this;
    const machine = this.#client(client)?.machine;
    if (machine === undefined) return;
    const active = referee.view.wantsInternet[client] !== true;
    referee.change({ ...referee.view, wantsInternet: referee.view.wantsInternet.with(client, active) });
    machine.command({ kind: "internet-resource", active });
  }

  /** With a flow open before and another one after: the first keeps its target, the second has the new one. */
  #changeRecords(t: TransitionOf<"change-records">): void {
    const { client, query } = t;
    const name = NAMES[t.name] ?? NAMES[0];
    const change = () =>
      this.referee.zone.set(
        name,
        RECORDS.filter((_, i) => (t.records >> i) & 1),
      );
    if (query === 0) {
      change();
      return;
    }
    const type = t.ipv6 === 1 ? "AAAA" : "A";
    this.#lookups.query(client, name, type);
    const destination = this.referee.dns.proxiesOf(client, name, ip(t.ipv6 === 1 ? "::" : "0.0.0.0"))[
      t.proxy
    ];
    const protocol = (["udp", "tcp", "echo"] as const)[t.protocol] ?? "udp";
    if (destination === undefined) {
      change();
      return;
    }
    const question = { client, destination, name, protocol, port: PORTS[t.port] ?? 80 };
    const options = { size: 30, answer: "reply", patient: false } as const;
    const port = this.#nextPort;
    this.#probe(question, options);
    change();
    this.#lookups.query(client, name, type);
    this.#run(1_000);
    this.#probe(question, options);
    this.#probe(question, { ...options, port, tcp: "data" });
  }

  #systemResolvers({ client, servers }: TransitionOf<"system-resolvers">): void {
    const list = DNS_SERVERS.filter((_, i) => (servers >> i) & 1);
    this.#client(client)?.machine?.command({ kind: "system-resolvers", servers: list });
    this.referee.disturb();
  }

  // ── Accidents ─────────────────────────────────────────────────────────────────────────────────

  #restart(client: number, farewell: boolean, lifetimeS?: number): void {
    const { referee } = this;
    if (this.#client(client) === undefined) return;
    referee.world.stopClient(client, farewell);
    referee.dns.forget(client);
    for (const flow of this.#flows.splice(0)) if (flow.question.client !== client) this.#flows.push(flow);
    this.#lookups.forget(client);
    referee.expiries.delete(client);
    referee.change(
      withSignedIn(withSignedIn(referee.view, client, false), client, true),
      withSignedIn(referee.view, client, false),
    );
    referee.world.startClient(client, lifetimeS);
    if (lifetimeS !== undefined) referee.expiries.set(client, referee.now + lifetimeS * 1000);
    referee.world.network.settle();
  }

  #expire({ client, seconds, cut, destination, farewell }: TransitionOf<"expire">): void {
    const { referee } = this;
    const { world } = referee;
    if (this.#client(client) === undefined) return;
    const lifetimeS = 15 + seconds;
    this.#restart(client, farewell === 1, lifetimeS);
    this.#run(3_500);
    const target = DESTINATIONS[destination] ?? ip("10.1.0.5");
    const question = this.#allowed(client, target);
    if (question !== undefined) this.#probe(question, { size: 8, answer: "reply", patient: false });
    const at = referee.expiries.get(client) ?? referee.now;
    const links = [
      ...(cut % 2 === 1 ? world.gateways.map(({ link }) => link) : []),
      ...(cut >= 2 ? [world.clients[client]?.link] : []),
    ];
    referee.disturb();
    for (const link of links) link?.cut();
    this.#run(Math.max(0, at - referee.now) + referee.clockSpreadMs + 4_000);
    // Still the same packet, from a client that may not have heard.
    if (question !== undefined) {
      referee.send(question, {
        protocol: question.protocol,
        sourcePort: this.#nextPort++,
        size: 8,
        tcp: undefined,
      });
    }
    this.#run(1_000);
    referee.disturb();
    for (const link of links) link?.mend();
    this.#restart(client, false);
    this.#run(1_000);
  }

  /** Something that the client may ask of this destination now. */
  #allowed(client: number, destination: IpAddress): Question | undefined {
    const questions = (["udp", "tcp", "echo"] as const).flatMap((protocol) =>
      PORTS.map((port) => ({ client, destination, name: undefined, protocol, port })),
    );
    return questions.find((question) => judge(this.referee.view, question).kind === "delivered");
  }

  #cut(
    what: "isCut" | "isSilent",
    endpoint: { isCut?: boolean; isSilent?: boolean } | undefined,
    seconds: number,
  ): void {
    if (endpoint === undefined) return;
    endpoint[what] = true;
    this.#later(seconds, () => {
      endpoint[what] = false;
    });
  }

  #cutLink(link: ClientHost["link"] | undefined, seconds: number): void {
    if (link === undefined) return;
    link.cut();
    this.#later(seconds, () => link.mend());
  }

  #later(seconds: number, heal: () => void): void {
    this.referee.disturb();
    this.referee.world.network.later((seconds + 1) * 1000, () => {
      heal();
      this.referee.disturb();
    });
  }

  #client(client: number): ClientHost | undefined {
    return this.referee.world.clients[client];
  }

  #run(durationMs: number): void {
    this.referee.world.run(durationMs);
  }

  #until(condition: () => boolean, limitMs: number): boolean {
    const end = this.referee.now + limitMs;
    while (!condition()) {
      if (this.referee.now >= end) return false;
      this.#run(Math.min(STEP_MS, end - this.referee.now));
    }
    return true;
  }

  readonly #handlers: { readonly [K in Kind]: (transition: TransitionOf<K>) => void } = {
    "udp-to-address": (t) => this.#toAddress("udp", t),
    "tcp-to-address": (t) => this.#toAddress("tcp", t),
    "echo-to-address": (t) => this.#toAddress("echo", t),
    "other-to-address": (t) => this.#toAddress("other", t),
    "udp-to-name": (t) => this.#toName("udp", t),
    "tcp-to-name": (t) => this.#toName("tcp", t),
    "echo-to-name": (t) => this.#toName("echo", t),
    "other-to-name": (t) => this.#toName("other", t),
    "same-port-to-name": (t) => this.#samePort(t),
    "continue-flow": (t) => this.#continueFlow(t),
    "close-flow": (t) => this.#closeFlow(t),
    "spoof-source": ({ client, destination: number, port }) => {
      const destination = DESTINATIONS[number] ?? ip("10.1.0.5");
      const source = isIpv4(destination) ? ip("10.9.9.9") : ip("fd99::9");
      const question = {
        client,
        destination,
        name: undefined,
        protocol: "udp",
        port: PORTS[port] ?? 80,
      } as const;
      const probe = this.referee.send(
        question,
        { protocol: "udp", sourcePort: 1, size: 3, tcp: undefined },
        { source },
      );
      this.#run(500);
      if (probe !== undefined && probe.arrivals > 0) fail("a forged source left a gateway");
    },
    "site-sends-first": ({ client, gateway, destination: number, port, protocol }) => {
      const destination = DESTINATIONS[number] ?? ip("10.1.0.5");
      const kinds: readonly Protocol[] = ["udp", "tcp", "echo"];
      const question = {
        client,
        destination,
        name: undefined,
        protocol: kinds[protocol] ?? "udp",
        port: PORTS[port] ?? 80,
      };
      this.referee.sendFromSite(gateway, question, 20);
      this.#run(500);
    },
    "query-address": ({ client, name, ipv6 }) => {
      this.#lookups.query(client, NAMES[name] ?? NAMES[0], ipv6 === 1 ? "AAAA" : "A");
    },
    "query-other-type": (t) => this.#lookups.queryOtherType(t),
    "query-in-site": ({ client, name, type }) => {
      this.#lookups.askElsewhere(client, NAMES[name] ?? NAMES[0], type === 1 ? "TXT" : "SRV");
    },
    "query-reverse": (t) => this.#lookups.queryReverse(t),
    "query-other-name": ({ client, name, ipv6 }) => {
      this.#lookups.askElsewhere(client, OTHER_NAMES[name] ?? OTHER_NAMES[0], ipv6 === 1 ? "AAAA" : "A");
    },
    "query-canary": ({ client }) => this.#lookups.ask(client, "use-application-dns.net", "A", "NXDOMAIN", []),
    "change-records": (t) => this.#changeRecords(t),
    "add-resource": ({ slot }) => this.#changeSlot(slot, { isPresent: true }),
    "remove-resource": ({ slot }) => this.#changeSlot(slot, { isPresent: false }),
    "change-address": ({ slot, address }) => {
      this.#changeSlot(slot, { address: address % (SLOTS[slot]?.addresses.length ?? 1) });
    },
    "change-filters": ({ slot, filters }) => {
      if (slot !== INTERNET_SLOT) this.#changeSlot(slot, { filters });
    },
    "change-site": ({ slot }) => {
      const site = this.referee.view.slots[slot]?.site;
      if (site !== undefined && site !== EXIT_SITE) this.#changeSlot(slot, { site: 1 - site });
    },
    "change-stack": ({ slot, stack }) => {
      if (SLOTS[slot]?.kind === "dns") this.#changeSlot(slot, { stack });
    },
    grant: (t) => this.#setGrant(t, true),
    revoke: (t) => this.#setGrant(t, false),
    expire: (t) => this.#expire(t),
    "toggle-internet": (t) => this.#toggleInternet(t),
    "portal-servers": ({ servers }) => {
      const dnsServers = [...DNS_SERVERS.keys()].filter((i) => (servers >> i) & 1);
      this.#configure({ ...this.referee.view, dnsServers });
    },
    "system-resolvers": (t) => this.#systemResolvers(t),
    "upstream-mode": ({ mode }) => {
      this.referee.dns.upstreamMode = (["answer", "timeout", "failed"] as const)[mode] ?? "answer";
    },
    roam: ({ client }) => {
      if (this.#client(client)?.machine === undefined) return;
      this.referee.world.roam(client);
      this.referee.disturb();
    },
    "restart-client": ({ client, farewell }) => this.#restart(client, farewell === 1),
    "restart-gateway": ({ gateway }) => {
      this.referee.world.startGateway(gateway);
      this.referee.disturb();
    },
    "restart-portal": () => {
      this.referee.world.portal.restart();
      this.referee.change(this.referee.view);
    },
    "restart-relay": ({ relay }) => {
      this.referee.world.relays[relay]?.link.restart();
      this.referee.disturb();
    },
    "cut-portal-from-client": ({ client, seconds }) => this.#cutLink(this.#client(client)?.link, seconds),
    "cut-portal-from-gateway": ({ gateway, seconds }) => {
      this.#cutLink(this.referee.world.gateways[gateway]?.link, seconds);
    },
    "cut-client": ({ client, seconds }) => this.#cut("isCut", this.#client(client)?.endpoint, seconds),
    "cut-gateway": ({ gateway, seconds }) => {
      this.#cut("isCut", this.referee.world.gateways[gateway]?.endpoint, seconds);
    },
    "cut-relay": ({ relay, seconds }) => {
      this.#cutLink(this.referee.world.relays[relay]?.link, seconds);
      this.#cut("isSilent", this.referee.world.relays[relay]?.endpoint, seconds);
    },
    "forget-nat": ({ client }) => {
      this.#client(client)?.place.nat?.forget();
      this.referee.disturb();
      if (this.referee.world.conditions.clientNat !== "none") this.#recoveryMs = STUBBORN_RECOVERY_MS;
    },
    "step-clock": ({ steps }) => {
      const byMs = (steps - 4) * 1000;
      this.referee.clockSpreadMs += Math.abs(byMs);
      this.referee.world.stepClock(byMs);
    },
    wait: ({ seconds }) => this.#run(seconds * 1000),
    idle: ({ minutes }) => this.#run((minutes + 1) * 60_000),
    "hostile-datagram": (t) => {
      hostileDatagram(this.referee, t);
      this.#run(200);
    },
    "hostile-client": (t) => {
      // Its gateways know it: what they refuse now they refuse because of the packet.
      const allowed = this.#allowed(t.client, DESTINATIONS[t.destination] ?? ip("10.1.0.5"));
      if (allowed !== undefined) this.#probe(allowed, { size: 8, answer: "silent", patient: false });
      hostileClient(this.referee, t);
      this.#run(500);
    },
    "hostile-gateway": (t) => {
      hostileGateway(this.referee, t);
      this.#run(500);
    },
  };
}

export function describe({ question, shape }: Probe): string {
  return `${question.protocol} to ${question.name ?? ""} ${question.destination}:${question.port} from :${shape.sourcePort} of client ${question.client}`;
}
