// Queries as applications make them, with the answers that the reference promises.
import { ip } from "../../host/core/address.ts";
import { claimants, dnsFamilies } from "./policy.ts";
import { fail, type Referee } from "./referee.ts";
import type { TransitionOf } from "./transitions.ts";
import { NAMES } from "./universe.ts";

/** How simulated time passes. */
export interface Clock {
  run(durationMs: number): void;
  /** False: it took longer. */
  until(condition: () => boolean, limitMs: number): boolean;
}

export class Lookups {
  readonly #referee: Referee;
  readonly #clock: Clock;

  constructor(referee: Referee, clock: Clock) {
    this.#referee = referee;
    this.#clock = clock;
  }

  /** A new process of the client knows nothing of older queries. */
  forget(client: number): void {
    for (const key of this.#claims.keys()) if (key.startsWith(`${client} `)) this.#claims.delete(key);
  }

  /** Without a query, only claims that were made under the present policy hold. */
  isClaimedAsNow(client: number, name: string): boolean {
    return this.#claims.get(`${client} ${name}`) === this.#claimText(client, name);
  }

  readonly #claims = new Map<string, string>();

  #claimText(client: number, name: string): string {
    const { view } = this.#referee;
    const slots = claimants(view, client, name).map((slot) => [slot, view.slots[slot]]);
    return JSON.stringify(slots);
  }

  query(client: number, name: string, type: "A" | "AAAA"): void {
    const referee = this.#referee;
    const wasInSync = referee.isInSync();
    const asked = referee.dns.ask(client, name, type);
    if (asked === undefined) return;
    this.#clock.run(1);
    if (!wasInSync || !referee.isInSync()) return;
    const claimed = claimants(referee.view, client, name).length > 0;
    this.#claims.set(`${client} ${name}`, this.#claimText(client, name));
    if (!claimed) {
      this.#awaitAnswer(asked);
      return;
    }
    const families = dnsFamilies(referee.view, client, name);
    const count = (type === "A" ? families.v4 : families.v6) ? 4 : 0;
    if (asked.answer?.rcode !== "NOERROR" || asked.answer.data.length !== count) {
      fail(
        `${type} of ${name}: ${asked.answer?.rcode} with ${asked.answer?.data.length}, not ${count} addresses`,
      );
    }
  }

  ask(client: number, name: string, type: string, rcode: string, data?: readonly unknown[]): void {
    const referee = this.#referee;
    const wasInSync = referee.isInSync();
    const asked = referee.dns.ask(client, name, type);
    if (asked === undefined) return;
    this.#clock.run(1);
    if (!wasInSync || !referee.isInSync()) return;
    const { answer } = asked;
    const isSame = answer?.rcode === rcode && (data === undefined || answer.data.join() === data.join());
    if (!isSame)
      fail(`${type} of ${name} is ${answer?.rcode} ${answer?.data.join()}, not ${rcode} ${data?.join()}`);
  }

  /** A query that somebody else answers: one answer comes, or none if the upstream is silent. */
  #awaitAnswer(asked: NonNullable<ReturnType<Referee["dns"]["ask"]>>): void {
    const referee = this.#referee;
    this.#clock.until(() => asked.answers > 0, 11_000);
    const isSilent = asked.isRecursed && referee.dns.upstreamMode === "timeout";
    const { machine } = referee.world.clients[asked.client] ?? {};
    if (
      asked.answers === 0 &&
      !isSilent &&
      machine !== undefined &&
      referee.isInSync() &&
      referee.calmMs() > 15_000
    ) {
      fail(`no answer to ${asked.type} of ${asked.name}`);
    }
  }

  /** Type 65 is HTTPS, which the codec of these tests does not know by name. */
  queryOtherType({ client, name: number, type: typeNumber }: TransitionOf<"query-other-type">): void {
    const type = ["UNKNOWN_65", "MX", "NS", "CNAME", "SOA", "CAA"][typeNumber] ?? "MX";
    const name = NAMES[number] ?? NAMES[0];
    const isClaimed = claimants(this.#referee.view, client, name).length > 0;
    if (type === "UNKNOWN_65" && isClaimed) this.ask(client, name, type, "NOERROR", []);
    else this.askElsewhere(client, name, type);
  }

  askElsewhere(client: number, name: string, type: string): void {
    const asked = this.#referee.dns.ask(client, name, type);
    if (asked !== undefined) this.#awaitAnswer(asked);
  }

  queryReverse({ client, name: number, proxy }: TransitionOf<"query-reverse">): void {
    const name = NAMES[number] ?? NAMES[0];
    const address = this.#referee.dns.proxiesOf(client, name, ip("0.0.0.0"))[proxy];
    if (address === undefined) return;
    const reverse = `${address.split(".").reverse().join(".")}.in-addr.arpa`;
    this.ask(client, reverse, "PTR", "NOERROR", [name]);
  }
}
