// What a gateway's NAT owes to flows: an open flow keeps its target, a new one gets the newest (tunnel-core §14, §17.4).
import { compareIp, type IpAddress, isIpv4 } from "../../host/core/address.ts";
import type { Protocol } from "./policy.ts";

/** tunnel-core §14.3. */
const TTL_MS: Readonly<Record<Protocol, number>> = { tcp: 7_440_000, udp: 120_000, echo: 120_000, other: 0 };
const UNANSWERED_TTL_MS = 60_000;
/** Entries may go this much later than they are due: the table is swept once a second. */
const SWEEP_MS = 2_500;

interface Target {
  readonly ip: IpAddress;
  readonly port: number;
}

interface Flow {
  target: Target;
  sentAt: number;
  activeAt: number;
  answered: boolean;
  /** Something happened that may have ended it. */
  isUncertain: boolean;
}

interface Answer {
  readonly addresses: readonly IpAddress[];
  /** Whether the gateway has certainly installed it. */
  readonly isCertain: boolean;
}

export interface FlowKey {
  /** Gateway and its process: a restart forgets everything. */
  readonly process: string;
  readonly client: number;
  readonly protocol: Protocol;
  readonly port: number;
  readonly proxy: IpAddress;
}

/** Gateways' translations and flows as they ought to be. */
export class NatModel {
  readonly #answers = new Map<string, Answer[]>();
  readonly #flows = new Map<string, Flow>();

  resolved(process: string, name: string, addresses: readonly IpAddress[], isCertain: boolean): void {
    const key = `${process} ${name}`;
    const earlier = isCertain ? [] : (this.#answers.get(key) ?? []);
    this.#answers.set(key, [...earlier, { addresses, isCertain }]);
  }

  /** Real addresses that the proxy IP may stand for now; "none" if the name may have none of its family. */
  realsOf(
    process: string,
    name: string,
    proxies: readonly IpAddress[],
    proxy: IpAddress,
  ): (IpAddress | "none")[] {
    const index = proxies.toSorted(compareIp).indexOf(proxy);
    return (this.#answers.get(`${process} ${name}`) ?? []).map(({ addresses }) => {
      const reals = [...new Set(addresses)].filter((ip) => isIpv4(ip) === isIpv4(proxy)).sort(compareIp);
      return reals[index % reals.length] ?? "none";
    });
  }

  /** A packet of the flow left the gateway for `target`. Returns what is wrong with that. */
  sent(
    key: FlowKey,
    target: Target,
    reals: readonly (IpAddress | "none")[],
    now: number,
  ): string | undefined {
    const id = `${key.process} ${key.client} ${key.protocol} ${key.port} ${key.proxy}`;
    const flow = this.#flows.get(id);
    const age = flow === undefined ? undefined : this.#ageOf(flow, key.protocol, now);
    const isKept = flow?.target.ip === target.ip && flow.target.port === target.port;
    const mayStart = reals.includes(target.ip) && target.port >= key.port && target.port < key.port + 8;
    const problem =
      age === "live" && !isKept
        ? `open flow moved from ${flow?.target.ip} to ${target.ip}`
        : age !== "live" && !mayStart && !(age === "maybe" && isKept)
          ? `new flow goes to ${target.ip}, the name resolves to ${reals.join()}`
          : this.#clash(id, key, target, now);
    const answered = isKept && flow.answered;
    this.#flows.set(id, { target, sentAt: now, activeAt: now, answered, isUncertain: false });
    return problem;
  }

  answered(key: FlowKey, now: number): void {
    const flow = this.#flows.get(`${key.process} ${key.client} ${key.protocol} ${key.port} ${key.proxy}`);
    if (flow === undefined) return;
    flow.answered = true;
    flow.activeAt = now;
  }

  /** The flows of this client may have ended, with everything else that gateways knew of it. */
  doubt(client: number): void {
    for (const [id, flow] of this.#flows) if (id.split(" ")[1] === String(client)) flow.isUncertain = true;
  }

  doubtFlow(key: FlowKey): void {
    const flow = this.#flows.get(`${key.process} ${key.client} ${key.protocol} ${key.port} ${key.proxy}`);
    if (flow !== undefined) flow.isUncertain = true;
  }

  /** Two live flows of one client must not share an outside tuple: replies could not be told apart. */
  #clash(
    id: string,
    { process, client, protocol }: FlowKey,
    target: Target,
    now: number,
  ): string | undefined {
    for (const [other, flow] of this.#flows) {
      if (other === id || !other.startsWith(`${process} ${client} ${protocol} `)) continue;
      if (this.#ageOf(flow, protocol, now) !== "live") continue;
      if (flow.target.ip === target.ip && flow.target.port === target.port)
        return "two flows share one outside tuple";
    }
    return undefined;
  }

  #ageOf(flow: Flow, protocol: Protocol, now: number): "live" | "maybe" | "over" {
    const idle = now - flow.activeAt;
    const limit = flow.answered ? TTL_MS[protocol] : Math.min(TTL_MS[protocol], UNANSWERED_TTL_MS);
    if (idle > limit + SWEEP_MS) return "over";
    return flow.isUncertain || idle >= limit - SWEEP_MS ? "maybe" : "live";
  }
}
